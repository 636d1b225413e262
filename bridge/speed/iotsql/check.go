package iotsql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/javaregexp"
	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// Check looks for mistakes that are certain whatever the message: expressions
// that are always Undefined because of the types of their operands, modes and
// patterns that don't exist, a WHERE that never is a Boolean. The dialect lets
// such a statement compile; a rule with it does not do what was meant. Check
// returns nil or the *SyntaxErrors joined, in the order of the text. It misses
// mistakes rather than report one that is none.
func (s *Statement) Check() error {
	return s.checker().result()
}

func (s *Statement) checker() *checker {
	c := newChecker(s.text, s.prog, s.query.sets)
	c.query(s.query)
	return c
}

// Check is Statement.Check for the expressions of a template. Those of SET are
// the statement's to check.
func (t *Template) Check() error {
	c := newChecker(t.text, t.prog, t.sets)
	c.found = nil
	for _, p := range t.pieces {
		if p.node != nil {
			c.infer(p.node)
		}
	}
	return c.result()
}

// maxMistakes is how many mistakes Check reports at most.
const maxMistakes = 10

// A checker infers what expressions may yield.
type checker struct {
	text    string
	prog    *program
	vars    map[string]guess
	aliases []string // of the nested queries around
	found   []mistake
	left    int // work that folding may still do
}

type mistake struct {
	node    *node // always Undefined; or of WHERE, and never true
	where   bool
	aliases []string
	err     *SyntaxError
}

// newChecker makes a checker that knows the variables of SET.
func newChecker(text string, prog *program, sets []assignment) *checker {
	c := &checker{text: text, prog: &program{version: prog.version, modern: prog.modern}, vars: map[string]guess{},
		left: maxWork}
	for _, set := range sets {
		c.vars[set.name] = c.infer(set.expr)
	}
	return c
}

func (c *checker) result() error {
	slices.SortStableFunc(c.found, func(a, b mistake) int { return a.err.Offset - b.err.Offset })
	var errs []error
	for _, m := range c.found[:min(len(c.found), maxMistakes)] {
		errs = append(errs, m.err)
	}
	return errors.Join(errs...)
}

// kinds is a set of what a value may be.
type kinds uint16

const (
	isUndefined kinds = 1 << iota
	isNull
	isBool
	isNumber
	isNumeric // text that converts to a number
	isTruth   // text that converts to a Boolean
	isOther   // other text
	isArray
	isObject

	isText   = isNumeric | isTruth | isOther
	anything = isObject<<1 - 1

	takesNumber = isNumber | isNumeric
	takesBool   = isBool | isTruth
	takesText   = anything &^ (isUndefined | isNull)
)

// A guess is what is known of an expression.
type guess struct {
	kinds kinds
	lit   *node // its value as a literal, if it is the same for all messages
}

// unknown is also what a mistake counts as, so that it is reported once.
var unknown = guess{kinds: anything}

func (c *checker) report(n *node, at *node, msg, expected string) guess {
	c.found = append(c.found, mistake{node: n, aliases: slices.Clone(c.aliases),
		err: newSyntaxError(c.text, at.pos, msg, expected)})
	return unknown
}

// query checks a SELECT and its WHERE.
func (c *checker) query(q *query) {
	if q.where != nil {
		if g := c.infer(q.where); g.kinds&takesBool == 0 {
			c.report(q.where, q.where, "WHERE takes a Boolean, and this is "+g.describe(), "a comparison")
			c.found[len(c.found)-1].where = true
		}
	}
	for _, it := range q.items {
		c.infer(it.expr)
	}
}

// infer finds out about n and what it is made of.
func (c *checker) infer(n *node) guess {
	switch n.op {
	case opLit:
		return guess{c.kindsOf(n.val), n}
	case opStar, opBytes, opAttr:
		return unknown
	case opVar:
		if g, ok := c.vars[n.text]; ok {
			return g
		}
		return unknown
	case opQuery, opExists:
		return c.nested(n)
	}
	kids := make([]guess, len(n.kids))
	same, known := true, true
	before := len(c.found)
	for i, k := range n.kids {
		kids[i] = c.infer(k)
		same = same && kids[i].lit != nil
	}
	if known = len(c.found) == before; !known && n.op != opArray && n.op != opObject && n.op != opCase {
		return unknown
	}
	g := c.combine(n, kids)
	if known && same && g.kinds != anything && pure(n) {
		return c.fold(n, kids, g)
	}
	return g
}

