package iotsql

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"unicode/utf8"
)

// maxPad is how many spaces lpad and rpad add at most (their table in the guide).
const maxPad = 1000

// texts converts the arguments to String; ok is false if one has no string form.
func (f *frame) texts(args []value) (t [3][]byte, ok bool) {
	for i, a := range args {
		if t[i], ok = f.text(a); !ok || !f.work(len(t[i])/64) {
			return t, false
		}
	}
	return t, true
}

// chr makes an ASCII character.
func chr(f *frame, args []value) value {
	n, ok := f.index(args[0], floor)
	if !ok || n < 0 || n > 127 {
		return value{}
	}
	from := len(f.arena)
	f.arena = append(f.arena, byte(n))
	return f.built(kindText, from)
}

// concat flattens into an Array if an argument is one, else joins the string
// forms if one is a String. One argument comes back unchanged. Without an
// Array or a String, and with a Null or Undefined among Strings, the result
// is Undefined, our reading.
func concat(f *frame, args []value) value {
	if len(args) == 1 {
		return args[0]
	}
	text := false
	for _, a := range args {
		switch a.kind {
		case kindArray:
			return concatArrays(f, args)
		case kindText:
			text = true
		}
	}
	if !text {
		return value{}
	}
	return f.join(args...)
}

func concatArrays(f *frame, args []value) value {
	n := 0
	for _, a := range args {
		n += f.size(a)
	}
	if !f.fits(n) {
		return value{}
	}
	from := len(f.arena)
	f.arena = append(f.arena, '[')
	for _, a := range args {
		mark := len(f.arena)
		if mark > from+1 {
			f.arena = append(f.arena, ',')
		}
		before := len(f.arena)
		if a.kind == kindArray {
			f.arena = append(f.arena, bytes.TrimSpace(a.b[1:len(a.b)-1])...)
		} else {
			f.arena = f.appendJSON(f.arena, a)
		}
		if len(f.arena) == before {
			f.arena = f.arena[:mark] // an empty array or Undefined
		}
	}
	f.arena = append(f.arena, ']')
	return f.built(kindArray, from)
}

func startsWith(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok {
		return value{}
	}
	return boolValue(bytes.HasPrefix(t[0], t[1]))
}

func endsWith(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok {
		return value{}
	}
	return boolValue(bytes.HasSuffix(t[0], t[1]))
}

// indexOf counts characters from 0; -1 if there is none, our reading.
func indexOf(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok {
		return value{}
	}
	i := bytes.Index(t[0], t[1])
	if i < 0 {
		return intValue(-1)
	}
	return intValue(int64(utf8.RuneCount(t[0][:i])))
}

// length counts characters (code points, our reading).
func length(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok {
		return value{}
	}
	return intValue(int64(utf8.RuneCount(t[0])))
}

func numBytes(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok {
		return value{}
	}
	return intValue(int64(len(t[0])))
}

func lower(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok || !f.copies(len(t[0])) {
		return value{}
	}
	return textValue(bytes.ToLower(t[0]))
}

func upper(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok || !f.copies(len(t[0])) {
		return value{}
	}
	return textValue(bytes.ToUpper(t[0]))
}

func leftPad(f *frame, args []value) value  { return pad(f, args, true) }
func rightPad(f *frame, args []value) value { return pad(f, args, false) }

// pad adds args[1] spaces; they are a number to add, not a width to reach.
func pad(f *frame, args []value, left bool) value {
	s, ok1 := f.text(args[0])
	n, ok2 := f.index(args[1], floor)
	if !ok1 || !ok2 {
		return value{}
	}
	n = min(max(n, 0), maxPad)
	if !f.fits(len(s) + n) {
		return value{}
	}
	from := len(f.arena)
	if !left {
		f.arena = append(f.arena, s...)
	}
	for range n {
		f.arena = append(f.arena, ' ')
	}
	if left {
		f.arena = append(f.arena, s...)
	}
	return f.built(kindText, from)
}

const blanks = " \t"

// trimFunc is ltrim, rtrim or trim, by cut.
func trimFunc(cut func(text []byte, chars string) []byte) func(f *frame, args []value) value {
	return func(f *frame, args []value) value {
		t, ok := f.texts(args)
		if !ok {
			return value{}
		}
		return textValue(cut(t[0], blanks))
	}
}

func replace(f *frame, args []value) value {
	t, ok := f.texts(args)
	if !ok {
		return value{}
	}
	if !f.copies(len(t[0]) + bytes.Count(t[0], t[1])*max(0, len(t[2])-len(t[1]))) {
		return value{}
	}
	return textValue(bytes.ReplaceAll(t[0], t[1], t[2]))
}

// substring takes characters from args[1] up to before args[2], both cut to
// whole numbers and clamped.
func substring(f *frame, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	toZero := func(_ *frame, n value) value {
		if n.negative() {
			return intValue(0)
		}
		return floor(nil, n)
	}
	from, ok := f.index(args[1], toZero)
	if !ok {
		return value{}
	}
	to := len(s)
	if len(args) == 3 {
		if to, ok = f.index(args[2], toZero); !ok {
			return value{}
		}
	}
	i := runeOffset(s, from)
	return textValue(s[i : i+runeOffset(s[i:], max(0, to-from))])
}

// runeOffset returns where the n-th character of s begins, len(s) past the end.
func runeOffset(s []byte, n int) int {
	if n >= len(s) {
		return len(s)
	}
	i := 0
	for ; n > 0 && i < len(s); n-- {
		_, size := utf8.DecodeRune(s[i:])
		i += size
	}
	return i
}

// hashFunc makes a function that writes a hash in lower-case hex; price is the
// work for 64 bytes.
func hashFunc(sum func(dst, s []byte) []byte, price int) func(*frame, []value) value {
	return func(f *frame, args []value) value {
		t, ok := f.texts(args)
		if !ok || !f.work(len(t[0])/64*price) {
			return value{}
		}
		var buf [sha512.Size]byte
		from := len(f.arena)
		f.arena = hex.AppendEncode(f.arena, sum(buf[:0], t[0]))
		return f.built(kindText, from)
	}
}

func md5Sum(dst, s []byte) []byte    { h := md5.Sum(s); return append(dst, h[:]...) }
func sha1Sum(dst, s []byte) []byte   { h := sha1.Sum(s); return append(dst, h[:]...) }
func sha224Sum(dst, s []byte) []byte { h := sha256.Sum224(s); return append(dst, h[:]...) }
func sha256Sum(dst, s []byte) []byte { h := sha256.Sum256(s); return append(dst, h[:]...) }
func sha384Sum(dst, s []byte) []byte { h := sha512.Sum384(s); return append(dst, h[:]...) }
func sha512Sum(dst, s []byte) []byte { h := sha512.Sum512(s); return append(dst, h[:]...) }
