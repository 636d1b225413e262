package iotsql

import (
	"bytes"
	"context"
)

// An eval computes an expression. It doesn't fail: wrong types yield
// Undefined, and a limit run into is noted in the frame.
type eval func(f *frame) value

// A program is a compiled statement or template.
type program struct {
	version  string
	services *Services
	modern   bool           // 2016-03-23 or later
	names    []string       // the payload's members that the program names
	index    map[string]int // where there are many names
	sets     []eval
	where    eval // nil: always
	sel      *selection
}

// manyNames is from how many names on a map finds them faster than comparing; measured at 8 to 16.
const manyNames = 12

// A compiler turns syntax into evals for one program.
type compiler struct {
	prog    *program
	slots   map[string]int
	vars    map[string]int
	reads   bool     // a variable is read
	aliases []string // of the nested queries around, outermost first; "" if none
	trace   bool     // the evals note what they compute, for Explain
}

func newCompiler(version string, services *Services, trace bool) *compiler {
	return &compiler{
		prog:  &program{version: version, services: services, modern: version != Version2015},
		slots: map[string]int{}, vars: map[string]int{}, trace: trace,
	}
}

// done finishes the program.
func (c *compiler) done() *program {
	if len(c.prog.names) > manyNames {
		c.prog.index = c.slots
	}
	return c.prog
}

func (c *compiler) assign(sets []assignment) {
	for i, s := range sets {
		c.prog.sets = append(c.prog.sets, c.expr(s.expr))
		c.vars[s.name] = i
	}
}

// statement compiles a whole statement.
func (c *compiler) statement(q *query) *program {
	c.assign(q.sets)
	if q.where != nil {
		c.prog.where = c.expr(q.where)
	}
	c.prog.sel = c.selection(q)
	return c.done()
}

// start computes the SET variables.
func (f *frame) start() {
	total := 0
	for _, set := range f.prog.sets {
		v := set(f)
		if total += f.size(v); total > f.limit {
			f.fail(errTooLarge)
		}
		f.vars = append(f.vars, v)
	}
}

// size is what a value takes as JSON with a comma, nearly: characters to be
// escaped are not counted.
func (f *frame) size(v value) int {
	switch {
	case v.d != nil, v.kind == kindNumber && (v.form&formWire == 0 || bytes.ContainsAny(v.b, "eE")):
		return maxDigits + 8 // a sign, a point, an exponent
	case v.kind == kindText:
		return 3 + len(v.b)
	case v.b == nil:
		return 6
	}
	return 1 + len(v.b)
}

// condition computes WHERE.
func (f *frame) condition() value {
	if f.prog.where == nil {
		return boolValue(true)
	}
	return f.prog.where(f)
}

// holds reports whether a condition is true. A String "true" counts, our reading.
func (f *frame) holds(v value) bool {
	is, _ := f.truth(v)
	return is
}

func undefined(*frame) value { return value{} }

func constant(v value) eval { return func(*frame) value { return v } }

// expr compiles n.
func (c *compiler) expr(n *node) eval {
	ev := c.compile(n)
	if !c.trace || n.op == opLit {
		return ev
	}
	return func(f *frame) value {
		at := f.trace.enter()
		v := ev(f)
		f.trace.leave(at, n, f, v)
		return v
	}
}

func (c *compiler) exprs(nodes []*node) []eval {
	evs := make([]eval, len(nodes))
	for i, n := range nodes {
		evs[i] = c.expr(n)
	}
	return evs
}

func (c *compiler) compile(n *node) eval {
	switch n.op {
	case opLit:
		return constant(n.val)
	case opStar:
		return c.star()
	case opBytes:
		return func(f *frame) value { return textValue(f.m.Payload) }
	case opSpread:
		return objectOnly(c.expr(n.kids[0]))
	case opAttr:
		return c.attribute(n.text)
	case opVar:
		c.reads = true
		i := c.vars[n.text]
		return func(f *frame) value { return f.vars[i] }
	case opMember:
		obj, name := c.expr(n.kids[0]), n.text
		return func(f *frame) value {
			v := obj(f)
			if v.kind != kindObject {
				return value{}
			}
			return f.member(v.b, name)
		}
	case opNeg:
		x := c.expr(n.kids[0])
		return func(f *frame) value {
			v, ok := f.numeric(x(f))
			if !ok {
				return value{}
			}
			return f.prog.settle(negate(v))
		}
	case opNot:
		x := c.expr(n.kids[0])
		return func(f *frame) value {
			is, ok := f.truth(x(f))
			if !ok {
				return value{}
			}
			return boolValue(!is)
		}
	case opBinary:
		return c.binary(n)
	case opCase:
		return c.caseOf(n)
	case opCast:
		x, cast := c.expr(n.kids[0]), castTypes[n.text].cast
		return func(f *frame) value { return cast(f, x(f)) }
	case opArray, opObject:
		return c.literal(n)
	case opQuery:
		return c.subquery(n.sub)
	case opExists:
		return c.exists(n.sub)
	}
	return c.call(n)
}

