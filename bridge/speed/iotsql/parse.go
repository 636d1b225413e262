package iotsql

import (
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Limits of what Compile and CompileTemplate take. The published guide names
// none of them; they keep a hostile text from exhausting the stack.
const (
	// maxStatement is the longest text of a statement or template, in bytes.
	maxStatement = 64 << 10
	// maxNesting is how deep brackets, calls, cases and nested queries may be.
	maxNesting = 64
	// maxOperators is how many binary operators may follow each other at one level.
	maxOperators = 1000
	// maxVariables is how many variables SET may set (rule SQL reference, SET).
	maxVariables = 10
	// maxVariableName is the longest variable name in characters, without the @ (same place).
	maxVariableName = 64
)

// A parser turns a text into a query or, for templates, an expression. It
// stops at the first error, by panicking with a *SyntaxError that parse
// returns.
type parser struct {
	text    string
	version string
	lex     lexer
	tok     token
	depth   int
	vars    map[string]bool // SET variables assigned so far
	nested  int             // nested queries around

	services *Services // what functions may ask; nil: nothing
	template bool      // not a statement
	asks     []string  // functions called that ask them, lower case
}

func newParser(text, version string, from int, vars map[string]bool) *parser {
	return &parser{text: text, version: version, lex: lexer{text: text, off: from}, vars: vars}
}

// parse runs fn and returns the syntax error it ended with.
func (p *parser) parse(fn func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *SyntaxError:
			err = r
		default:
			panic(r)
		}
	}()
	if len(p.text) > maxStatement {
		p.fail(maxStatement, fmt.Sprintf("the text has %d bytes, %d are the limit", len(p.text), maxStatement), "")
	}
	p.advance()
	fn()
	return nil
}

func (p *parser) fail(pos int, msg, expected string) {
	panic(newSyntaxError(p.text, pos, msg, expected))
}

func (p *parser) unexpected(expected string) {
	p.fail(p.tok.pos, "unexpected "+p.tok.describe(p.text), expected)
}

// unclosed is unexpected within the bracket at open, which it names at the end of the text.
func (p *parser) unclosed(open int, expected string) {
	if p.tok.kind == tokEOF {
		e := newSyntaxError(p.text, open, "", "")
		expected += fmt.Sprintf(" for the %q at line %d, column %d", p.text[open], e.Line, e.Column)
	}
	p.unexpected(expected)
}

// advance moves to the next token and returns the one before.
func (p *parser) advance() token {
	was := p.tok
	tok, err := p.lex.next()
	if err != nil {
		panic(err)
	}
	p.tok = tok
	return was
}

// peek returns the token after the current one, an EOF token if that is malformed.
func (p *parser) peek() token {
	l := p.lex
	tok, err := l.next()
	if err != nil {
		return token{kind: tokEOF}
	}
	return tok
}

