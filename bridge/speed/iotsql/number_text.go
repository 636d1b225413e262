package iotsql

import (
	"bytes"
	"strconv"

	"github.com/cockroachdb/apd/v3"
)

// parseNumber reads a number. JSON and SQL numbers come checked; of other
// text the whole must be -?digits(.digits)?([eE]-?digits)?, the guide's
// pattern. ok is false for other text and outside the range. Without fraction
// and exponent the value is an Int.
func parseNumber(b []byte, text bool) (v value, ok bool) {
	i, neg := 0, false
	if i < len(b) && b[i] == '-' {
		neg = true
		i++
	}
	var c int64
	digits, e := 0, 0 // digits counts from the first that isn't zero
	first := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		if digits < 18 {
			c = c*10 + int64(b[i]-'0')
		}
		if digits > 0 || b[i] != '0' {
			digits++
		}
	}
	if i == first {
		return value{}, false
	}
	form := formInt
	if i < len(b) && b[i] == '.' {
		form = 0
		i++
		first = i
		for ; i < len(b) && isDigit(b[i]); i++ {
			if digits < 18 {
				c = c*10 + int64(b[i]-'0')
			}
			if digits > 0 || b[i] != '0' {
				digits++
			}
		}
		if e = first - i; e == 0 {
			return value{}, false
		}
	}
	mantissa := b[:i]
	if i < len(b) && b[i]|0x20 == 'e' {
		form = 0
		i++
		sign := 1
		if i < len(b) && (b[i] == '-' || b[i] == '+' && !text) {
			if b[i] == '-' {
				sign = -1
			}
			i++
		}
		first = i
		n := 0
		for ; i < len(b) && isDigit(b[i]); i++ {
			n = min(n*10+int(b[i]-'0'), 1<<24)
		}
		if i == first {
			return value{}, false
		}
		e += sign * n
	}
	if i != len(b) {
		return value{}, false
	}
	if digits <= 18 {
		if neg {
			c = -c
		}
		if c == 0 {
			return value{kind: kindNumber, form: form, e: int32(max(min(e, 0), -maxDigits))}, true
		}
		if a := e + digits - 1; a > maxExponent || a < -maxExponent {
			return value{}, false
		}
		return value{kind: kindNumber, form: form, c: c, e: int32(e)}, true
	}
	return parseLong(mantissa, neg, form, e)
}

// parseLong reads a mantissa of more than 18 digits; e is the exponent of its last digit.
func parseLong(mantissa []byte, neg bool, form form, e int) (value, bool) {
	// Digits that can't matter for rounding to 34 are dropped, so that a
	// mantissa of 100 KB costs no more than one of 40 digits. A 1 after the
	// kept ones stands for whatever was dropped.
	const keep = maxDigits + 6
	var buf [keep + 1]byte
	digits := buf[:0]
	dropped, sticky := 0, false
	for _, c := range mantissa {
		switch {
		case !isDigit(c) || len(digits) == 0 && c == '0':
		case len(digits) < keep:
			digits = append(digits, c)
		default:
			dropped++
			sticky = sticky || c != '0'
		}
	}
	e += dropped
	if sticky {
		digits = append(digits, '1')
		e--
	}
	if a := e + len(digits) - 1; a > maxExponent || a < -maxExponent {
		return value{}, false
	}
	d := new(apd.Decimal)
	if _, ok := d.Coeff.SetString(string(digits), 10); !ok {
		return value{}, false
	}
	d.Negative, d.Exponent = neg, int32(e)
	if len(digits) > maxDigits || e > 0 {
		form &^= formInt // longer than an Int can be
	}
	return bigValue(d, form)
}

// appendNumber appends the digits of a number, read or not. A wire number keeps
// its spelling, except that a whole Decimal becomes an Int where the version
// asks for it.
func (f *frame) appendNumber(dst []byte, v value) []byte {
	if v.form&formWire == 0 {
		return appendDecimal(dst, v)
	}
	if f.prog.modern && maybeWhole(v.b) {
		if n, ok := f.number(v); ok && n.form&formInt != 0 {
			return appendDecimal(dst, n)
		}
	}
	return append(dst, v.b...)
}

// maybeWhole tells the spellings that may be of a whole Decimal: with an
// exponent, or with a fraction that ends in 0.
func maybeWhole(b []byte) bool {
	for _, c := range b {
		if c == '.' {
			return b[len(b)-1] == '0' || bytes.IndexByte(b, 'e') >= 0 || bytes.IndexByte(b, 'E') >= 0
		}
		if c > '9' {
			return true
		}
	}
	return false
}

// parseShort reads what most readings are: up to 18 digits, maybe with a
// point, and no exponent.
func parseShort(b []byte) (c int64, e int32, ok bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 {
		return 0, 0, false
	}
	for i, d := range b {
		if d -= '0'; d <= 9 {
			c = c*10 + int64(d)
		} else if b[i] == '.' {
			e = int32(i + 1 - len(b))
		} else {
			return 0, 0, false
		}
	}
	if neg {
		c = -c
	}
	return c, e, true
}

// appendDecimal appends a read number: plain digits where 34 of them and six
// zeros after the point are enough, else as 1.5E300 or 1.5E-300, which the
// pattern for numeric text reads back.
func appendDecimal(dst []byte, v value) []byte {
	if v.zero() {
		v.e = max(min(v.e, 0), -maxDigits)
	}
	if v.d == nil && v.e == 0 {
		return strconv.AppendInt(dst, v.c, 10)
	}
	var buf [64]byte
	var digits []byte
	e := int(v.e)
	if v.d == nil {
		digits = strconv.AppendUint(buf[:0], magnitude(v.c), 10)
	} else {
		digits = v.d.Coeff.Append(buf[:0], 10)
		e = int(v.d.Exponent)
	}
	if v.negative() {
		dst = append(dst, '-')
	}
	point := len(digits) + e // digits before the point
	switch {
	case e >= 0 && point <= maxDigits:
		dst = append(dst, digits...)
		for range e {
			dst = append(dst, '0')
		}
	case e < 0 && point > 0:
		dst = append(dst, digits[:point]...)
		dst = append(dst, '.')
		dst = append(dst, digits[point:]...)
	case e < 0 && point > -6:
		dst = append(dst, '0', '.')
		for range -point {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	default:
		dst = append(dst, digits[0])
		if len(digits) > 1 {
			dst = append(dst, '.')
			dst = append(dst, digits[1:]...)
		}
		dst = append(dst, 'E')
		dst = strconv.AppendInt(dst, int64(point-1), 10)
	}
	return dst
}
