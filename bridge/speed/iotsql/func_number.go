package iotsql

import (
	"encoding/binary"
	"math"

	"github.com/cockroachdb/apd/v3"
)

// numberFunc makes a function of one number.
func numberFunc(fn func(f *frame, n value) value) func(*frame, []value) value {
	return func(f *frame, args []value) value {
		n, ok := f.numeric(args[0])
		if !ok {
			return value{}
		}
		return fn(f, n)
	}
}

func absolute(f *frame, n value) value {
	if n.negative() {
		n = negate(n)
	}
	return f.prog.settle(n)
}

func sign(_ *frame, n value) value {
	switch {
	case n.zero():
		return intValue(0)
	case n.negative():
		return intValue(-1)
	}
	return intValue(1)
}

func floor(_ *frame, n value) value { return integral(n, apd.RoundFloor) }

func ceiling(_ *frame, n value) value { return integral(n, apd.RoundCeiling) }

// round takes halves away from zero: the guide's example makes -2 of -1.5.
func round(_ *frame, n value) value { return integral(n, apd.RoundHalfUp) }

// integral rounds to an Int.
func integral(n value, how apd.Rounder) value {
	if n.form&formInt != 0 {
		return n
	}
	if n.d == nil && n.e == 0 {
		return intValue(n.c)
	}
	v, ok := quantize(n, 0, how)
	if !ok {
		return value{}
	}
	v.form |= formInt
	return v
}

// quantize rounds to so many places; ok is false if the result needs more than 34 digits.
func quantize(n value, places int32, how apd.Rounder) (value, bool) {
	wide := decimals
	wide.Precision, wide.Rounding = 2*maxExponent, how
	var scratch apd.Decimal
	x := n.decimal(&scratch)
	if x.NumDigits()+int64(x.Exponent) < -int64(places) && !x.IsZero() {
		// Less than a tenth of the last place, of which apd makes 0 however it
		// should round. A tenth is as good.
		x = &apd.Decimal{Negative: x.Negative, Exponent: -places - 1}
		x.Coeff.SetInt64(1)
	}
	d := new(apd.Decimal)
	if _, err := wide.Quantize(d, x, -places); err != nil || d.Form != apd.Finite {
		return value{}, false
	}
	if d.NumDigits() > maxDigits && places == 0 {
		return value{}, false // no Int is that long
	}
	return bigValue(d, 0)
}

// truncate cuts to args[1] places, which is floored and clamped to 0..34;
// trailing zeros are dropped.
func truncate(f *frame, args []value) value {
	n, ok1 := f.numeric(args[0])
	places, ok2 := f.index(args[1], floor)
	if !ok1 || !ok2 {
		return value{}
	}
	places = min(max(places, 0), maxDigits)
	if n.d == nil && int(n.e) >= -places || n.d != nil && int(n.d.Exponent) >= -places {
		return f.prog.settle(n.reduced()) // nothing to cut
	}
	v, ok := quantize(n, int32(places), apd.RoundDown)
	if !ok {
		return value{}
	}
	return f.prog.settle(v.reduced())
}

// reduced drops trailing zeros after the point.
func (v value) reduced() value {
	for v.d == nil && v.e < 0 && v.c%10 == 0 {
		v.c /= 10
		v.e++
	}
	if v.d != nil && v.d.Exponent < 0 {
		d := new(apd.Decimal)
		if d.Reduce(v.d); d.Exponent <= 0 {
			if n, ok := bigValue(d, v.form); ok {
				return n
			}
		}
	}
	return v
}

// index converts to an int, clamped to the int32 range, rounding with how.
func (f *frame) index(v value, how func(*frame, value) value) (int, bool) {
	n, ok := f.numeric(v)
	if !ok {
		return 0, false
	}
	negative := n.negative()
	n = how(f, n)
	if n.kind == kindUndefined || n.d != nil || n.e != 0 {
		if negative {
			return math.MinInt32, true
		}
		return math.MaxInt32, true
	}
	return int(min(max(n.c, math.MinInt32), math.MaxInt32)), true
}

