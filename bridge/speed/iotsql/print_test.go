package iotsql

import (
	"slices"
	"strings"
)

// A printer writes a syntax tree as a statement. Spacing, case, quotes and
// parentheses that aren't needed are the chooser's.
type printer struct {
	*chooser
	strings.Builder
}

func (p *printer) word(s string) {
	if p.one(4) {
		s = strings.ToLower(s)
	}
	p.gap()
	p.WriteString(s)
	p.gap()
}

func (p *printer) gap() { p.WriteString(pick(p.chooser, []string{" ", "\n", "  "})) }

func (p *printer) quote(s string) {
	q := pick(p.chooser, []string{"'", `"`})
	p.WriteString(q + strings.ReplaceAll(s, q, q+q) + q)
}

func (p *printer) query(q *query) {
	for i, s := range q.sets {
		if i == 0 {
			p.word("SET")
		} else {
			p.WriteString(", ")
		}
		p.WriteString("@" + s.name + " =")
		p.gap()
		p.expr(s.expr, 0)
	}
	p.word("SELECT")
	if q.value {
		p.word("VALUE")
	}
	for i, it := range q.items {
		if i > 0 {
			p.WriteString(",")
			p.gap()
		}
		p.expr(it.expr, 0)
		if it.name != nil && (len(it.name) > 1 || it.name[0] != impliedName(it.expr) || p.one(2)) {
			p.word("AS")
			p.WriteString(strings.Join(it.name, "."))
		}
	}
	p.word("FROM")
	if q.from != nil {
		p.expr(q.from, bindPath)
	} else {
		p.quote(q.filter)
	}
	if q.alias != "" {
		p.word("AS")
		p.WriteString(q.alias)
	}
	if q.where != nil {
		p.word("WHERE")
		p.expr(q.where, 0)
	}
}

// Powers beyond those of the binary operators.
const (
	bindUnary = bindProduct + 1
	bindPath  = bindProduct + 2
)

func power(n *node) int {
	switch n.op {
	case opBinary:
		_, bind := binding(token{kind: tokPunct, text: n.text})
		if bind == 0 {
			_, bind = binding(token{kind: tokName, text: n.text})
		}
		return bind
	case opNot:
		return bindNot
	case opNeg, opSpread:
		return bindUnary
	case opLit:
		if n.val.kind == kindNumber {
			return bindUnary // a negative one, and 1.x is no path
		}
	}
	return bindPath
}

// expr writes n where only what binds at least as tightly as least needs no
// parentheses.
func (p *printer) expr(n *node, least int) {
	if power(n) < least || n.op != opStar && n.op != opSpread && n.op != opBytes && p.one(16) {
		p.WriteString("(")
		defer p.WriteString(")")
	}
	switch n.op {
	case opLit:
		switch {
		case n.val.kind == kindText:
			p.quote(n.text)
			return
		case n.val.kind == kindNumber && n.val.negative():
			p.WriteString("-")
		}
		p.WriteString(n.text)
	case opAttr, opStar, opBytes:
		p.WriteString(n.text)
	case opVar:
		p.WriteString("@" + n.text)
	case opMember, opSpread:
		p.expr(n.kids[0], bindPath)
		p.WriteString("." + n.text)
	case opNeg:
		p.WriteString("- ")
		p.expr(n.kids[0], bindUnary)
	case opNot:
		p.word("NOT")
		p.expr(n.kids[0], bindNot)
	case opBinary:
		left := power(n)
		if left == bindCompare {
			left++ // comparisons don't chain
		}
		p.expr(n.kids[0], left)
		p.word(n.text)
		p.expr(n.kids[1], power(n)+1)
	case opCase:
		p.caseOf(n)
	case opCast:
		p.WriteString("cast(")
		p.expr(n.kids[0], 0)
		p.word("AS")
		p.WriteString(n.text + ")")
	case opArray:
		p.WriteString("[")
		p.exprs(n.kids)
		p.trailing(n)
		p.WriteString("]")
	case opObject:
		p.WriteString("{")
		for i, k := range n.kids {
			if i > 0 {
				p.WriteString(",")
			}
			p.quote(n.names[i])
			p.WriteString(":")
			p.expr(k, 0)
		}
		p.trailing(n)
		p.WriteString("}")
	case opQuery, opExists:
		if n.op == opExists {
			p.word("EXISTS")
		}
		p.WriteString("(")
		p.query(n.sub)
		p.WriteString(")")
	case opCall:
		p.WriteString(n.text + "(")
		p.exprs(n.kids)
		p.WriteString(")")
	}
}

func (p *printer) exprs(nodes []*node) {
	for i, k := range nodes {
		if i > 0 {
			p.WriteString(",")
		}
		p.expr(k, 0)
	}
}

// trailing writes a comma behind the last member of a literal, as some do.
func (p *printer) trailing(n *node) {
	if len(n.kids) > 0 && p.one(6) {
		p.WriteString(",")
	}
}

func (p *printer) caseOf(n *node) {
	p.word("CASE")
	p.expr(n.kids[0], 0)
	kids := n.kids[1:]
	for ; len(kids) > 1; kids = kids[2:] {
		p.word("WHEN")
		p.expr(kids[0], 0)
		p.word("THEN")
		p.expr(kids[1], 0)
	}
	if len(kids) == 1 {
		p.word("ELSE")
		p.expr(kids[0], 0)
	}
	p.word("END")
}

// sameQuery compares trees but for the positions in the text.
func sameQuery(a, b *query) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.value == b.value && a.filter == b.filter && a.hasFrom == b.hasFrom && a.alias == b.alias &&
		sameNode(a.from, b.from) && sameNode(a.where, b.where) &&
		slices.EqualFunc(a.items, b.items, func(x, y item) bool {
			return slices.Equal(x.name, y.name) && sameNode(x.expr, y.expr)
		}) &&
		slices.EqualFunc(a.sets, b.sets, func(x, y assignment) bool {
			return x.name == y.name && sameNode(x.expr, y.expr)
		})
}

func sameNode(a, b *node) bool {
	if a == nil || b == nil {
		return a == b
	}
	same := a.op == b.op && a.fn == b.fn && slices.Equal(a.names, b.names) &&
		slices.EqualFunc(a.kids, b.kids, sameNode) && sameQuery(a.sub, b.sub)
	if a.op != opLit || a.val.kind != kindNull && a.val.kind != kindBool { // words in any case
		same = same && a.text == b.text
	}
	if a.op == opLit {
		same = same && a.val.kind == b.val.kind && a.val.c == b.val.c && a.val.negative() == b.val.negative()
	}
	return same
}
