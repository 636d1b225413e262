package iotsql

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// maxPayloadNesting is how deep arrays and objects of a payload may be nested
// before evaluation fails with errTooDeep. Our choice: the AWS services that
// take the documents allow far less.
const maxPayloadNesting = 128

// anyDepth is for documents that are known to be valid. What a statement
// builds can be nested deeper than a payload.
const anyDepth = 1 << 14

// Results of skipValue and the like that are no position.
const (
	notJSON = -1
	tooDeep = -2
)

func skipSpace(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the position after the JSON value that begins at p[i],
// having checked it against RFC 8259, or notJSON or tooDeep. depth is how
// many more levels it may have. That the bytes are UTF-8 is for the caller to
// check.
func skipValue(p []byte, i, depth int) int {
	if i >= len(p) {
		return notJSON
	}
	switch c := p[i]; c {
	case '"':
		return skipString(p, i)
	case '{':
		return skipObject(p, i, depth)
	case '[':
		return skipArray(p, i, depth)
	case 't':
		return skipWord(p, i, "true")
	case 'f':
		return skipWord(p, i, "false")
	case 'n':
		return skipWord(p, i, "null")
	}
	return skipNumber(p, i)
}

func skipWord(p []byte, i int, word string) int {
	if len(p)-i >= len(word) && string(p[i:i+len(word)]) == word {
		return i + len(word)
	}
	return notJSON
}

// plain marks the bytes a string can hold as they are.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

// plainRun returns the position of the first byte from p[i] on that isn't
// plain. It looks at eight bytes at a time, which halves the time of a whole
// scan.
func plainRun(p []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(p) {
		x := binary.LittleEndian.Uint64(p[i:])
		quote := x ^ '"'*ones
		slash := x ^ '\\'*ones
		// A byte's high bit is set where it is below ' ', or zero in quote
		// or slash. Borrows only spoil bytes above the first such. The high
		// bits of quote and slash are x's.
		m := ((x - ' '*ones) | (quote - ones) | (slash - ones)) &^ x & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
		i += 8
	}
	for i < len(p) && plain[p[i]] {
		i++
	}
	return i
}

// skipString skips the string whose quote is at p[i].
func skipString(p []byte, i int) int {
	for {
		i = plainRun(p, i+1)
		if i >= len(p) {
			return notJSON
		}
		if p[i] == '"' {
			return i + 1
		}
		if p[i] != '\\' || i+1 >= len(p) {
			return notJSON
		}
		i++
		switch p[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if hex4(p, i+1) < 0 {
				return notJSON
			}
			i += 4
		default:
			return notJSON
		}
	}
}

// hex4 reads four hexadecimal digits at p[i], -1 if they aren't there.
func hex4(p []byte, i int) rune {
	if i+4 > len(p) {
		return -1
	}
	var r rune
	for _, c := range p[i : i+4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// skipDigits returns the position of the first byte from p[i] on that isn't a
// digit. Like plainRun it looks at eight bytes at a time.
func skipDigits(p []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(p) {
		x := binary.LittleEndian.Uint64(p[i:]) ^ '0'*ones // 0 to 9 where there is a digit
		// A byte's high bit is set where it is more than 9.
		m := (x&^highs + (0x80-10)*ones | x) & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
		i += 8
	}
	for i < len(p) && isDigit(p[i]) {
		i++
	}
	return i
}

func skipNumber(p []byte, i int) int {
	if i < len(p) && p[i] == '-' {
		i++
	}
	from := i
	if i = skipDigits(p, i); i == from || i > from+1 && p[from] == '0' {
		return notJSON
	}
	if i < len(p) && p[i] == '.' {
		from = i + 1
		if i = skipDigits(p, from); i == from {
			return notJSON
		}
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		i++
		if i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		from = i
		if i = skipDigits(p, from); i == from {
			return notJSON
		}
	}
	return i
}

func skipArray(p []byte, i, depth int) int {
	if depth <= 0 {
		return tooDeep
	}
	if i = skipSpace(p, i+1); i < len(p) && p[i] == ']' {
		return i + 1
	}
	for {
		if i = skipValue(p, i, depth-1); i < 0 {
			return i
		}
		i = skipSpace(p, i)
		switch {
		case i >= len(p):
			return notJSON
		case p[i] == ']':
			return i + 1
		case p[i] != ',':
			return notJSON
		}
		i = skipSpace(p, i+1)
	}
}

func skipObject(p []byte, i, depth int) int {
	if depth <= 0 {
		return tooDeep
	}
	if i = skipSpace(p, i+1); i < len(p) && p[i] == '}' {
		return i + 1
	}
	for {
		_, i = skipName(p, i)
		if i < 0 {
			return i
		}
		if i = skipValue(p, i, depth-1); i < 0 {
			return i
		}
		var more bool
		if i, more = nextMember(p, i); !more {
			return i
		}
	}
}

// skipName reads a member's name at p[i] and the colon. It returns where the
// name ends, closing quote included, and where the value begins.
func skipName(p []byte, i int) (end, val int) {
	if i >= len(p) || p[i] != '"' {
		return notJSON, notJSON
	}
	end = skipString(p, i)
	if end < 0 {
		return end, end
	}
	i = skipSpace(p, end)
	if i >= len(p) || p[i] != ':' {
		return notJSON, notJSON
	}
	if i++; i < len(p) && p[i] > ' ' {
		return end, i
	}
	return end, skipSpace(p, i)
}

// nextMember goes from the end of one member to the begin of the next. more
// is false at the object's end, whose position is then returned, and on an error.
func nextMember(p []byte, i int) (at int, more bool) {
	i = skipSpace(p, i)
	switch {
	case i >= len(p):
		return notJSON, false
	case p[i] == ',':
		if i++; i < len(p) && p[i] > ' ' {
			return i, true
		}
		return skipSpace(p, i), true
	case p[i] == '}':
		return i + 1, false
	}
	return notJSON, false
}

// A memberIter walks the members of an object known to be valid.
type memberIter struct {
	p          []byte
	i          int
	done       bool
	start, end int    // the member in p, from its name's quote on
	key        []byte // between the quotes, maybe with escapes
	value      []byte
}

func members(obj []byte) memberIter {
	i := skipSpace(obj, 1)
	return memberIter{p: obj, i: i, done: i >= len(obj) || obj[i] == '}'}
}

func (it *memberIter) next() bool {
	if it.done {
		return false
	}
	nameEnd, val := skipName(it.p, it.i)
	if nameEnd < 0 {
		it.done = true
		return false
	}
	end := skipValue(it.p, val, anyDepth)
	if end < 0 {
		it.done = true
		return false
	}
	it.start, it.end = it.i, end
	it.key, it.value = it.p[it.i+1:nameEnd-1], it.p[val:end]
	at, more := nextMember(it.p, end)
	it.i, it.done = at, !more
	return true
}

// is reports whether the member's name is name.
func (it *memberIter) is(name string) bool { return keyIs(it.key, name) }

// keyIs compares what stands between a name's quotes with a name.
func keyIs(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	return len(key) > len(name) && bytes.IndexByte(key, '\\') >= 0 &&
		string(unescape(nil, key)) == name
}

// name returns the member's name without escapes.
func (it *memberIter) name(f *frame) []byte {
	if bytes.IndexByte(it.key, '\\') < 0 {
		return it.key
	}
	return f.content(value{kind: kindText, form: formWire | formEscaped, b: it.key})
}

// member returns the value of a member; of several with the name the last.
func (f *frame) member(obj []byte, name string) value {
	if !f.work(len(obj) / 24) {
		return value{}
	}
	var found []byte
	for it := members(obj); it.next(); {
		if it.is(name) {
			found = it.value
		}
	}
	return wireValue(found)
}

// An elementIter walks the elements of an array known to be valid.
type elementIter struct {
	p []byte
	i int
}

func elements(arr []byte) elementIter { return elementIter{arr, skipSpace(arr, 1)} }

func (it *elementIter) next() (raw []byte, ok bool) {
	if it.i >= len(it.p) || it.p[it.i] == ']' {
		return nil, false
	}
	end := skipValue(it.p, it.i, anyDepth)
	if end < 0 {
		return nil, false
	}
	raw = it.p[it.i:end]
	it.i = skipSpace(it.p, end)
	if it.i < len(it.p) && it.p[it.i] == ',' {
		it.i = skipSpace(it.p, it.i+1)
	}
	return raw, true
}

// unescape appends the characters that a valid JSON string, without its
// quotes, stands for. Half of a surrogate pair becomes U+FFFD.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		if i >= len(s) {
			break
		}
		switch s[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(s, i+1)
			i += 4
			if utf16.IsSurrogate(r) {
				r2 := rune(utf8.RuneError)
				if i+2 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
					r2 = utf16.DecodeRune(r, hex4(s, i+3))
				}
				if r = r2; r2 != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, s[i])
		}
	}
	return dst
}

// appendQuoted appends UTF-8 text as a JSON string, in the shortest way.
func appendQuoted(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for {
		n := plainRun(s, 0)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		switch c := s[n]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[n+1:]
	}
}

// appendCompact appends valid JSON without the space between its tokens.
func appendCompact(dst, p []byte) []byte {
	inside := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case inside && c == '\\':
			dst = append(dst, c, p[i+1])
			i++
			continue
		case c == '"':
			inside = !inside
		case !inside && (c == ' ' || c == '\n' || c == '\t' || c == '\r'):
			continue
		}
		dst = append(dst, c)
	}
	return dst
}
