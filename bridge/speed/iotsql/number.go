package iotsql

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"

	"github.com/cockroachdb/apd/v3"
)

// Numbers are decimal: c × 10^e with an int64, or an *apd.Decimal when that
// isn't enough. Both are exact up to 34 significant digits and 1E-999 to
// 9.99...E999 (rule SQL reference, data types); a result beyond the digits is
// rounded half to even, one beyond the range is Undefined.
const (
	maxDigits   = 34
	maxExponent = 999
)

var decimals = apd.Context{
	Precision:   maxDigits,
	MaxExponent: maxExponent,
	MinExponent: -maxExponent,
	Rounding:    apd.RoundHalfEven,
}

// pow10 holds the powers of ten that fit an int64.
var pow10 = func() (t [19]int64) {
	t[0] = 1
	for i := 1; i < len(t); i++ {
		t[i] = 10 * t[i-1]
	}
	return t
}()

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

// bigValue rounds d to 34 digits and makes a value of it. It keeps d.
func bigValue(d *apd.Decimal, form form) (value, bool) {
	cond, err := decimals.Round(d, d)
	if err != nil || d.Form != apd.Finite || cond&(apd.Overflow|apd.Underflow|apd.Subnormal|apd.InvalidOperation) != 0 {
		return value{}, false
	}
	if d.Exponent > 0 || d.Exponent < 0 {
		form &^= formInt
	}
	if d.Coeff.IsInt64() {
		c := d.Coeff.Int64()
		if d.Negative {
			c = -c
		}
		return value{kind: kindNumber, form: form, c: c, e: d.Exponent}, true
	}
	return value{kind: kindNumber, form: form, d: d}, true
}

// number reads a wire number; 2016-03-23 takes whole Decimals for Ints.
func (f *frame) number(v value) (value, bool) {
	if v.form&formWire == 0 {
		return v, true
	}
	n, ok := parseNumber(v.b, false)
	if !ok {
		return value{}, false
	}
	return f.prog.settle(n), true
}

// numeric converts to a number: a number itself, or a numeric String, which
// counts as a Decimal. Everything else gives false.
func (f *frame) numeric(v value) (value, bool) {
	switch v.kind {
	case kindNumber:
		return f.number(v)
	case kindText:
		if n := len(v.b); n == 0 || n > 4096 {
			return value{}, false
		}
		n, ok := parseNumber(f.content(v), true)
		n.form &^= formInt
		return n, ok
	}
	return value{}, false
}

// settle turns a whole Decimal into an Int where the version asks for it.
func (p *program) settle(v value) value {
	if v.form&formInt != 0 || v.kind != kindNumber || !p.modern {
		return v
	}
	if v.d == nil {
		switch {
		case v.e == 0:
			v.form |= formInt
		case v.c == 0:
			return intValue(0)
		case v.e < 0 && v.e >= -18:
			if q := v.c / pow10[-v.e]; q*pow10[-v.e] == v.c {
				return intValue(q)
			}
		case v.e > 0 && v.e <= 18:
			if hi, lo := bits.Mul64(magnitude(v.c), uint64(pow10[v.e])); hi == 0 && lo <= math.MaxInt64 {
				return intValue(v.c * pow10[v.e])
			}
			return settleBig(v)
		case v.e > 0:
			return settleBig(v)
		}
		return v
	}
	return settleBig(v)
}

func settleBig(v value) value {
	d := new(apd.Decimal)
	d.Reduce(v.decimal(new(apd.Decimal)))
	if d.Exponent < 0 || d.NumDigits()+int64(d.Exponent) > maxDigits {
		return v
	}
	if d.Exponent > 0 {
		if _, err := decimals.Quantize(d, d, 0); err != nil || d.Form != apd.Finite {
			return v
		}
	}
	n, ok := bigValue(d, formInt)
	if !ok {
		return v
	}
	n.form |= formInt
	return n
}

func magnitude(c int64) uint64 {
	if c < 0 {
		return -uint64(c)
	}
	return uint64(c)
}

// decimal returns the number as an apd.Decimal, in scratch if it isn't one.
func (v value) decimal(scratch *apd.Decimal) *apd.Decimal {
	if v.d != nil {
		return v.d
	}
	return scratch.SetFinite(v.c, v.e)
}

func (v value) negative() bool {
	if v.d != nil {
		return v.d.Negative
	}
	return v.c < 0
}

func (v value) zero() bool { return v.d == nil && v.c == 0 }

// compare orders two read numbers.
func compare(a, b value) int {
	if a.d == nil && b.d == nil {
		if a.e == b.e {
			return cmp(a.c, b.c)
		}
		if x, y, _, ok := align(a, b); ok {
			return cmp(x, y)
		}
	}
	var x, y apd.Decimal
	return a.decimal(&x).Cmp(b.decimal(&y))
}

