package iotsql

import (
	"bytes"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// A naive evaluator walks the syntax tree over a payload decoded as a whole.
// It shares nothing with the product's evaluation: FuzzAgree compares them.
type naive struct {
	m       *Message
	version string
	modern  bool
	doc     any  // nothing{} for a payload that isn't JSON
	binary  bool // it isn't
	vars    map[string]any
	scopes  []naiveScope // of the nested queries around, outermost first
}

type naiveScope struct {
	alias   string
	element any
}

func newNaive(version string, m *Message) (*naive, error) {
	n := &naive{m: m, version: version, modern: version != Version2015, vars: map[string]any{}}
	body := bytes.Trim(m.Payload, " \t\r\n")
	if len(body) == 0 {
		n.doc = naiveObject{}
		return n, nil
	}
	if naiveDepth(body) > MaxPayloadNesting {
		return n, errNaiveDeep
	}
	var ok bool
	n.doc, ok = naiveDecode(body, n.modern)
	n.binary = !ok
	return n, nil
}

// run yields the document for the actions.
func (n *naive) run(q *query) (doc string, fired bool) {
	n.assign(q.sets)
	if q.where != nil && !n.holds(n.eval(q.where)) {
		return "", false
	}
	lone := true
	for _, it := range q.items {
		lone = lone && it.expr.op == opStar && it.name == nil
	}
	if lone {
		return string(n.m.Payload), true
	}
	return naiveJSON(naiveItem(n.selected(q, n.star()))), true
}

func (n *naive) assign(sets []assignment) {
	for _, s := range sets {
		n.vars[s.name] = n.eval(s.expr)
	}
}

// star is * as an item: what isn't JSON becomes base64.
func (n *naive) star() any {
	if n.binary {
		return naiveText{s: naiveBase64(string(n.m.Payload))}
	}
	return n.doc
}

// selected is what a SELECT list makes; star is what * stands for.
func (n *naive) selected(q *query, star any) any {
	if q.value {
		if q.items[0].expr.op == opStar {
			return star
		}
		return n.eval(q.items[0].expr)
	}
	lone := true
	for _, it := range q.items {
		lone = lone && it.expr.op == opStar && it.name == nil
	}
	if lone {
		return star
	}
	// The last of several * is the one that counts.
	last := -1
	for i, it := range q.items {
		if it.expr.op == opStar && it.name == nil {
			last = i
		}
	}
	out := &naiveOut{}
	for i, it := range q.items {
		switch {
		case it.expr.op != opStar:
			out.put(it.name, n.inside(n.eval(it.expr)))
		case it.name != nil:
			out.put(it.name, naiveItem(star))
		case i == last:
			if obj, ok := star.(naiveObject); ok {
				out.merge(obj)
			}
		}
	}
	return out.object()
}

// naiveOut is an object in the making: what * brought, and what aliases made.
type naiveOut struct {
	copied naiveObject
	names  []string // of made, in the order of their first item
	made   map[string]any
}

func (o *naiveOut) put(path []string, v any) {
	if o.made == nil {
		o.made = map[string]any{}
	}
	name := path[0]
	was, known := o.made[name]
	if !known {
		o.names = append(o.names, name)
		o.made[name] = nothing{}
		was = nothing{}
	}
	if v == any(nothing{}) {
		return
	}
	o.copied = o.copied.without(name)
	if len(path) == 1 {
		o.made[name] = v
		return
	}
	inner, ok := was.(*naiveOut)
	if !ok {
		inner = &naiveOut{}
	}
	inner.put(path[1:], v)
	o.made[name] = inner
}

func (o *naiveOut) merge(obj naiveObject) {
	o.copied = obj
	for _, m := range obj {
		if _, ok := o.made[m.name]; ok {
			o.made[m.name] = nothing{}
		}
	}
}

func (o naiveObject) without(name string) naiveObject {
	kept := naiveObject{}
	for _, m := range o {
		if m.name != name {
			kept = append(kept, m)
		}
	}
	return kept
}

func (o *naiveOut) object() naiveObject {
	obj := append(naiveObject{}, o.copied...)
	for _, name := range o.names {
		switch v := o.made[name].(type) {
		case nothing:
		case *naiveOut:
			obj = append(obj, naiveMember{name: name, value: v.object()})
		default:
			obj = append(obj, naiveMember{name: name, value: v})
		}
	}
	return obj
}

// rows is what a nested query yields: one for an Object, ok false for what is
// neither Array nor Object.
func (n *naive) rows(q *query) (rows []any, one, ok bool) {
	var elements naiveList
	switch src := n.eval(q.from).(type) {
	case naiveList:
		elements = src
	case naiveObject:
		elements, one = naiveList{src}, true
	default:
		return nil, false, false
	}
	for _, e := range elements {
		n.scopes = append(n.scopes, naiveScope{q.alias, e})
		if q.where == nil || n.holds(n.eval(q.where)) {
			rows = append(rows, n.selected(q, e))
		}
		n.scopes = n.scopes[:len(n.scopes)-1]
	}
	return rows, one, true
}

func (n *naive) nested(q *query) any {
	all, one, ok := n.rows(q)
	if !ok || one && len(all) == 0 {
		return nothing{}
	}
	if one {
		return all[0]
	}
	list := naiveList{}
	for _, r := range all {
		if r != any(nothing{}) {
			list = append(list, n.inside(r))
		}
	}
	return list
}

// inside is a value as part of a document that is built: a number there is
// read anew when it is taken out.
func (n *naive) inside(v any) any {
	if num, ok := v.(naiveNum); ok {
		return naiveWire(naiveItem(num).(naiveNum).digits(), n.modern)
	}
	return v
}

func (n *naive) holds(v any) bool {
	is, ok := naiveTruth(v)
	return is && ok
}

func naiveTruth(v any) (is, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case naiveText:
		low := strings.Map(func(r rune) rune { // ASCII only
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}, v.s)
		return low == "true", low == "true" || low == "false"
	}
	return false, false
}

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
	exact := apd.Context{Precision: 5000, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent, Rounding: apd.RoundDown}
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