// nested checks a nested query. Its names stand for members of elements that
// nothing is known of.
func (c *checker) nested(n *node) guess {
	from := c.infer(n.sub.from)
	c.aliases = append(c.aliases, n.sub.alias)
	c.query(n.sub)
	c.aliases = c.aliases[:len(c.aliases)-1]
	switch {
	case n.op == opExists:
		return guess{kinds: isBool}
	case from.kinds&(isArray|isObject) == 0:
		return c.report(n, n.sub.from, "a nested query takes an Array or an Object, and this is "+from.describe(), "")
	}
	return unknown
}

// wants describes what an operand may be.
var wants = []struct {
	kinds kinds
	text  string
}{
	{takesNumber, "numbers"}, {takesBool, "Booleans"}, {takesNumber | isBool, "numbers and Booleans"},
	{isArray, "an Array"}, {isObject, "an Object"},
	{isArray | isObject | isText, "an Array, an Object or a String"}, {isText, "a String"},
	{takesText, "values with a string form"},
}

// need reports that n is Undefined if one of its operands can't be what it takes.
func (c *checker) need(n *node, what string, kids []guess, takes ...kinds) (g guess, wrong bool) {
	for i, k := range kids {
		take := takes[min(i, len(takes)-1)]
		if k.kinds&take != 0 {
			continue
		}
		want := ""
		for _, w := range wants {
			if w.kinds == take {
				want = w.text
			}
		}
		return c.report(n, n.kids[i], fmt.Sprintf("%s takes %s, and this is %s", what, want, k.describe()), ""), true
	}
	return guess{}, false
}

// combine finds out about n from its operands.
func (c *checker) combine(n *node, kids []guess) guess {
	yield := func(k kinds, what string, takes ...kinds) guess {
		if g, wrong := c.need(n, what, kids, takes...); wrong {
			return g
		}
		return guess{kinds: k | isUndefined}
	}
	switch n.op {
	case opMember:
		return yield(anything, "."+n.text, isObject)
	case opSpread:
		return yield(isObject, ".*", isObject)
	case opNeg:
		return yield(isNumber, "-", takesNumber)
	case opNot:
		return yield(isBool, "NOT", takesBool)
	case opArray:
		return guess{kinds: isArray}
	case opObject:
		return guess{kinds: isObject}
	case opCast:
		switch castTypes[n.text].to {
		case kindNumber:
			return yield(isNumber, "cast to "+n.text, takesNumber|isBool)
		case kindBool:
			return yield(isBool, "cast to "+n.text, takesBool|isNumber)
		}
		return yield(isText, "cast to "+n.text, takesText)
	case opCase:
		g := guess{kinds: isUndefined}
		for i, k := range kids {
			if i > 0 && (i%2 == 0 || i == len(kids)-1) {
				g.kinds |= k.kinds
			}
		}
		return g
	case opBinary:
		return c.binary(n, kids, yield)
	}
	return c.call(n, kids, yield)
}

func (c *checker) binary(n *node, kids []guess, yield func(kinds, string, ...kinds) guess) guess {
	l, r := kids[0].kinds, kids[1].kinds
	switch n.text {
	case "AND", "OR":
		return yield(isBool, n.text, takesBool)
	case "=", "<>":
		return guess{kinds: isBool | isUndefined}
	case "<", "<=", ">", ">=":
		return yield(isBool, n.text, takesNumber)
	case "IN":
		return yield(isBool, "IN", anything, isArray)
	case "+":
		g := guess{kinds: isUndefined}
		if l&isText != 0 && r&takesText != 0 || r&isText != 0 && l&takesText != 0 {
			g.kinds |= isText
		}
		if l&isNumber != 0 && r&isNumber != 0 {
			g.kinds |= isNumber
		}
		if g.kinds == isUndefined {
			return c.report(n, n, fmt.Sprintf("%s + %s has no value", kids[0].describe(), kids[1].describe()),
				"two numbers, or a String on either side")
		}
		return g
	}
	if k := kids[1].lit; (n.text == "/" || n.text == "%") && k != nil && k.val.kind == kindNumber && k.val.zero() {
		return c.report(n, n.kids[1], "a division by zero has no value", "")
	}
	return yield(isNumber, n.text, takesNumber)
}

