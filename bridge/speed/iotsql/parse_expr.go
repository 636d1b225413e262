package iotsql

import (
	"fmt"
	"strings"
)

// Binding powers of the binary operators, loosest first. NOT binds looser
// than a comparison, unary minus tighter than any of these.
const (
	bindOr = iota + 1
	bindAnd
	bindNot
	bindCompare
	bindSum
	bindProduct
)

// binding returns the operator a token is, spelled one way, and its power; 0
// for a token that is none.
func binding(t token) (string, int) {
	switch t.kind {
	case tokPunct:
		switch t.text {
		case "=", "<>", "<", "<=", ">", ">=":
			return t.text, bindCompare
		case "!=": // not in the guide's list; taken as <>
			return "<>", bindCompare
		case "+", "-":
			return t.text, bindSum
		case "*", "/", "%":
			return t.text, bindProduct
		}
	case tokName:
		switch {
		case t.is("OR"):
			return "OR", bindOr
		case t.is("AND"):
			return "AND", bindAnd
		case t.is("IN"):
			return "IN", bindCompare
		}
	}
	return "", 0
}

// deeper counts a level of nesting; the caller undoes it with p.depth--.
func (p *parser) deeper() {
	if p.depth++; p.depth > maxNesting {
		p.fail(p.tok.pos, fmt.Sprintf("nested deeper than %d levels", maxNesting), "")
	}
}

func (p *parser) expr() *node { return p.binary(0) }

// binary parses operators that bind tighter than power; a loop makes them
// left-associative, recursion gives precedence.
func (p *parser) binary(power int) *node {
	p.deeper()
	defer func() { p.depth-- }()

	var left *node
	if p.tok.is("NOT") && power < bindNot {
		t := p.advance()
		x := p.binary(bindNot - 1)
		left = &node{op: opNot, pos: t.pos, end: x.end, kids: []*node{x}}
		// NOT a = b has taken the comparison; what is left is AND and OR.
	} else {
		left = p.unary()
	}
	for n := 0; ; n++ {
		text, bind := binding(p.tok)
		if bind == 0 {
			p.foreign(left)
		}
		if bind <= power || bind == 0 {
			return left
		}
		if n == maxOperators {
			p.fail(p.tok.pos, fmt.Sprintf("more than %d operators in a row", maxOperators), "")
		}
		p.advance()
		if p.tok.is("=") && text == "=" {
			p.fail(p.tok.pos-1, `there is no operator "=="`, `"="`)
		}
		if text == "IN" && p.tok.is("(") && !p.peek().is("SELECT") {
			p.inList()
		}
		right := p.binary(bind)
		left = &node{op: opBinary, pos: left.pos, end: right.end, text: text, kids: []*node{left, right}}
		if bind == bindCompare {
			if _, next := binding(p.tok); next == bindCompare {
				p.fail(p.tok.pos, "comparisons can't be chained", "AND between two comparisons")
			}
		}
	}
}

// foreign refuses operators that other dialects have and this one spells otherwise.
func (p *parser) foreign(left *node) {
	want := ""
	x := p.text[left.pos:left.end]
	if len(x) > 20 {
		x = "x"
	}
	switch {
	case p.tok.is("IS"):
		want = fmt.Sprintf("isNull(%s) or isUndefined(%[1]s)", x)
	case p.tok.is("LIKE"):
		want = fmt.Sprintf("startswith, endswith, indexof or regexp_matches(%s, pattern)", x)
	case p.tok.is("BETWEEN"):
		want = fmt.Sprintf("%s >= a AND %[1]s <= b", x)
	case p.tok.is("NOT"):
		want = fmt.Sprintf("NOT before the comparison: NOT %s IN ...", x)
	default:
		return
	}
	p.fail(p.tok.pos, "there is no operator "+strings.ToUpper(p.tok.text), want)
}

// inList refuses IN (a, b), which other dialects have, with a hint. IN (expr) is fine.
func (p *parser) inList() {
	p.scan(func(t token) bool {
		if t.is(",") {
			p.fail(p.tok.pos, "IN takes an array", "IN [a, b]")
		}
		return true
	})
}