func cmp(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// align brings two small numbers to the lower of their exponents, if int64 allows.
func align(a, b value) (x, y int64, e int32, ok bool) {
	x, y, e = a.c, b.c, min(a.e, b.e)
	if a.e > e {
		x, ok = scale(x, a.e-e)
	} else {
		y, ok = scale(y, b.e-e)
	}
	return x, y, e, ok
}

func scale(c int64, e int32) (int64, bool) {
	if e > 18 {
		return 0, c == 0
	}
	return mul64(c, pow10[e])
}

func mul64(a, b int64) (int64, bool) {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	return a * b, true
}

// arithmetic computes a op b of two read numbers. Int and Int gives an Int,
// anything else a Decimal. Int / Int is cut towards zero and % has the sign
// of the dividend (our readings); a zero divisor gives Undefined.
func (p *program) arithmetic(op byte, a, b value) value {
	form := a.form & b.form & formInt
	if (op == '/' || op == '%') && b.zero() {
		return value{}
	}
	if a.d == nil && b.d == nil {
		if v, ok := small(op, a, b); ok {
			v.form = form
			return p.settle(v)
		}
	}
	var sa, sb apd.Decimal
	x, y := a.decimal(&sa), b.decimal(&sb)
	d := new(apd.Decimal)
	var cond apd.Condition
	var err error
	switch op {
	case '+':
		cond, err = decimals.Add(d, x, y)
	case '-':
		cond, err = decimals.Sub(d, x, y)
	case '*':
		cond, err = decimals.Mul(d, x, y)
	case '/':
		if form == formInt {
			cond, err = decimals.QuoInteger(d, x, y)
		} else {
			cond, err = decimals.Quo(d, x, y)
			d.Reduce(d)
		}
	case '%':
		cond, err = remainder(d, x, y)
	}
	const bad = apd.Overflow | apd.Underflow | apd.Subnormal | apd.DivisionByZero |
		apd.DivisionUndefined | apd.DivisionImpossible | apd.InvalidOperation
	if err != nil || cond&bad != 0 {
		return value{}
	}
	v, ok := bigValue(d, form)
	if !ok {
		return value{}
	}
	return p.settle(v)
}

// remainder is exact where apd's own gives up because the quotient has more
// than 34 digits.
func remainder(d, x, y *apd.Decimal) (apd.Condition, error) {
	wide := decimals
	wide.Precision = 2*maxExponent + 2*maxDigits
	return wide.Rem(d, x, y)
}

// small computes in int64; ok is false when the result might not fit.
func small(op byte, a, b value) (v value, ok bool) {
	v = value{kind: kindNumber, e: a.e}
	switch op {
	case '*':
		v.c, ok = mul64(a.c, b.c)
		v.e = a.e + b.e
		return v, ok && v.e >= -maxDigits && v.e <= maxDigits
	case '/':
		if a.form&b.form&formInt == 0 || a.c == math.MinInt64 {
			return v, false
		}
		v.c = a.c / b.c
		return v, true
	}
	x, y := a.c, b.c
	if a.e != b.e {
		if x, y, v.e, ok = align(a, b); !ok {
			return v, false
		}
	}
	switch op {
	case '+':
		v.c = x + y
		ok = (x^v.c)&(y^v.c) >= 0
	case '-':
		v.c = x - y
		ok = (x^y)&(x^v.c) >= 0
	case '%':
		ok = x != math.MinInt64
		if ok {
			v.c = x % y
		}
	}
	return v, ok && v.c != math.MinInt64
}

func negate(v value) value {
	if v.d != nil {
		v.d = new(apd.Decimal).Neg(v.d)
		return v
	}
	v.c = -v.c // never the smallest int64, see parseNumber and small
	return v
}

// float returns the nearest float64.
func (v value) float() float64 {
	if v.d == nil && v.c > -(1<<53) && v.c < 1<<53 && v.e >= -22 && v.e <= 22 {
		if v.e < 0 {
			return float64(v.c) / math.Pow10(int(-v.e))
		}
		return float64(v.c) * math.Pow10(int(v.e))
	}
	x, _ := strconv.ParseFloat(string(appendDecimal(nil, v)), 64) // ±Inf beyond the range of a double
	return x
}

// fromFloat makes the Decimal with the shortest digits that read back as x;
// NaN and infinities are Undefined.
func (p *program) fromFloat(x float64) value {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return value{}
	}
	var buf [32]byte
	v, ok := parseNumber(strconv.AppendFloat(buf[:0], x, 'e', -1, 64), false)
	if !ok {
		return value{}
	}
	return p.settle(v)
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
	if v.d == nil && (v.e == 0 || v.c == 0 && v.e > 0) {
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