// calls has the argument types of functions, then the result: n number, t
// text, s what has a string form, b Boolean, a Array, o Object, c what get
// takes from, v anything. Functions that are not here take and yield anything.
var calls = map[string]string{
	"abs": "n:n", "ceil": "n:n", "floor": "n:n", "round": "n:n", "sign": "n:n", "trunc": "nn:n", "mod": "nn:n",
	"remainder": "nn:n",
	"bitand":    "nn:n", "bitor": "nn:n", "bitxor": "nn:n", "bitnot": "n:n", "rand": ":n", "power": "nn:n",
	"atan2": "nn:n",
	"sqrt":  "n:n", "exp": "n:n", "ln": "n:n", "log": "n:n", "sin": "n:n", "cos": "n:n", "tan": "n:n", "sinh": "n:n",
	"cosh": "n:n", "tanh": "n:n",
	"asin": "n:n", "acos": "n:n", "atan": "n:n",
	"chr": "n:t", "startswith": "ss:b", "endswith": "ss:b", "indexof": "ss:n", "length": "s:n", "numbytes": "s:n",
	"lower": "s:t", "upper": "s:t",
	"lpad": "sn:t", "rpad": "sn:t", "ltrim": "s:t", "rtrim": "s:t", "trim": "s:t", "replace": "sss:t",
	"substring":      "snn:t",
	"regexp_matches": "ss:b", "regexp_replace": "sss:t", "regexp_substr": "ss:t",
	"md2": "s:t", "md5": "s:t", "sha1": "s:t", "sha224": "s:t", "sha256": "s:t", "sha384": "s:t", "sha512": "s:t",
	"encode": "ss:t", "get": "cv:v", "isnull": "v:b", "isundefined": "v:b", "transform": "soa:a",
	"topic": "n:t", "timestamp": ":n", "clientid": ":t", "traceid": ":t", "principal": ":t", "sourceip": ":t",
	"accountid": ":t", "sql_version": ":t",
	"newuuid": ":t", "get_mqtt_property": "s:t", "get_user_properties": "s:a", "parse_time": "sns:t",
	"time_to_epoch": "ss:n",
}

var callKinds = map[byte]kinds{
	'n': takesNumber, 's': takesText, 'b': isBool, 'a': isArray, 'o': isObject, 'c': isArray | isObject | isText,
	'v': anything, 't': isText,
}

func (c *checker) call(n *node, kids []guess, yield func(kinds, string, ...kinds) guess) guess {
	name := strings.ToLower(n.text)
	if at, msg, expected := c.slip(name, n, kids); at != nil {
		return c.report(n, at, msg, expected)
	}
	if name == "concat" {
		return c.concat(n, kids)
	}
	args, ret, ok := strings.Cut(calls[name], ":")
	if !ok {
		return unknown
	}
	var takes []kinds
	for _, a := range []byte(args) {
		takes = append(takes, callKinds[a])
	}
	k := callKinds[ret[0]]
	if ret == "n" {
		k = isNumber
	}
	return yield(k, n.text, takes...)
}

// concat is Undefined without an Array or a String, and with Null or Undefined among Strings.
func (c *checker) concat(n *node, kids []guess) guess {
	if len(kids) == 0 {
		return c.report(n, n, "concat of nothing has no value", "concat(a, b)")
	}
	if len(kids) == 1 {
		return kids[0]
	}
	var all kinds
	for _, k := range kids {
		all |= k.kinds
	}
	if all&isArray != 0 {
		return guess{kinds: isUndefined | isArray | isText}
	}
	if all&isText == 0 {
		return c.report(n, n, "concat has neither a String nor an Array to join", "")
	}
	if g, wrong := c.need(n, n.text, kids, takesText); wrong {
		return g
	}
	return guess{kinds: isUndefined | isText}
}