// attribute compiles a name: in a nested query the alias of an element or a
// member of the innermost element, else a member of the payload. Names are
// case-sensitive, as in JSON.
func (c *compiler) attribute(name string) eval {
	for i := len(c.aliases) - 1; i >= 0; i-- {
		if c.aliases[i] == name {
			return func(f *frame) value { return f.elems[i] }
		}
	}
	if level := len(c.aliases) - 1; level >= 0 {
		return func(f *frame) value {
			if e := f.elems[level]; e.kind == kindObject {
				return f.member(e.b, name)
			}
			return value{}
		}
	}
	i := c.slot(name)
	return func(f *frame) (v value) { f.attr(i, &v); return v }
}

// slot returns where the scan leaves the payload's member.
func (c *compiler) slot(name string) int {
	i, ok := c.slots[name]
	if !ok {
		i = len(c.prog.names)
		c.slots[name] = i
		c.prog.names = append(c.prog.names, name)
	}
	return i
}

func (c *compiler) binary(n *node) eval {
	l, r := c.expr(n.kids[0]), c.expr(n.kids[1])
	switch n.text {
	case "AND":
		return logic(l, r, "AND", func(a, b bool) bool { return a && b })
	case "OR":
		return logic(l, r, "OR", func(a, b bool) bool { return a || b })
	case "=":
		return equality(l, r, true)
	case "<>":
		return equality(l, r, false)
	case "<":
		return ordering(l, r, n.kids[1], 1)
	case "<=":
		return ordering(l, r, n.kids[1], 3)
	case ">":
		return ordering(l, r, n.kids[1], 4)
	case ">=":
		return ordering(l, r, n.kids[1], 6)
	case "IN":
		return membership(l, r)
	case "+":
		return sum(l, r)
	}
	op := n.text[0]
	return func(f *frame) value {
		a, ok1 := f.numeric(l(f))
		b, ok2 := f.numeric(r(f))
		if !ok1 || !ok2 {
			return value{}
		}
		return f.prog.arithmetic(op, a, b)
	}
}

// logic is AND or OR. The guide's table wants two Booleans and has no short
// circuit: false AND Undefined, true OR Undefined are Undefined.
func logic(l, r eval, name string, op func(a, b bool) bool) eval {
	return func(f *frame) value {
		a, ok := f.truth(l(f))
		if !ok { // whatever r is
			f.trace.notBoolean(name, "left")
			return value{}
		}
		b, ok := f.truth(r(f))
		if !ok {
			f.trace.notBoolean(name, "right")
			return value{}
		}
		return boolValue(op(a, b))
	}
}

func equality(l, r eval, want bool) eval {
	return func(f *frame) value {
		a, b := l(f), r(f)
		if a.kind == kindUndefined || b.kind == kindUndefined {
			return value{}
		}
		return boolValue(f.equal(a, b) == want)
	}
}

// ordering compares numbers; mask has a bit for each outcome that is true:
// less 1, equal 2, more 4. A literal on the right has a short way.
func ordering(l, r eval, right *node, mask uint8) eval {
	slow := func(f *frame, a, b value) value {
		a, ok := f.numeric(a)
		if !ok {
			return value{}
		}
		b, ok = f.numeric(b)
		if !ok {
			return value{}
		}
		return boolValue(mask>>(compare(a, b)+1)&1 != 0)
	}
	if k := right.val; right.op == opLit && k.kind == kindNumber && k.d == nil {
		kc, ke := k.c, k.e
		return func(f *frame) value {
			a := l(f)
			if a.kind == kindNumber && a.form&formWire != 0 {
				c, e, ok := parseShort(a.b)
				b := kc
				if ok && e != ke {
					if e > ke {
						c, ok = scale(c, e-ke)
					} else {
						b, ok = scale(b, ke-e)
					}
				}
				if ok {
					return boolValue(mask>>(cmp(c, b)+1)&1 != 0)
				}
			}
			return slow(f, a, k)
		}
	}
	return func(f *frame) value { return slow(f, l(f), r(f)) }
}

