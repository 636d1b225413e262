package iotsql

import (
	"bytes"
	"slices"
)

// A selection is a compiled SELECT list.
type selection struct {
	value  bool // SELECT VALUE
	items  []eval
	spread []int     // items that stand for the members of an object, * and path.*; of several * the last
	star   int       // of spread, that which is *; -1: none
	whole  bool      // spread is the payload's * alone
	lone   bool      // nothing but *
	nested bool      // of a nested query: * is the innermost element
	out    []*member // the object to write
	clash  []int     // slots of the payload's members that out may replace, where whole
}

// A member is a member of the output. It takes its value from items, or is an
// object (dotted aliases), or in odd statements both: items replace what came
// before them, the last that isn't Undefined wins.
type member struct {
	name   string
	quoted []byte // "name":
	first  int    // the first item that concerns it
	items  []int
	kids   []*member
}

// selection compiles q's SELECT list.
func (c *compiler) selection(q *query) *selection {
	s := &selection{value: q.value, lone: q.lone(), nested: len(c.aliases) > 0, star: -1}
	for i := range q.items {
		it := &q.items[i]
		var ev eval
		if it.expr.op == opStar {
			ev = c.star() // no step of Explain's: the outcome shows it
		} else {
			ev = c.expr(it.expr)
		}
		switch {
		case q.value || s.lone:
		case !it.spread():
			s.out = place(s.out, it.name, i)
		default:
			if it.expr.op == opStar {
				s.spread = slices.DeleteFunc(s.spread, func(k int) bool { return k == s.star })
				s.star = i
			}
			s.spread = append(s.spread, i)
			ev = objectOnly(ev)
		}
		s.items = append(s.items, ev)
	}
	if s.whole = len(s.spread) == 1 && s.star >= 0 && !s.nested; s.whole {
		for _, m := range s.out {
			s.clash = append(s.clash, c.slot(m.name))
		}
	}
	return s
}

// objectOnly makes what is no Object Undefined: it has no members to spread.
func objectOnly(ev eval) eval {
	return func(f *frame) value {
		if v := ev(f); v.kind == kindObject {
			return v
		}
		return value{}
	}
}

// place enters item i under the alias in a list of members.
func place(list []*member, name []string, i int) []*member {
	var m *member
	for _, have := range list {
		if have.name == name[0] {
			m = have
		}
	}
	if m == nil {
		m = &member{name: name[0], quoted: append(appendQuoted(nil, []byte(name[0])), ':'), first: i}
		list = append(list, m)
	}
	if len(name) == 1 {
		m.items = append(m.items, i)
	} else {
		m.kids = place(m.kids, name[1:], i)
	}
	return list
}

// star compiles *: the payload, or the element of a nested query. A payload that
// isn't JSON becomes its base64 text, as the guide says of binary payloads
// within a document; an empty one an empty object.
func (c *compiler) star() eval {
	if level := len(c.aliases) - 1; level >= 0 {
		return func(f *frame) value { return f.elems[level] }
	}
	return (*frame).payload
}

func (f *frame) payload() value {
	if f.doc == docUnknown {
		f.scan()
	}
	switch f.doc {
	case docEmpty:
		return value{kind: kindObject, b: []byte("{}")}
	case docObject, docOther:
		return wireValue(f.body)
	}
	return f.base64(f.m.Payload)
}

// project appends the action document. A lone * hands the payload's bytes
// through unread, JSON or not.
func (f *frame) project(dst []byte) []byte {
	s := f.prog.sel
	if s.lone {
		return append(dst, f.m.Payload...)
	}
	base := f.compute(s)
	f.unmerged = s.unmerged(f.unmerged[:0], f.items[base:])
	dst, _ = f.write(dst, s, base)
	f.items = f.items[:base]
	return dst
}

// compute evaluates the items onto f.items from the index returned on.
func (f *frame) compute(s *selection) (base int) {
	base = len(f.items)
	for _, ev := range s.items {
		f.items = append(f.items, ev(f))
	}
	return base
}

