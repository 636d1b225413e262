package iotsql

import (
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

// bigValue rounds d to 34 digits and makes a value of it. It keeps d.
func bigValue(d *apd.Decimal, form form) (value, bool) {
	cond, err := decimals.Round(d, d)
	if err != nil || d.Form != apd.Finite || cond&(apd.Overflow|apd.Underflow|apd.Subnormal|apd.InvalidOperation) != 0 {
		return value{}, false
	}
	if d.IsZero() {
		d.Exponent = min(d.Exponent, 0)
	}
	if d.Exponent != 0 {
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
			if v.c == 0 {
				v.e = min(v.e, 0) // 0E34 is 0, also to what it is added to
			}
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
		if a.c == math.MinInt64 {
			return v, false
		}
		if a.form&b.form&formInt == 0 {
			return smallQuotient(a, b)
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
	// Near the ends of the range the slow way looks at the exponent.
	const near = maxExponent - 2*maxDigits
	return v, ok && v.c != math.MinInt64 && -near <= v.e && v.e <= near
}

// smallQuotient divides Decimals whose quotient has at most six digits more
// than the dividend; that is five times as fast as apd.
func smallQuotient(a, b value) (v value, ok bool) {
	v = value{kind: kindNumber, e: a.e - b.e}
	c := a.c
	if c == 0 {
		v.e = 0
		return v, true
	}
	for range 7 {
		if c%b.c == 0 {
			v.c = c / b.c
			for v.c%10 == 0 {
				v.c /= 10
				v.e++
			}
			return v, v.e >= -maxDigits && v.e <= maxDigits
		}
		if c, ok = mul64(c, 10); !ok {
			break
		}
		v.e--
	}
	return v, false
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
