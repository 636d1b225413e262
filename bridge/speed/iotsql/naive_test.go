package iotsql

import (
	"bytes"
	"strings"
)

// A naive evaluator walks the syntax tree over a payload decoded as a whole.
// It shares nothing with the product's evaluation: FuzzAgree compares them.
type naive struct {
	m       *Input
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

func newNaive(version string, m *Input) (*naive, error) {
	n := &naive{m: m, version: version, modern: version != Version2015, vars: map[string]any{}}
	body := bytes.Trim(m.Payload, " \t\r\n")
	if len(body) == 0 {
		n.doc = naiveObject{}
		return n, nil
	}
	if naiveDepth(body) > maxPayloadNesting {
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
	if q.lone() {
		return string(n.m.Payload), true
	}
	return naiveJSON(naiveItem(n.selected(q))), true
}

func (n *naive) assign(sets []assignment) {
	for _, s := range sets {
		n.vars[s.name] = n.eval(s.expr)
	}
}

// star is *: the innermost element, or the payload, of which what isn't JSON
// becomes base64.
func (n *naive) star() any {
	if len(n.scopes) > 0 {
		return n.scopes[len(n.scopes)-1].element
	}
	if n.binary {
		return naiveText{s: naiveBase64(string(n.m.Payload))}
	}
	return n.doc
}

// selected is what a SELECT list makes.
func (n *naive) selected(q *query) any {
	if q.value {
		return n.eval(q.items[0].expr)
	}
	if q.lone() {
		return n.star()
	}
	out := &naiveOut{}
	for _, it := range q.items {
		v := n.eval(it.expr)
		if !it.spread() {
			out.put(it.name, n.inside(v))
		} else if obj, ok := v.(naiveObject); ok {
			out.merge(obj)
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
	for _, m := range obj {
		o.copied = o.copied.without(m.name)
	}
	o.copied = append(o.copied, obj...)
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
			rows = append(rows, n.selected(q))
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