// membership is IN: whether an element equals the value.
func membership(l, r eval) eval {
	return func(f *frame) value {
		x, arr := l(f), r(f)
		if x.kind == kindUndefined || arr.kind != kindArray {
			return value{}
		}
		it := elements(arr.b)
		for {
			raw, ok := it.next()
			if !ok || !f.work(1+len(raw)/64) {
				return boolValue(false)
			}
			if f.equal(x, wireValue(raw)) {
				return boolValue(true)
			}
		}
	}
}

// sum is +: with a String on either side it joins the string forms.
func sum(l, r eval) eval {
	return func(f *frame) value {
		a, b := l(f), r(f)
		if a.kind == kindText || b.kind == kindText {
			return f.join(a, b)
		}
		if a.kind != kindNumber || b.kind != kindNumber {
			return value{}
		}
		x, ok1 := f.number(a)
		y, ok2 := f.number(b)
		if !ok1 || !ok2 {
			return value{}
		}
		return f.prog.arithmetic('+', x, y)
	}
}

// join concatenates string forms; without one of them the result is Undefined.
func (f *frame) join(vs ...value) value {
	n := 0
	for _, v := range vs {
		if v.kind == kindUndefined || v.kind == kindNull {
			return value{}
		}
		n += f.size(v)
	}
	if !f.fits(n) {
		return value{}
	}
	from := len(f.arena)
	for _, v := range vs {
		f.arena = f.appendText(f.arena, v)
	}
	return f.built(kindText, from)
}

// caseOf compiles CASE v WHEN t THEN r ... ELSE e END. The first t equal to v wins.
func (c *compiler) caseOf(n *node) eval {
	evs := c.exprs(n.kids)
	return func(f *frame) value {
		v := evs[0](f)
		if v.kind == kindUndefined {
			return value{} // even with ELSE
		}
		i := 1
		for ; i+1 < len(evs); i += 2 {
			if t := evs[i](f); t.kind != kindUndefined && f.equal(v, t) {
				return evs[i+1](f)
			}
		}
		if i < len(evs) {
			return evs[i](f)
		}
		return value{}
	}
}

// literal compiles [...] and {...}. Undefined members of an object vanish;
// an Undefined element of an array too, our reading.
func (c *compiler) literal(n *node) eval {
	evs := c.exprs(n.kids)
	kind, opening, closing := kindArray, byte('['), byte(']')
	names := make([][]byte, len(n.names))
	if n.op == opObject {
		kind, opening, closing = kindObject, '{', '}'
		for i, name := range n.names {
			names[i] = append(appendQuoted(nil, []byte(name)), ':')
		}
	}
	ev := func(f *frame) value {
		base := len(f.stack)
		n := 0
		for _, ev := range evs {
			v := ev(f)
			n += f.size(v)
			f.stack = append(f.stack, v)
		}
		args := f.stack[base:]
		f.stack = f.stack[:base]
		if !f.fits(n) {
			return value{}
		}
		from := len(f.arena)
		f.arena = append(f.arena, opening)
		for i, v := range args {
			if v.kind == kindUndefined {
				continue
			}
			if len(f.arena) > from+1 {
				f.arena = append(f.arena, ',')
			}
			if kind == kindObject {
				f.arena = append(f.arena, names[i]...)
			}
			f.arena = f.appendJSON(f.arena, v)
		}
		f.arena = append(f.arena, closing)
		return f.built(kind, from)
	}
	if !isConstant(n) {
		return ev
	}
	f := newFrame(context.Background(), c.prog, &Input{})
	defer f.release()
	v := ev(f)
	v.b = append([]byte(nil), v.b...)
	return constant(v)
}

func isConstant(n *node) bool {
	if n.op != opLit && n.op != opArray && n.op != opObject {
		return false
	}
	for _, k := range n.kids {
		if !isConstant(k) {
			return false
		}
	}
	return true
}

// call compiles a function call.
func (c *compiler) call(n *node) eval {
	fn := n.fn
	args := c.exprs(n.kids)
	if fn.build != nil {
		return fn.build(n, args)
	}
	run := fn.run
	return func(f *frame) value {
		base := len(f.stack)
		for _, arg := range args {
			f.stack = append(f.stack, arg(f))
		}
		if f.err != nil {
			f.stack = f.stack[:base]
			return value{}
		}
		v := run(f, f.stack[base:])
		f.stack = f.stack[:base]
		return v
	}
}