func (p *parser) unary() *node {
	if !p.tok.is("-") {
		return p.path()
	}
	p.deeper()
	defer func() { p.depth-- }()
	t := p.advance()
	x := p.unary()
	if x.op == opLit && x.val.kind == kindNumber && x.pos == t.end && !x.val.negative() {
		x.val = negate(x.val) // a negative literal
		x.pos = t.pos
		return x
	}
	return &node{op: opNeg, pos: t.pos, end: x.end, kids: []*node{x}}
}

// path parses primary { "." name } [ ".*" ].
func (p *parser) path() *node {
	n := p.primary()
	for links := 0; ; links++ {
		switch {
		case p.tok.is("."):
			if links == maxOperators {
				p.fail(p.tok.pos, fmt.Sprintf("more than %d names in a path", maxOperators), "")
			}
			p.advance()
			if p.tok.is("*") {
				return &node{op: opSpread, pos: n.pos, end: p.advance().end, text: "*", kids: []*node{n}}
			}
			if p.tok.kind != tokName {
				p.unexpected(`a member's name or * (for other names use get(object, "name"))`)
			}
			t := p.advance()
			n = &node{op: opMember, pos: n.pos, end: t.end, text: t.text, kids: []*node{n}}
		case p.tok.is("["):
			p.fail(p.tok.pos, "elements are not taken with brackets",
				fmt.Sprintf("get(%s, index)", p.text[n.pos:n.end]))
		default:
			return n
		}
	}
}

// reserved are the names that can't be an attribute outside a path: one
// there is most likely a slip.
func reserved(t token) bool {
	switch strings.ToUpper(t.text) {
	case "SELECT", "FROM", "WHERE", "AS", "AND", "OR", "IN", "WHEN", "THEN", "ELSE", "END", "NOT":
		return true
	}
	return false
}

const wantExpr = "an expression"

func (p *parser) primary() *node {
	t := p.tok
	switch t.kind {
	case tokNumber:
		p.advance()
		v, ok := parseNumber([]byte(t.text), false)
		if !ok {
			p.fail(t.pos, "the number is outside 1E-999 to 9.99...E999", "")
		}
		return &node{op: opLit, pos: t.pos, end: t.end, text: t.text, val: v}
	case tokString:
		p.advance()
		return &node{op: opLit, pos: t.pos, end: t.end, text: t.text, val: textValue([]byte(t.text))}
	case tokVar:
		if !p.vars[t.text] {
			p.fail(t.pos, "@"+t.text+" is not set before its use", "SET @"+t.text+" = ... before SELECT")
		}
		p.advance()
		return &node{op: opVar, pos: t.pos, end: t.end, text: t.text}
	case tokPunct:
		switch t.text {
		case "(":
			return p.parens()
		case "[":
			return p.array()
		case "{":
			return p.object()
		case "*":
			p.advance()
			return &node{op: opStar, pos: t.pos, end: t.end, text: "*"}
		}
	case tokName:
		return p.named()
	}
	p.unexpected(wantExpr)
	return nil
}

func (p *parser) parens() *node {
	t := p.advance()
	var n *node
	if p.tok.is("SELECT") {
		n = p.subquery(t.pos)
	} else {
		n = p.expr()
	}
	if !p.tok.is(")") {
		p.unclosed(t.pos, `")"`)
	}
	n.pos, n.end = t.pos, p.advance().end
	return n
}

// subquery parses a nested query up to its closing parenthesis.
func (p *parser) subquery(pos int) *node {
	p.needModern(p.tok.pos, "a nested query")
	p.deeper()
	defer func() { p.depth--; p.nested-- }()
	p.nested++
	q := p.query()
	return &node{op: opQuery, pos: pos, end: p.tok.pos, sub: q}
}

func (p *parser) array() *node {
	t := p.tok
	p.needModern(t.pos, "an array literal")
	p.advance()
	n := &node{op: opArray, pos: t.pos}
	for !p.tok.is("]") {
		n.kids = append(n.kids, p.expr())
		p.comma(t.pos, "]")
	}
	n.end = p.advance().end
	return n
}

func (p *parser) object() *node {
	t := p.tok
	p.needModern(t.pos, "an object literal")
	p.advance()
	n := &node{op: opObject, pos: t.pos}
	for !p.tok.is("}") {
		if p.tok.kind != tokString {
			p.unexpected("a member's name in quotes")
		}
		n.names = append(n.names, p.advance().text)
		p.expect(":")
		n.kids = append(n.kids, p.expr())
		p.comma(t.pos, "}")
	}
	n.end = p.advance().end
	return n
}

