package iotsql

import (
	"bytes"

	"github.com/cockroachdb/apd/v3"
)

type kind uint8

const (
	kindUndefined kind = iota
	kindNull
	kindBool   // c is 0 or 1
	kindNumber // see number.go
	kindText   // b
	kindArray  // b is JSON
	kindObject // b is JSON
)

// form says how a value is stored.
type form uint8

const (
	// formWire marks a number or text still as a document has it: b is the
	// number's text, or what stands between the text's quotes.
	formWire form = 1 << iota
	// formEscaped marks wire text with backslashes in it.
	formEscaped
	// formInt marks an Int; without it a number is a Decimal. Wire numbers
	// know when they are read.
	formInt
)

// A value is what an expression yields: small enough to be passed in registers.
// b points into the payload, the statement or the frame's arena, and is
// never written to.
type value struct {
	kind kind
	form form
	e    int32 // number: c × 10^e, if d is nil
	c    int64
	d    *apd.Decimal // number outside int64
	b    []byte
}

func boolValue(b bool) value {
	v := value{kind: kindBool}
	if b {
		v.c = 1
	}
	return v
}

func textValue(b []byte) value { return value{kind: kindText, b: b} }

func intValue(i int64) value { return value{kind: kindNumber, form: formInt, c: i} }

// wireValue makes a value of a valid JSON text without space around it.
// Numbers and escapes are read when something needs them.
func wireValue(raw []byte) (v value) {
	v.wire(raw)
	return v
}

// wire is wireValue into v, which is zero.
func (v *value) wire(raw []byte) {
	if len(raw) == 0 {
		return
	}
	switch raw[0] {
	case '"':
		v.kind, v.form, v.b = kindText, formWire, raw[1:len(raw)-1]
		if bytes.IndexByte(v.b, '\\') >= 0 {
			v.form |= formEscaped
		}
	case '{':
		v.kind, v.b = kindObject, raw
	case '[':
		v.kind, v.b = kindArray, raw
	case 't':
		v.kind, v.c = kindBool, 1
	case 'f':
		v.kind = kindBool
	case 'n':
		v.kind = kindNull
	default:
		v.kind, v.form, v.b = kindNumber, formWire, raw
	}
}

// truth converts to Boolean: a Boolean itself, or the texts true and false in any case.
func (f *frame) truth(v value) (is, ok bool) {
	switch v.kind {
	case kindBool:
		return v.c != 0, true
	case kindText:
		if len(v.b) > 5 && v.form&formEscaped == 0 {
			return false, false
		}
		switch s := f.content(v); {
		case equalFoldASCII(s, "true"):
			return true, true
		case equalFoldASCII(s, "false"):
			return false, true
		}
	}
	return false, false
}

func equalFoldASCII(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c|0x20 != lower[i] || c < 'A' {
			return false
		}
	}
	return true
}

// content returns the characters of a text value.
func (f *frame) content(v value) []byte {
	if v.form&formEscaped == 0 {
		return v.b
	}
	if !f.work(len(v.b)/64) || !f.fits(len(v.b)) {
		return nil
	}
	from := len(f.arena)
	f.arena = unescape(f.arena, v.b)
	return f.arena[from:len(f.arena):len(f.arena)]
}

// text converts to String; ok is false for Null and Undefined.
func (f *frame) text(v value) (b []byte, ok bool) {
	switch v.kind {
	case kindUndefined, kindNull:
		return nil, false
	case kindText:
		return f.content(v), true
	}
	if !f.work(len(v.b)/64) || !f.fits(len(v.b)) {
		return nil, false
	}
	from := len(f.arena)
	f.arena = f.appendText(f.arena, v)
	f.checkArena() // 1e33 has 34 digits
	return f.arena[from:len(f.arena):len(f.arena)], true
}