// unmerged appends the items whose members are missing in the document, since
// they are no Object. With the whole payload nothing of it is.
func (s *selection) unmerged(dst []int, items []value) []int {
	for _, i := range s.spread {
		if items[i].kind != kindObject {
			dst = append(dst, i)
		} else if i == s.star {
			return dst[:0]
		}
	}
	return dst
}

// write appends what the computed items make. defined is false for a
// SELECT VALUE of Undefined. It evaluates nothing and leaves f.arena alone,
// so dst may be f.arena.
func (f *frame) write(dst []byte, s *selection, base int) (_ []byte, defined bool) {
	items := f.items[base:]
	if s.value || s.lone {
		return f.appendJSON(dst, items[len(items)-1]), items[len(items)-1].kind != kindUndefined
	}
	dst = append(dst, '{')
	from := len(dst)
	var after []int // by member of s.out, the last spread object that has it too
	if s.whole && items[s.spread[0]].kind == kindObject && !f.clashes(s) {
		p := items[s.spread[0]].b
		dst = append(dst, bytes.TrimSpace(p[1:len(p)-1])...)
	} else if len(s.spread) > 0 {
		dst, after = f.writeSpread(dst, s, items)
	}
	for k, m := range s.out {
		last := -1
		if after != nil {
			last = after[k]
		}
		dst = f.writeMember(dst, m, items, last, len(dst) > from)
		if len(dst)-from > f.limit {
			f.fail(errTooLarge) // before a long list of long members is written out
			break
		}
	}
	return append(dst, '}'), true
}

// writeSpread copies the members of the objects that are spread, text
// unchanged, except those that a later item replaces.
func (f *frame) writeSpread(dst []byte, s *selection, items []value) (_ []byte, after []int) {
	after = make([]int, len(s.out))
	for k := range after {
		after[k] = -1
	}
	later := make([]map[string][]byte, len(s.spread)) // members of the objects behind the first
	for n, i := range s.spread {
		if n > 0 && items[i].kind == kindObject {
			later[n] = f.memberMap(items[i].b)
		}
	}
	first, from := true, len(dst)
	for n, i := range s.spread {
		if items[i].kind != kindObject || f.err != nil {
			continue
		}
	next:
		for it := members(items[i].b); it.next(); {
			for k, m := range s.out {
				if it.is(m.name) {
					after[k] = i
					if m.last(items, i) > i {
						continue next
					}
				}
			}
			for _, other := range later[n+1:] {
				if !f.work(1) || other != nil && has(other, it.name(f)) {
					continue next
				}
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, it.p[it.start:it.end]...)
			if len(dst)-from > f.limit {
				f.fail(errTooLarge)
				break
			}
		}
	}
	return dst, after
}

func has(m map[string][]byte, name []byte) bool {
	_, ok := m[string(name)]
	return ok
}

// clashes reports whether the payload has members that items replace.
func (f *frame) clashes(s *selection) bool {
	for _, i := range s.clash {
		var v value
		if f.attr(i, &v); v.kind != kindUndefined {
			return true
		}
	}
	return false
}

// own is the last of the member's own items that isn't Undefined, after if
// there is none later than that.
func (m *member) own(items []value, after int) int {
	for k := len(m.items) - 1; k >= 0 && m.items[k] > after; k-- {
		if items[m.items[k]].kind != kindUndefined {
			return m.items[k]
		}
	}
	return after
}

// last is own among the items of the member and of those within it.
func (m *member) last(items []value, after int) int {
	last := m.own(items, after)
	for _, kid := range m.kids {
		last = max(last, kid.last(items, after))
	}
	return last
}

