package shape

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A jsonSource reads JSON (RFC 8259) and unescapes texts in place: they only get
// shorter.
type jsonSource struct {
	in []byte
	at int
}

// space steps over white space and returns the byte after it, 0 at the end.
func (s *jsonSource) space() byte {
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (s *jsonSource) left() int { return len(s.in) - s.at }

func (s *jsonSource) end() error {
	if s.space(); s.at < len(s.in) {
		return ErrSyntax
	}
	return nil
}

func (s *jsonSource) more(t token, i int) (bool, error) {
	end := byte(']')
	if t.kind == isMap {
		end = '}'
	}
	switch c := s.space(); {
	case c == end:
		s.at++
		return false, nil
	case i == 0 && c != 0:
		return true, nil
	case c == ',':
		s.at++
		return true, nil
	}
	return false, ErrSyntax
}

func (s *jsonSource) name() ([]byte, error) {
	if s.space() != '"' {
		return nil, ErrSyntax
	}
	name, err := s.text()
	if err != nil || s.space() != ':' {
		return nil, ErrSyntax
	}
	s.at++
	return name, nil
}

func (s *jsonSource) next() (token, error) {
	switch c := s.space(); c {
	case '{':
		s.at++
		return token{kind: isMap}, nil
	case '[':
		s.at++
		return token{kind: isList}, nil
	case '"':
		text, err := s.text()
		return token{kind: isText, text: text}, err
	case 'n':
		return token{kind: isNull}, s.word("null")
	case 't':
		return token{kind: isBool, yes: true}, s.word("true")
	case 'f':
		return token{kind: isBool}, s.word("false")
	}
	return s.number()
}

func (s *jsonSource) word(w string) error {
	if !bytes.HasPrefix(s.in[s.at:], []byte(w)) {
		return ErrSyntax
	}
	s.at += len(w)
	return nil
}

// number reads -?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?
func (s *jsonSource) number() (token, error) {
	from := s.at
	s.take("-")
	zero := s.take("0")
	if !zero && s.digits() == 0 {
		return token{}, ErrSyntax
	}
	whole := true
	if s.take(".") {
		whole = false
		if s.digits() == 0 {
			return token{}, ErrSyntax
		}
	}
	if s.take("eE") {
		whole = false
		s.take("+-")
		if s.digits() == 0 {
			return token{}, ErrSyntax
		}
	}
	raw := string(s.in[from:s.at])
	if whole {
		if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
			return token{kind: isNumber, whole: true, n: n}, nil
		}
	}
	f, _ := strconv.ParseFloat(raw, 64) // ±Inf where it is too large
	return token{kind: isNumber, f: f}, nil
}

// take steps over one of the bytes of any, if it is next.
func (s *jsonSource) take(any string) bool {
	if s.at < len(s.in) && bytes.IndexByte([]byte(any), s.in[s.at]) >= 0 {
		s.at++
		return true
	}
	return false
}

func (s *jsonSource) digits() (n int) {
	for ; s.at < len(s.in) && '0' <= s.in[s.at] && s.in[s.at] <= '9'; s.at++ {
		n++
	}
	return n
}

// text reads a string from its quote on.
func (s *jsonSource) text() ([]byte, error) {
	s.at++
	rest := s.in[s.at:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, ErrSyntax
	}
	if raw := rest[:end]; bytes.IndexByte(raw, '\\') < 0 {
		s.at += end + 1
		return raw, plain(raw)
	}
	out := rest[:0]
	for i := 0; i < len(rest); {
		c := rest[i]
		switch {
		case c == '"':
			s.at += i + 1
			return out, nil
		case c == '\\':
			r, n := unescape(rest[i:])
			if n == 0 {
				return nil, ErrSyntax
			}
			out = utf8.AppendRune(out, r)
			i += n
		case c < ' ':
			return nil, ErrSyntax
		case c < utf8.RuneSelf:
			out = append(out, c)
			i++
		default:
			r, n := utf8.DecodeRune(rest[i:])
			if r == utf8.RuneError && n == 1 {
				return nil, ErrSyntax
			}
			out = append(out, rest[i:i+n]...)
			i += n
		}
	}
	return nil, ErrSyntax
}

// plain returns an error if text has what must be escaped, or is no UTF-8.
func plain(text []byte) error {
	high := byte(0)
	for _, c := range text {
		if c < ' ' {
			return ErrSyntax
		}
		high |= c
	}
	if high >= utf8.RuneSelf && !utf8.Valid(text) {
		return ErrSyntax
	}
	return nil
}

// unescape reads an escape at the begin of b and how many bytes it has, 0 for
// none. Half of a surrogate pair becomes U+FFFD.
func unescape(b []byte) (rune, int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(b[2:])
		if r < 0 {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(b[8:])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return utf8.RuneError, 6
	}
	return 0, 0
}

func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil || n > math.MaxUint16 {
		return -1
	}
	return rune(n)
}
