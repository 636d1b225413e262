package telemetry

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends reading i as one JSON object, the time stamp first and
// then the columns in their order:
//
//	{"ts":1700000000000,"temp":21.5,"door":"open"}
//
// Numbers are the shortest that parse to the same float64 (as encoding/json
// writes them); non-finite ones become null, absent values are left out, bytes
// of a text that are no UTF-8 become U+FFFD. What d says of the time stamp comes
// last. It panics if i is no reading of s.
func (s *Series) AppendJSON(dst []byte, i int, d Doubt) []byte {
	dst = strconv.AppendInt(append(dst, `{"ts":`...), s.Times[i], 10)
	for j := range s.Columns {
		c := &s.Columns[j]
		if c.Present != nil && !c.Present[i] {
			continue
		}
		dst = append(dst, ',', '"')
		dst = append(dst, c.Name...)
		dst = append(dst, '"', ':')
		switch c.Kind {
		case Float:
			dst = appendNumber(dst, c.Floats[i])
		case Int:
			dst = strconv.AppendInt(dst, c.Ints[i], 10)
		case Bool:
			dst = strconv.AppendBool(dst, c.Bools[i])
		case Text:
			dst = appendQuoted(dst, c.Texts[i])
		}
	}
	if d != (Doubt{}) {
		dst = d.append(dst, s, s.Times[i])
	}
	return append(dst, '}')
}

// appendNumber writes f as ECMAScript does, which encoding/json follows:
// exponents only below 1e-6 and from 1e21 on, without a leading zero.
func appendNumber(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	a := math.Abs(f)
	if a == 0 || a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes s as a JSON string. U+2028 and U+2029 are escaped too,
// since JavaScript before 2019 takes them for line ends.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[from:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[from:i]...)
			if n == 1 {
				dst = append(dst, `\ufffd`...)
			} else {
				dst = append(dst, `\u202`...)
				dst = append(dst, hexDigits[r&15])
			}
			from = i + n
		}
		i += n
	}
	return append(append(dst, s[from:]...), '"')
}
