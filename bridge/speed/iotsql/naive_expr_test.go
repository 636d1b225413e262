package iotsql

import (
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// number converts to a number; a String counts as Decimal.
func (n *naive) number(v any) (naiveNum, bool) {
	switch v := v.(type) {
	case naiveNum:
		v.raw = ""
		return v, v.d != nil
	case naiveText:
		if !naiveNumeric.MatchString(v.s) {
			return naiveNum{}, false
		}
		num, ok := naiveNumber(v.s, false)
		num.whole = false
		return num, ok
	}
	return naiveNum{}, false
}

func (n *naive) eval(x *node) any {
	switch x.op {
	case opLit:
		return n.literal(x)
	case opStar:
		return n.star()
	case opSpread:
		if o, ok := n.eval(x.kids[0]).(naiveObject); ok {
			return o
		}
		return nothing{}
	case opBytes:
		return naiveText{s: string(n.m.Payload)}
	case opAttr:
		return n.attribute(x.text)
	case opVar:
		return n.vars[x.text]
	case opMember:
		if o, ok := n.eval(x.kids[0]).(naiveObject); ok {
			return o.member(x.text)
		}
		return nothing{}
	case opNeg:
		num, ok := n.number(n.eval(x.kids[0]))
		if !ok {
			return nothing{}
		}
		d := new(apd.Decimal).Set(num.d)
		d.Negative = !d.Negative && !d.IsZero()
		return naiveNum{d: d, whole: num.whole}.settled(n.modern)
	case opNot:
		is, ok := naiveTruth(n.eval(x.kids[0]))
		if !ok {
			return nothing{}
		}
		return !is
	case opBinary:
		return n.binaryOp(x.text, n.eval(x.kids[0]), n.eval(x.kids[1]))
	case opCase:
		return n.caseOf(x.kids)
	case opCast:
		return n.cast(x.text, n.eval(x.kids[0]))
	case opArray:
		list := naiveList{}
		for _, k := range x.kids {
			if v := n.eval(k); v != any(nothing{}) {
				list = append(list, n.inside(v))
			}
		}
		return list
	case opObject:
		obj := naiveObject{}
		for i, k := range x.kids {
			if v := n.eval(k); v != any(nothing{}) {
				obj = append(obj, naiveMember{name: x.names[i], value: n.inside(v)})
			}
		}
		return obj
	case opQuery:
		return n.nested(x.sub)
	case opExists:
		rows, _, _ := n.rows(x.sub)
		return len(rows) > 0
	}
	if len(x.kids) < x.fn.min || x.fn.max >= 0 && len(x.kids) > x.fn.max {
		return nothing{}
	}
	args := make([]any, len(x.kids))
	for i, k := range x.kids {
		args[i] = n.eval(k)
	}
	return n.call(strings.ToLower(x.text), args)
}

func (n *naive) literal(x *node) any {
	switch x.val.kind {
	case kindNull:
		return nil
	case kindBool:
		return x.val.c != 0
	case kindText:
		return naiveText{s: x.text}
	}
	num, ok := naiveNumber(x.text, false) // not settled: 2.0 is a Decimal as written
	if !ok {
		panic(x.text)
	}
	if x.val.negative() {
		num.d = new(apd.Decimal).Neg(num.d)
	}
	return num
}

func (n *naive) attribute(name string) any {
	for i := len(n.scopes) - 1; i >= 0; i-- {
		if n.scopes[i].alias == name {
			return n.scopes[i].element
		}
	}
	in := n.doc
	if len(n.scopes) > 0 {
		in = n.scopes[len(n.scopes)-1].element
	}
	if o, ok := in.(naiveObject); ok {
		return o.member(name)
	}
	return nothing{}
}

func (n *naive) caseOf(kids []*node) any {
	v := n.eval(kids[0])
	if v == any(nothing{}) {
		return v
	}
	kids = kids[1:]
	for ; len(kids) > 1; kids = kids[2:] {
		if t := n.eval(kids[0]); t != any(nothing{}) && naiveEqual(v, t) {
			return n.eval(kids[1])
		}
	}
	if len(kids) == 1 {
		return n.eval(kids[0])
	}
	return nothing{}
}

func (n *naive) binaryOp(op string, a, b any) any {
	switch op {
	case "AND", "OR":
		x, ok1 := naiveTruth(a)
		y, ok2 := naiveTruth(b)
		switch {
		case !ok1 || !ok2:
			return nothing{}
		case op == "AND":
			return x && y
		}
		return x || y
	case "=", "<>":
		if a == any(nothing{}) || b == any(nothing{}) {
			return nothing{}
		}
		return naiveEqual(a, b) == (op == "=")
	case "IN":
		list, ok := b.(naiveList)
		if !ok || a == any(nothing{}) {
			return nothing{}
		}
		for _, e := range list {
			if naiveEqual(a, e) {
				return true
			}
		}
		return false
	case "+":
		_, text1 := a.(naiveText)
		_, text2 := b.(naiveText)
		if text1 || text2 {
			return naiveJoin(a, b)
		}
		if _, ok := a.(naiveNum); !ok {
			return nothing{}
		}
		if _, ok := b.(naiveNum); !ok {
			return nothing{}
		}
	}
	x, ok1 := n.number(a)
	y, ok2 := n.number(b)
	if !ok1 || !ok2 {
		return nothing{}
	}
	switch c := x.d.Cmp(y.d); op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	}
	return n.arithmetic(op, x, y)
}

func naiveJoin(vs ...any) any {
	var b strings.Builder
	for _, v := range vs {
		s, ok := naiveString(v)
		if !ok {
			return nothing{}
		}
		b.WriteString(s)
	}
	return naiveText{s: b.String()}
}

// arithmetic is exact before it rounds.
func (n *naive) arithmetic(op string, x, y naiveNum) any {
	exact := apd.Context{Precision: 5000, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent,
		Rounding: apd.RoundDown}
	var d apd.Decimal
	both := x.whole && y.whole
	var err error
	switch op {
	case "+":
		_, err = exact.Add(&d, x.d, y.d)
	case "-":
		_, err = exact.Sub(&d, x.d, y.d)
	case "*":
		_, err = exact.Mul(&d, x.d, y.d)
	default:
		if y.d.IsZero() {
			return nothing{}
		}
		var q apd.Decimal
		if op == "/" && !both {
			// Enough digits that cutting the rest can't change the rounding.
			narrow := exact
			narrow.Precision = 34
			narrow.Rounding = apd.RoundHalfEven
			_, err = narrow.Quo(&d, x.d, y.d)
			must(err)
			d.Reduce(&d)
			break
		}
		_, err = exact.Quo(&q, x.d, y.d)
		must(err)
		cut := naiveWhole(naiveBig(&q, 0))
		if op == "/" {
			d.Set(cut)
			break
		}
		_, err = exact.Mul(&q, cut, y.d)
		must(err)
		_, err = exact.Sub(&d, x.d, &q)
	}
	must(err)
	r := naiveRound(&d)
	if r == nil {
		return nothing{}
	}
	if r.IsZero() {
		r.Negative = false
	}
	return naiveNum{d: r, whole: both && r.Exponent == 0}.settled(n.modern)
}