// writeMember writes what the items later than after make of the member.
func (f *frame) writeMember(dst []byte, m *member, items []value, after int, comma bool) []byte {
	own := m.own(items, after)
	last := own
	for _, kid := range m.kids {
		last = max(last, kid.last(items, own))
	}
	if last == after {
		return dst
	}
	if comma {
		dst = append(dst, ',')
	}
	dst = append(dst, m.quoted...)
	if last == own {
		return f.appendJSON(dst, items[own])
	}
	dst = append(dst, '{')
	from := len(dst)
	for _, kid := range m.kids {
		dst = f.writeMember(dst, kid, items, own, len(dst) > from)
	}
	return append(dst, '}')
}

// A nested is a compiled nested query.
type nested struct {
	from  eval
	where eval // nil: always
	sel   *selection
}

func (c *compiler) nestedQuery(q *query) nested {
	n := nested{from: c.expr(q.from)}
	// Explain shows a nested query's result, not each element's steps.
	defer func(was bool) { c.trace = was }(c.trace)
	c.trace = false
	c.aliases = append(c.aliases, q.alias)
	if q.where != nil {
		n.where = c.expr(q.where)
	}
	n.sel = c.selection(q)
	c.aliases = c.aliases[:len(c.aliases)-1]
	return n
}

// fires evaluates WHERE for the element pushed last.
func (n *nested) fires(f *frame) bool {
	if n.where == nil {
		return true
	}
	mark := len(f.arena)
	holds := f.holds(n.where(f))
	f.arena = f.arena[:mark] // nothing built for the condition is needed again
	return holds
}

// each calls fn for the elements that pass WHERE, until it returns false. fn
// runs with the element pushed. ok is false when the source is neither
// Array nor Object; one tells an Object, which is its own single element.
func (n *nested) each(f *frame, fn func() bool) (one, ok bool) {
	src := n.from(f)
	level := len(f.elems)
	defer func() { f.elems = f.elems[:level] }()
	switch src.kind {
	case kindObject:
		f.elems = append(f.elems, src)
		if n.fires(f) {
			fn()
		}
		return true, true
	case kindArray:
		it := elements(src.b)
		for {
			raw, more := it.next()
			if !more || !f.work(1+len(raw)/64) || f.err != nil {
				return false, true
			}
			f.elems = append(f.elems[:level], wireValue(raw))
			if n.fires(f) && !fn() {
				return false, true
			}
		}
	}
	return false, false
}

func (c *compiler) exists(q *query) eval {
	n := c.nestedQuery(q)
	return func(f *frame) value {
		found := false
		if _, ok := n.each(f, func() bool { found = true; return false }); !ok {
			return boolValue(false)
		}
		return boolValue(found)
	}
}

// subquery compiles (SELECT ...): over an Array it yields an Array without
// what was Undefined, over an Object one projection, Undefined if WHERE fails.
func (c *compiler) subquery(q *query) eval {
	n := c.nestedQuery(q)
	return func(f *frame) value {
		var rows []value
		one, ok := n.each(f, func() bool {
			base := f.compute(n.sel)
			var v value
			if n.sel.value || n.sel.lone {
				v = f.items[len(f.items)-1]
			} else {
				from := len(f.arena)
				f.arena, _ = f.write(f.arena, n.sel, base)
				v = f.built(kindObject, from)
			}
			f.items = f.items[:base]
			if v.kind != kindUndefined {
				rows = append(rows, v)
			}
			return f.err == nil
		})
		switch {
		case !ok || f.err != nil || one && len(rows) == 0:
			return value{}
		case one:
			return rows[0]
		}
		return f.array(rows)
	}
}

// array builds an Array of values.
func (f *frame) array(vs []value) value {
	n := 0
	for _, v := range vs {
		n += f.size(v)
	}
	if !f.fits(n) {
		return value{}
	}
	from := len(f.arena)
	f.arena = append(f.arena, '[')
	for i, v := range vs {
		if i > 0 {
			f.arena = append(f.arena, ',')
		}
		f.arena = f.appendJSON(f.arena, v)
	}
	f.arena = append(f.arena, ']')
	return f.built(kindArray, from)
}