// comma takes the comma after a member of the literal that begins at open. The
// last may have one, too: deployed rules do.
func (p *parser) comma(open int, closing string) {
	if !p.accept(",") && !p.tok.is(closing) {
		p.unclosed(open, `"," or "`+closing+`"`)
	}
}

// named parses what begins with a name: a literal, CASE, CAST, EXISTS, a call or an attribute.
func (p *parser) named() *node {
	t := p.tok
	lit := func(v value) *node {
		p.advance()
		return &node{op: opLit, pos: t.pos, end: t.end, text: t.text, val: v}
	}
	call := p.peek().is("(")
	switch {
	case t.is("NULL"):
		return lit(value{kind: kindNull})
	case t.is("TRUE"):
		return lit(boolValue(true))
	case t.is("FALSE"):
		return lit(boolValue(false))
	case t.is("CASE"):
		return p.caseOf()
	case t.is("CAST") && call:
		return p.cast()
	case t.is("EXISTS") && call:
		p.advance()
		p.expect("(")
		if !p.tok.is("SELECT") {
			p.unexpected("SELECT")
		}
		n := p.subquery(t.pos)
		n.op, n.end = opExists, p.expect(")").end
		return n
	case reserved(t) && (t.is("FROM") || t.is("WHERE") || t.is("AS") || t.is("SELECT")):
		p.unexpected(wantExpr)
	case reserved(t):
		p.fail(t.pos, strings.ToUpper(t.text)+" is a keyword and stands for no member", wantExpr)
	case call:
		return p.call()
	}
	p.advance()
	return &node{op: opAttr, pos: t.pos, end: t.end, text: t.text}
}

func (p *parser) caseOf() *node {
	t := p.advance()
	if p.tok.is("WHEN") {
		p.unexpected("the value to compare: CASE value WHEN ...")
	}
	n := &node{op: opCase, pos: t.pos, kids: []*node{p.expr()}}
	if !p.tok.is("WHEN") {
		p.unexpected("WHEN")
	}
	for p.accept("WHEN") {
		n.kids = append(n.kids, p.expr())
		p.expect("THEN")
		n.kids = append(n.kids, p.expr())
	}
	if p.accept("ELSE") {
		n.kids = append(n.kids, p.expr())
	}
	if !p.tok.is("END") {
		p.unexpected("WHEN, ELSE or END")
	}
	n.end = p.advance().end
	return n
}

func (p *parser) cast() *node {
	t := p.advance()
	p.expect("(")
	x := p.expr()
	p.expect("AS")
	typ, ok := castTypes[strings.ToLower(p.tok.text)]
	if p.tok.kind != tokName || !ok {
		p.unexpected("a type: String, Nvarchar, Text, Ntext, Varchar, Int, Integer, Double, Decimal, Bool or Boolean")
	}
	if typ.modern {
		p.needModern(p.tok.pos, "cast to "+p.tok.text)
	}
	name := strings.ToLower(p.advance().text)
	return &node{op: opCast, pos: t.pos, end: p.expect(")").end, text: name, kids: []*node{x}}
}

func (p *parser) call() *node {
	t := p.advance()
	fn := functions[strings.ToLower(t.text)]
	switch {
	case fn == nil:
		msg := "there is no function " + t.text
		if near := nearFunction(t.text); near != "" {
			msg += "; did you mean " + near + "?"
		}
		p.fail(t.pos, msg, "")
	case fn.modern:
		p.needModern(t.pos, t.text)
	}
	n := &node{op: opCall, pos: t.pos, text: t.text, fn: fn}
	open := p.expect("(").pos
	for !p.tok.is(")") {
		if len(n.kids) > 0 {
			if !p.tok.is(",") {
				p.unclosed(open, `"," or ")"`)
			}
			p.advance()
		}
		n.kids = append(n.kids, p.argument())
	}
	n.end = p.advance().end
	if !fn.takes(len(n.kids)) {
		p.fail(t.pos, fmt.Sprintf("%s takes %s, this has %d", t.text, fn.counts(), len(n.kids)), "")
	}
	if fn.check != nil {
		fn.check(p, n)
	}
	return n
}

// argument parses an argument, which may be a nested query without parentheses of its own.
func (p *parser) argument() *node {
	if p.tok.is("SELECT") {
		return p.subquery(p.tok.pos)
	}
	return p.expr()
}