func (p *parser) accept(kw string) bool {
	if !p.tok.is(kw) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expect(kw string) token {
	if !p.tok.is(kw) {
		p.unexpected(quoteKeyword(kw))
	}
	return p.advance()
}

func quoteKeyword(kw string) string {
	if nameLen(kw) > 0 {
		return kw
	}
	return `"` + kw + `"`
}

// modern reports whether the version has what came with 2016-03-23.
func (p *parser) modern() bool { return p.version != Version2015 }

func (p *parser) needModern(pos int, what string) {
	if !p.modern() {
		p.fail(pos, what+" needs version "+Version2016+"; this statement has "+Version2015, "")
	}
}

// statement parses [SET ...] SELECT ... to the end of the text.
func (p *parser) statement() *query {
	var sets []assignment
	if p.tok.is("SET") {
		sets = p.set()
	}
	if !p.tok.is("SELECT") {
		switch {
		case sets == nil:
			p.unexpected("SELECT or SET")
		case p.tok.is("SET"):
			p.fail(p.tok.pos, "a second SET", `","`)
		}
		p.unexpected(`",", an operator or SELECT`)
	}
	q := p.query()
	q.sets = sets
	switch {
	case p.tok.kind == tokEOF:
	case p.tok.is("GROUP") || p.tok.is("ORDER") || p.tok.is("HAVING") || p.tok.is("LIMIT") || p.tok.is("JOIN") ||
		p.tok.is("UNION"):
		p.fail(p.tok.pos, "rules see one message at a time and have no "+strings.ToUpper(p.tok.text), "the end")
	case p.tok.is("SET"):
		p.fail(p.tok.pos, "SET stands before SELECT", "")
	case strings.HasPrefix(p.text[p.tok.pos:], "--"):
		p.fail(p.tok.pos, "statements have no comments", "the end")
	case p.tok.is("WHERE"):
		p.fail(p.tok.pos, "a second WHERE", "AND or OR to join conditions")
	case q.where != nil:
		p.unexpected("an operator or the end")
	case q.hasFrom:
		p.unexpected("WHERE or the end")
	default:
		p.unexpected(`",", AS, FROM, WHERE, an operator or the end`)
	}
	return q
}

func (p *parser) set() []assignment {
	p.expect("SET")
	var sets []assignment
	for {
		if p.tok.kind != tokVar {
			p.unexpected("a variable such as @name")
		}
		if len(sets) == maxVariables {
			p.fail(p.tok.pos, fmt.Sprintf("SET takes at most %d variables", maxVariables), "")
		}
		v := p.tok
		if n := len([]rune(v.text)); n > maxVariableName {
			p.fail(v.pos, fmt.Sprintf("the variable's name has %d characters, %d are the limit", n, maxVariableName),
				"")
		}
		if p.vars[v.text] {
			p.fail(v.pos, "@"+v.text+" is set already; variables are set once", "")
		}
		p.advance()
		p.expect("=")
		sets = append(sets, assignment{v.text, p.expr()})
		if p.vars == nil {
			p.vars = map[string]bool{}
		}
		p.vars[v.text] = true
		if !p.accept(",") {
			return sets
		}
	}
}

// query parses SELECT ... [FROM ...] [WHERE ...].
func (p *parser) query() *query {
	q := &query{pos: p.tok.pos}
	p.expect("SELECT")
	if p.tok.is("VALUE") && !p.valueIsName() {
		p.advance()
		q.value = true
	}
	for {
		q.items = append(q.items, p.item(q.value))
		if !p.tok.is(",") {
			break
		}
		if q.value {
			p.fail(p.tok.pos, "SELECT VALUE takes one item", "FROM")
		}
		p.advance()
	}
	switch {
	case p.tok.is("FROM"):
		p.advance()
		q.hasFrom = true
		if p.nested > 0 {
			p.source(q)
		} else {
			p.filter(q)
		}
	case p.nested > 0:
		p.unexpected(`",", AS or FROM`)
	}
	if p.accept("WHERE") {
		q.where = p.expr()
	}
	q.end = p.tok.pos
	return q
}

// valueIsName tells an attribute called value from the keyword, by what follows.
func (p *parser) valueIsName() bool {
	l := p.lex
	next, _ := l.next()
	switch _, bind := binding(next); {
	case next.is("*"):
		// value * 2 is a product, VALUE * FROM the whole payload.
		after, _ := l.next()
		begins := after.is("(") || after.is("[") || after.is("{") || after.is("-")
		return after.kind != tokEOF && !reserved(after) && (begins || after.kind != tokPunct)
	case next.is("-"):
		// value - 1 AS v or VALUE -1: the attribute's is the reading with a name.
		end := p.itemEnd()
		return end.is("AS") || end.is(",")
	case next.kind == tokEOF, bind > 0:
		return true
	}
	for _, s := range []string{",", ".", "AS", "FROM", "WHERE", ")"} {
		if next.is(s) {
			return true
		}
	}
	return false
}

// itemEnd returns the token that ends the item of a list at hand.
func (p *parser) itemEnd() (end token) {
	p.scan(func(t token) bool {
		end = t
		return !t.is(",") && !t.is("AS") && !t.is("FROM") && !t.is("WHERE")
	})
	return end
}

// scan calls fn for the tokens that follow and are in no brackets of their
// own, until it returns false, the bracket around closes or the text ends.
func (p *parser) scan(fn func(t token) bool) {
	l := p.lex
	for depth := 0; ; {
		t, err := l.next()
		switch {
		case err != nil || t.kind == tokEOF:
			return
		case t.is("(") || t.is("[") || t.is("{"):
			depth++
		case t.is(")") || t.is("]") || t.is("}"):
			if depth--; depth < 0 {
				return
			}
		case depth == 0 && !fn(t):
			return
		}
	}
}

// filter parses the topic filter of a statement's FROM.
func (p *parser) filter(q *query) {
	if p.tok.kind != tokString {
		p.unexpected("a topic filter in quotes, such as 'dt/#'")
	}
	if err := topic.ValidFilter(p.tok.text); err != nil {
		p.fail(p.tok.pos+1+wildcard(p.tok.text), "topic filter: "+strings.TrimPrefix(err.Error(), "topic: "), "")
	}
	q.filter = p.advance().text
	if p.tok.is(",") {
		p.fail(p.tok.pos, "FROM takes one topic filter", "")
	}
}

// wildcard returns where a malformed filter has the wildcard that makes it so, 0 if that isn't it.
func wildcard(filter string) int {
	off := 0
	for level := range strings.SplitSeq(filter, "/") {
		i := strings.IndexAny(level, "+#")
		last := off+len(level) == len(filter)
		if i >= 0 && (len(level) > 1 || level == "#" && !last) {
			return off + i
		}
		off += len(level) + 1
	}
	return 0
}

// source parses FROM path [AS name] of a nested query.
func (p *parser) source(q *query) {
	if p.tok.kind != tokName && p.tok.kind != tokVar && !p.tok.is("(") && !p.tok.is("[") && !p.tok.is("*") {
		p.unexpected("the member to query")
	}
	p.nested-- // names and * are those around
	q.from = p.path()
	p.nested++
	if p.accept("AS") {
		if p.tok.kind != tokName {
			p.unexpected("a name for the element")
		}
		q.alias = p.advance().text
	}
}

// item parses one member of a SELECT list.
func (p *parser) item(value bool) item {
	it := item{expr: p.expr()}
	it.end = it.expr.end
	if p.tok.is("AS") {
		p.advance()
		for {
			if p.tok.kind != tokName || p.tok.is("FROM") && p.peek().kind == tokString {
				p.unexpected("a name")
			}
			if len(it.name) == maxNesting {
				p.fail(p.tok.pos, fmt.Sprintf("nested deeper than %d levels", maxNesting), "")
			}
			it.end = p.tok.end
			it.name = append(it.name, p.advance().text)
			if !p.accept(".") {
				break
			}
		}
	}
	switch {
	case value:
		it.name = nil // AS after VALUE is taken, and names nothing
	case it.name == nil && !it.spread():
		name := impliedName(it.expr)
		if name == "" {
			p.openQuote(it.expr)
			p.fail(p.tok.pos, "the expression needs a name", "AS name")
		}
		it.name = []string{name}
	}
	return it
}

// openQuote refuses a string that runs into a name: a quote is missing
// before, and what was meant to begin a string has ended one.
func (p *parser) openQuote(n *node) {
	if n.op == opLit && n.val.kind == kindText && p.tok.kind == tokName && p.tok.pos == n.end {
		p.fail(n.pos, "the string that begins here ends before "+p.tok.describe(p.text),
			"a closing quote where it should end")
	}
}

// impliedName is what an item without AS goes by: an attribute's own name, the
// last one of a path, the function's of a call. Only the first is the
// guide's; the others are the common reading.
func impliedName(n *node) string {
	switch n.op {
	case opAttr, opVar, opMember, opCall:
		return n.text
	case opCast:
		return "cast"
	}
	return ""
}