// appendText appends the string form: characters, digits, true or false, or
// compact JSON. Null and Undefined have none and append nothing.
func (f *frame) appendText(dst []byte, v value) []byte {
	switch v.kind {
	case kindBool:
		if v.c != 0 {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case kindNumber:
		return f.appendNumber(dst, v)
	case kindText:
		if v.form&formEscaped != 0 {
			return unescape(dst, v.b)
		}
		return append(dst, v.b...)
	case kindArray, kindObject:
		return f.appendCanonical(dst, v.b)
	}
	return dst
}

// appendCanonical appends a document's string form: JSON without space and
// without escapes that aren't needed, whole Decimals as the version has them.
// So the same document has the same length and hash however it was spelled.
func (f *frame) appendCanonical(dst, doc []byte) []byte {
	for i := 0; i < len(doc); {
		end := i + 1
		switch c := doc[i]; {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
		case c == '"':
			end = skipString(doc, i)
			if s := doc[i+1 : end-1]; bytes.IndexByte(s, '\\') >= 0 {
				dst = appendQuoted(dst, unescape(nil, s))
			} else {
				dst = append(dst, doc[i:end]...)
			}
		case c == '-' || isDigit(c):
			end = skipNumber(doc, i)
			dst = f.appendNumber(dst, value{kind: kindNumber, form: formWire, b: doc[i:end]})
		default:
			dst = append(dst, c)
		}
		i = end
	}
	return dst
}

// appendJSON appends the value as JSON; Undefined appends nothing.
func (f *frame) appendJSON(dst []byte, v value) []byte {
	switch v.kind {
	case kindNull:
		return append(dst, "null"...)
	case kindText:
		if v.form&formWire == 0 {
			return appendQuoted(dst, v.b)
		}
		dst = append(dst, '"')
		dst = append(dst, v.b...)
		return append(dst, '"')
	case kindArray, kindObject:
		return append(dst, v.b...)
	}
	return f.appendText(dst, v)
}

// built makes a value of the JSON appended to the arena since from.
func (f *frame) built(k kind, from int) value {
	f.checkArena()
	return value{kind: k, b: f.arena[from:len(f.arena):len(f.arena)]}
}

// equal is the deep equality of =, for two values that are not Undefined.
func (f *frame) equal(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case kindBool:
		return a.c == b.c
	case kindNumber:
		x, ok1 := f.number(a)
		y, ok2 := f.number(b)
		return ok1 && ok2 && compare(x, y) == 0
	case kindText:
		mark := len(f.arena)
		same := bytes.Equal(f.content(a), f.content(b))
		f.arena = f.arena[:mark]
		return same && f.work((len(a.b)+len(b.b))/64)
	case kindArray:
		return f.equalArrays(a.b, b.b)
	case kindObject:
		return f.equalObjects(a.b, b.b)
	}
	return true // Null = Null, our reading
}

func (f *frame) equalArrays(a, b []byte) bool {
	i, j := elements(a), elements(b)
	for {
		x, ok1 := i.next()
		y, ok2 := j.next()
		if !ok1 || !ok2 {
			return ok1 == ok2
		}
		if !f.work(1) || !f.equal(wireValue(x), wireValue(y)) {
			return false
		}
	}
}

func (f *frame) equalObjects(a, b []byte) bool {
	x, y := f.memberMap(a), f.memberMap(b)
	if len(x) != len(y) {
		return false
	}
	for k, v := range x {
		w, ok := y[k]
		if !ok || !f.work(1) || !f.equal(wireValue(v), wireValue(w)) {
			return false
		}
	}
	return true
}

// memberMap is used where two objects meet, which is rare; the last of
// members with the same name wins.
func (f *frame) memberMap(obj []byte) map[string][]byte {
	m := make(map[string][]byte, 8)
	it := members(obj)
	for it.next() {
		if !f.work(1) {
			break
		}
		mark := len(f.arena)
		m[string(it.name(f))] = it.value
		f.arena = f.arena[:mark]
	}
	return m
}
