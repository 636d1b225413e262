package blueprint

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// JavaScript's \s and line terminators (ECMAScript 2024, 12.2 and 12.3), as they
// stand in a character class.
const (
	space   = `\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`
	lineEnd = `\n\r\x{2028}\x{2029}`
)

// utf8Text is a record's text: each part of it that is no UTF-8 becomes U+FFFD, a
// sequence that is cut off one of them as a whole (WHATWG Encoding, UTF-8 decoder).
func utf8Text(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = cutOff(b)
		}
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return out
}

// cutOff is the length of the longest beginning of b that is the beginning of some
// character, at least 1.
func cutOff(b []byte) int {
	for n := min(3, len(b)); n > 1; n-- {
		// It is one if some continuation of it can be decoded.
		for _, rest := range [...]string{"\x80", "\x80\x80"} {
			if r, size := utf8.DecodeRuneInString(string(b[:n]) + rest); r != utf8.RuneError && size == n+len(rest) {
				return n
			}
		}
	}
	return 1
}

// asciiText is a record's text where it is taken for ASCII: each byte without its
// highest bit, as Node.js' Buffer has it.
func asciiText(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = c & 0x7f
	}
	return out
}

const hexDigits = "0123456789abcdef"

// appendString writes s, which is UTF-8, as JSON.stringify does.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			dst = append(dst, c)
			continue
		}
		if at := strings.IndexByte("\b\t\n\f\r\"\\", c); at >= 0 {
			dst = append(dst, '\\', "btnfr\"\\"[at])
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, '"')
}

// appendNumber writes what JSON.stringify makes of the number that digits are: the
// nearest double, of which those beyond all are null.
func appendNumber(dst []byte, digits string) []byte {
	if f, err := strconv.ParseFloat(digits, 64); err != nil { // it is out of range
		return append(dst, "null"...)
	} else if f < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	} else {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
}