// slip finds modes, patterns and names among the literals of a call that no
// function knows, and points at one.
func (c *checker) slip(name string, n *node, kids []guess) (at *node, msg, expected string) {
	text := func(i int) (string, bool) { // of an argument that is a literal String
		if i >= len(kids) || kids[i].lit == nil || kids[i].lit.val.kind != kindText {
			return "", false
		}
		return kids[i].lit.text, true
	}
	oneOf := func(i int, want ...string) (*node, string, string) {
		if s, ok := text(i); ok && !slices.Contains(want, s) {
			return n.kids[i], fmt.Sprintf("%s knows no %q", n.text, s), "'" + strings.Join(want, "' or '") + "'"
		}
		return nil, "", ""
	}
	switch name {
	case "encode":
		return oneOf(1, "base64")
	case "decode":
		if len(kids) > 2 {
			return oneOf(1, "proto")
		}
		return oneOf(1, "base64")
	case "transform":
		return oneOf(0, "enrichArray")
	case "get_mqtt_property":
		return oneOf(0, "content_type", "response_topic", "correlation_data", "format_indicator")
	case "get_registry_data":
		return oneOf(0, "DescribeThing", "ListThingGroupsForThing")
	case "get_secret":
		return oneOf(1, "SecretString", "SecretBinary")
	case "regexp_matches", "regexp_replace", "regexp_substr":
		if s, ok := text(1); ok && javaregexp.Compile(s) == nil {
			return n.kids[1], "a malformed regular expression, or one that uses what is not supported", ""
		}
	case "parse_time":
		if s, ok := text(0); ok {
			if _, err := javatime.Joda(s); err != nil {
				return n.kids[0], strings.TrimPrefix(err.Error(), "javatime: "), "a pattern such as 'yyyy-MM-dd'"
			}
		}
		if s, ok := text(2); ok {
			if _, ok := javatime.Zone(s); !ok {
				return n.kids[2], fmt.Sprintf("there is no time zone %q", s),
					"a name such as 'Europe/Oslo' or an offset such as '+01:00'"
			}
		}
	case "time_to_epoch":
		if s, ok := text(1); ok {
			if err := javatime.CheckRead(s); err != nil {
				return n.kids[1], strings.TrimPrefix(err.Error(), "javatime: "), "a pattern such as 'yyyy-MM-dd'"
			}
		}
	case "mod", "remainder":
		if k := kids[1].lit; k != nil && k.val.kind == kindNumber && k.val.zero() {
			return n.kids[1], "a division by zero has no value", ""
		}
	case "get":
		switch coll, key := kids[0].kinds, kids[1].kinds; {
		case coll&(isArray|isText) == 0 && coll&isObject != 0 && key&isText == 0:
			return n.kids[1], "get takes a member of an Object by its name, and this is " + kids[1].describe(),
				"a String"
		case coll&isObject == 0 && coll&(isArray|isText) != 0 && key&takesNumber == 0:
			return n.kids[1], "get takes an element by its index, and this is " + kids[1].describe(), "a number"
		}
	}
	return nil, "", ""
}

// impure are the functions that depend on more than their arguments.
var impure = []string{
	"rand", "newuuid", "topic", "timestamp", "clientid", "traceid", "principal", "sourceip", "accountid", "sql_version",
	"get_mqtt_property", "get_user_properties", "get_thing_shadow", "get_registry_data", "get_dynamodb", "get_secret",
	"aws_lambda", "machinelearning_predict",
}

func pure(n *node) bool {
	return n.op != opCall || !slices.Contains(impure, strings.ToLower(n.text)) && len(n.kids) <= 4
}

// fold computes an expression of literals.
func (c *checker) fold(n *node, kids []guess, g guess) guess {
	lit := *n
	lit.kids = make([]*node, len(kids))
	for i, k := range kids {
		lit.kids[i] = k.lit
	}
	if c.left <= 0 {
		return g
	}
	comp := newCompiler(c.prog.version, nil, false)
	ev := comp.expr(&lit)
	f := newFrame(context.Background(), comp.done(), &Input{})
	defer f.release()
	v := ev(f)
	if c.left -= 1 + maxWork - f.left; f.err != nil {
		return g
	}
	if v.kind == kindUndefined {
		return c.report(n, n, "this has no value, whatever the message", "")
	}
	if v.kind == kindText {
		v = textValue(f.content(v))
	}
	v.b = slices.Clone(v.b)
	return guess{c.kindsOf(v), &node{op: opLit, pos: n.pos, end: n.end, text: string(v.b), val: v}}
}

// kindsOf is the one kind of a value.
func (c *checker) kindsOf(v value) kinds {
	switch v.kind {
	case kindNull:
		return isNull
	case kindBool:
		return isBool
	case kindNumber:
		return isNumber
	case kindArray:
		return isArray
	case kindObject:
		return isObject
	case kindText:
		f := newFrame(context.Background(), c.prog, &Input{})
		defer f.release()
		if _, ok := f.numeric(v); ok {
			return isNumeric
		}
		if _, ok := f.truth(v); ok {
			return isTruth
		}
		return isOther
	}
	return isUndefined
}

// describe shows a short String, and else names the types that an expression may have.
func (g guess) describe() string {
	if g.lit != nil && g.lit.val.kind == kindText && len(g.lit.text) <= 32 {
		return strconv.Quote(g.lit.text)
	}
	var all []string
	for _, k := range []struct {
		kinds kinds
		text  string
	}{
		{isNull, "Null"}, {isBool, "a Boolean"}, {isNumber, "a number"}, {isText, "a String"}, {isArray, "an Array"},
		{isObject, "an Object"},
	} {
		if g.kinds&k.kinds != 0 {
			all = append(all, k.text)
		}
	}
	if len(all) == 0 {
		return "Undefined"
	}
	return strings.Join(all, " or ")
}