func modulo(f *frame, args []value) value {
	a, ok1 := f.numeric(args[0])
	b, ok2 := f.numeric(args[1])
	if !ok1 || !ok2 {
		return value{}
	}
	return f.prog.arithmetic('%', a, b)
}

// An operation on bits, in 64 of them and in as many as it takes. Negative
// Ints are in two's complement, with ones without end to the left.
type bitOperation struct {
	small func(a, b int64) int64
	big   func(z, a, b *apd.BigInt) *apd.BigInt
}

var (
	bitAnd = bitOperation{func(a, b int64) int64 { return a & b }, (*apd.BigInt).And}
	bitOr  = bitOperation{func(a, b int64) int64 { return a | b }, (*apd.BigInt).Or}
	bitXor = bitOperation{func(a, b int64) int64 { return a ^ b }, (*apd.BigInt).Xor}
)

// bits is bitand, bitor or bitxor of Ints that are floored. A result of more
// than 34 digits is Undefined.
func (op bitOperation) bits(f *frame, a, b value) value {
	a, b = floor(f, a), floor(f, b)
	if a.kind == kindUndefined || b.kind == kindUndefined {
		return value{}
	}
	if a.d == nil && b.d == nil {
		return wholeValue(op.small(a.c, b.c))
	}
	d := new(apd.Decimal)
	op.big(&d.Coeff, a.bigInt(), b.bigInt())
	if d.Coeff.Sign() < 0 {
		d.Coeff.Neg(&d.Coeff)
		d.Negative = true
	}
	if d.NumDigits() > maxDigits {
		return value{}
	}
	v, _ := bigValue(d, formInt)
	return v
}

// bigInt returns an Int's number.
func (v value) bigInt() *apd.BigInt {
	if v.d == nil {
		return apd.NewBigInt(v.c)
	}
	i := new(apd.BigInt).Set(&v.d.Coeff)
	if v.d.Negative {
		i.Neg(i)
	}
	return i
}

func bitFunc(op bitOperation) func(*frame, []value) value {
	return func(f *frame, args []value) value {
		a, ok1 := f.numeric(args[0])
		b, ok2 := f.numeric(args[1])
		if !ok1 || !ok2 {
			return value{}
		}
		return op.bits(f, a, b)
	}
}

// bitNot is two's complement, of which all bits are inverted by XOR with -1;
// the guide's own example, bitnot(13) = 2, fits no width.
func bitNot(f *frame, n value) value { return bitXor.bits(f, n, intValue(-1)) }

// wholeValue is intValue for results that may be the smallest int64, which
// small numbers leave out.
func wholeValue(i int64) value {
	if i == math.MinInt64 {
		return value{kind: kindNumber, form: formInt, d: apd.New(i, 0)}
	}
	return intValue(i)
}

// random is a number of 0 to 1, the 1 excluded: 53 random bits, all that a
// double holds.
func random(f *frame, _ []value) value {
	var b [8]byte
	f.random(b[:])
	return f.prog.fromFloat(float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53))
}

// nanvl is args[1] in place of Undefined and Null. There is no NaN among our numbers.
func nanvl(_ *frame, args []value) value {
	if args[0].kind == kindUndefined || args[0].kind == kindNull {
		return args[1]
	}
	return args[0]
}

// doubleFunc makes a function that computes in double precision. NaN and
// infinities, that is arguments out of the domain, become Undefined.
func doubleFunc(fn func(float64) float64) func(*frame, []value) value {
	return numberFunc(func(f *frame, n value) value { return f.prog.fromFloat(fn(n.float())) })
}

func doubleFunc2(fn func(a, b float64) float64) func(*frame, []value) value {
	return func(f *frame, args []value) value {
		a, ok1 := f.numeric(args[0])
		b, ok2 := f.numeric(args[1])
		if !ok1 || !ok2 {
			return value{}
		}
		return f.prog.fromFloat(fn(a.float(), b.float()))
	}
}
