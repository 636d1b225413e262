package action

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// more are forms of members that hold others. Each of those becomes a parameter
// NAME/INNER of the Delivery.
const (
	pairs      form = 100 + iota // a list of objects with a key and a value, which is a template
	properties                   // an object of texts, which are templates
	object                       // members of its own
	number                       // from least to most
)

// nested is what a member of such a form has besides.
type nested struct {
	key     string // of pairs: "key" or "name"
	count   int    // of pairs and properties: at most; 0: any
	mostKey int    // bytes of a key; 0: any
	value   member // of pairs and properties: what each value is, but for its name
	members []member
	least   int // of a number; most bounds it, too
}

// all reads a member of any form.
func (p *parser) all(m *member) (all []parameter) {
	raw, there := p.params[m.name]
	if m.nested == nil {
		if x, ok := p.member(m); ok {
			all = append(all, x)
		}
		return all
	}
	if !there && m.required {
		p.bad("%s: missing", m.name)
	}
	switch {
	case m.form == number:
		return p.integer(m, raw)
	case !there && m.form != object:
		return nil
	case m.form == pairs:
		return p.pairs(m, raw)
	}
	if !there {
		raw = json.RawMessage("{}")
	}
	inner := &parser{compile: p.compile, catalog: p.catalog}
	if err := json.Unmarshal(raw, &inner.params); err != nil || inner.params == nil {
		p.bad("%s: want an object", m.name)
		return nil
	}
	members := m.nested.members
	if m.form == properties {
		members = p.named(m, inner.params)
	}
	var known []string
	for i := range members {
		known = append(known, members[i].name)
		if !there && members[i].required { // the object itself is not demanded
			continue
		}
		for _, x := range inner.all(&members[i]) {
			all = append(all, x.within(m.name))
		}
	}
	for name := range inner.params {
		if !slices.Contains(known, name) {
			inner.bad("%s: unknown member; known are %q", name, known)
		}
	}
	for _, err := range inner.errs {
		p.bad("%s.%w", m.name, err)
	}
	return all
}

// named are the members that properties have: each as value says.
func (p *parser) named(m *member, values map[string]json.RawMessage) (members []member) {
	n := m.nested
	if n.count > 0 && len(values) > n.count {
		p.bad("%s: %d, want at most %d", m.name, len(values), n.count)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		v := n.value
		v.name = name
		members = append(members, v)
	}
	return members
}

// pairs reads a list of keys with values.
func (p *parser) pairs(m *member, raw json.RawMessage) (all []parameter) {
	n := m.nested
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || len(list) > n.count || m.required && len(list) == 0 {
		p.bad("%s: want a list of at most %d objects with %s and value", m.name, n.count, n.key)
		return nil
	}
	for i, of := range list {
		inner := &parser{compile: p.compile, catalog: p.catalog, params: of}
		v := n.value
		v.name, v.required = "value", true
		key, _ := inner.member(&member{name: n.key, form: text, required: true, most: n.mostKey})
		x, ok := inner.member(&v)
		if len(of) > 2 {
			inner.bad("want %s and value, and nothing else", n.key)
		}
		for _, err := range inner.errs {
			p.bad("%s[%d].%w", m.name, i, err)
		}
		if ok {
			x.member = &v
			v.name = key.value
			all = append(all, x.within(m.name))
		}
	}
	return all
}

// integer reads a number. Where there is none it has its standard.
func (p *parser) integer(m *member, raw json.RawMessage) []parameter {
	if raw == nil {
		if m.standard == "" {
			return nil
		}
		raw = json.RawMessage(m.standard)
	}
	var n int
	if err := json.Unmarshal(raw, &n); err != nil || n < m.nested.least || n > m.most {
		p.bad("%s: want %d to %d", m.name, m.nested.least, m.most)
	}
	return []parameter{{member: m, value: strconv.Itoa(n)}}
}

// within is a parameter of an outer member.
func (x parameter) within(outer string) parameter {
	m := *x.member
	m.name = outer + "/" + m.name
	x.member = &m
	return x
}

// Inner returns the parameters within a member, by their own names, in order.
func (d *Delivery) Inner(outer string) (all []Parameter) {
	for _, p := range d.Parameters {
		if len(p.Name) > len(outer) && p.Name[:len(outer)] == outer && p.Name[len(outer)] == '/' {
			all = append(all, Parameter{p.Name[len(outer)+1:], p.Value})
		}
	}
	return all
}

// errForm says that a document does not have the form that a target takes.
func errForm(want string) error { return fmt.Errorf("the statement's document is none: want %s", want) }
