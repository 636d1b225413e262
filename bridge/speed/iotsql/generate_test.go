package iotsql

import (
	"fmt"
	"strings"
)

// A chooser makes decisions out of bytes, so that a fuzzer steers what is
// generated. Once the bytes are used up it takes the first choice, which is
// the one that ends a recursion.
type chooser struct{ data []byte }

// n chooses from 0 to k-1.
func (c *chooser) n(k int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % k
}

// one is true once in k times.
func (c *chooser) one(k int) bool { return c.n(k) == k-1 }

func pick[T any](c *chooser, from []T) T { return from[c.n(len(from))] }

// Names that generated statements use, by what generated payloads mostly
// have under them; elements of nested queries have the same.
var namesOf = map[byte][]string{
	'n': {"n", "m", "k", "value"}, 's': {"s", "t"}, 'b': {"b"}, 'a': {"a", "l"}, 'o': {"o"},
	'v': {"z", "gone", "n", "s", "a", "o"},
}

// signatures are the functions that yield the same each time: arguments, then
// the result. n number, s text, b Boolean, a array, o object, v anything;
// capitals are literals.
var signatures = []struct {
	name, args string
	ret        byte
}{
	{"abs", "n", 'n'}, {"ceil", "n", 'n'}, {"floor", "n", 'n'}, {"round", "n", 'n'}, {"sign", "n", 'n'},
	{"trunc", "nn", 'n'},
	{"mod", "nn", 'n'}, {"remainder", "nn", 'n'}, {"bitand", "nn", 'n'}, {"bitor", "nn", 'n'}, {"bitxor", "nn", 'n'},
	{"bitnot", "n", 'n'},
	{"nanvl", "vv", 'v'}, {"power", "nn", 'n'}, {"atan2", "nn", 'n'}, {"sqrt", "n", 'n'}, {"exp", "n", 'n'},
	{"ln", "n", 'n'}, {"log", "n", 'n'},
	{"sin", "n", 'n'}, {"cos", "n", 'n'}, {"tan", "n", 'n'}, {"sinh", "n", 'n'}, {"cosh", "n", 'n'}, {"tanh", "n", 'n'},
	{"asin", "n", 'n'}, {"acos", "n", 'n'}, {"atan", "n", 'n'},
	{"chr", "n", 's'}, {"concat", "ss", 's'}, {"concat", "av", 'a'}, {"concat", "vvv", 'v'}, {"concat", "v", 'v'},
	{"concat", "", 'v'},
	{"startswith", "ss", 'b'}, {"endswith", "ss", 'b'}, {"indexof", "ss", 'n'}, {"length", "s", 'n'},
	{"numbytes", "s", 'n'},
	{"lower", "s", 's'}, {"upper", "s", 's'}, {"lpad", "sn", 's'}, {"rpad", "sn", 's'}, {"ltrim", "s", 's'},
	{"rtrim", "s", 's'}, {"trim", "s", 's'},
	{"replace", "sss", 's'}, {"substring", "sn", 's'}, {"substring", "snn", 's'},
	{"regexp_matches", "sR", 'b'}, {"regexp_replace", "sRG", 's'}, {"regexp_substr", "sR", 's'},
	{"md2", "s", 's'}, {"md5", "s", 's'}, {"sha1", "s", 's'}, {"sha224", "s", 's'}, {"sha256", "s", 's'},
	{"sha384", "s", 's'}, {"sha512", "s", 's'},
	{"encode", "vM", 's'}, {"encode", "*M", 's'}, {"decode", "sM", 'v'},
	{"get", "an", 'v'}, {"get", "os", 'v'}, {"get", "sn", 's'}, {"get_or_default", "vv", 'v'},
	{"get_or_default", "v", 'v'},
	{"isNull", "v", 'b'}, {"isUndefined", "v", 'b'}, {"transform", "Eoa", 'a'},
	{"topic", "", 's'}, {"topic", "n", 's'}, {"timestamp", "", 'n'}, {"clientid", "", 's'}, {"traceid", "", 's'},
	{"principal", "", 's'},
	{"sourceip", "", 's'}, {"accountid", "", 's'}, {"sql_version", "", 's'}, {"get_mqtt_property", "Q", 's'},
	{"get_user_properties", "", 'a'}, {"get_user_properties", "s", 'a'},
	{"parse_time", "Pn", 's'}, {"parse_time", "PnZ", 's'}, {"time_to_epoch", "sT", 'n'},
}

// literals are the texts for the capital letters of signatures, and for s.
var literalTexts = map[byte][]string{
	'M': {"base64"}, 'E': {"enrichArray"}, 'Q': {"content_type", "correlation_data", "format_indicator", "other"},
	'R': {"a", "[0-9]+", "(b)(c)?", "^", "x$", "é|z", "(", ".*"}, 'G': {"<$1>", "", "$0$0", "-"},
	'P': {"yyyy-MM-dd'T'HH:mm:ss.SSSZ", "EEE d MMM", "h:mm a", "b"}, 'Z': {"UTC", "Europe/Oslo", "+05:30", "Nowhere"},
	'T': {"yyyy-MM-dd", "yyyy-MM-dd HH:mm", "q"},
	's': {"", "abc", "true", "False", "5", " 5", "-10.0", "1E3", "1E+3", "1e-3", ".5", "it's", `say "x"`, "é😀z", "\tx ",
		"2020-02-29", "eyJuIjoxLjB9", "W10=", "IngxIg==", "%%", "k", "n", "\\", "a\nb"},
}

var literalNumbers = []string{
	"0", "1", "2", "3", "10", "0.5", "1.50", "2.0", "10.0", "1E2", "1e-3", "7", "255", "34", "1000", "0.1", "100.25",
	"9007199254740993", "9223372036854775807", "9223372036854775808", "123456789012345678", "1234567890123456789.5",
	"9999999999999999999999999999999999", "99999999999999999999999999999999995", "1.000000000000000000000000000000001",
	"9.99E999", "1E-999", "1E30", "0.0", "1481825251155",
}

// A generator makes syntax trees.
type generator struct {
	*chooser
	modern  bool
	vars    []string
	aliases []string // of nested queries around
	nested  int      // nested queries around
	depth   int
}

func (g *generator) statement() *query {
	q := &query{}
	for i := range g.n(8) - 5 {
		name := fmt.Sprintf("v%d", i)
		q.sets = append(q.sets, assignment{name, g.expr('v')})
		g.vars = append(g.vars, name)
	}
	g.list(q)
	q.hasFrom, q.filter = true, "t/#"
	if g.one(2) {
		q.where = g.expr('b')
	}
	return q
}

var aliasNames = [][]string{{"r"}, {"q"}, {"n"}, {"s"}, {"a"}, {"o"}, {"x", "y"}, {"x", "z"}, {"x"}, {"x", "y", "w"},
	{"end"}, {"z"}}

// list makes a SELECT list.
func (g *generator) list(q *query) {
	if g.one(5) {
		q.value = true
		q.items = []item{{expr: g.expr('v')}}
		return
	}
	for range 1 + g.n(4) {
		var it item
		switch {
		case g.one(5):
			it.expr = &node{op: opStar, text: "*"}
			if g.one(3) {
				it.expr = &node{op: opSpread, text: "*", kids: []*node{g.leaf('o')}}
			}
			if g.one(4) {
				it.name = pick(g.chooser, aliasNames)
			}
		default:
			it.expr = g.expr('v')
			it.name = pick(g.chooser, aliasNames)
			if implied := impliedName(it.expr); implied != "" && g.one(2) {
				it.name = []string{implied}
			}
		}
		q.items = append(q.items, it)
	}
}

// expr makes an expression that yields what want says, more often than not.
func (g *generator) expr(want byte) *node {
	g.depth++
	defer func() { g.depth-- }()
	if want == 'v' {
		want = "nsnsbaovn"[g.n(9)]
	}
	if g.one(12) {
		want = 'v'
	}
	if g.depth > 6 {
		return g.leaf(want)
	}
	switch g.n(8) {
	case 0, 1, 2:
		return g.leaf(want)
	case 3:
		return g.conditional(want)
	case 4, 5:
		return g.call(want)
	}
	return g.operation(want)
}

func (g *generator) leaf(want byte) *node {
	if len(g.vars) > 0 && g.one(6) {
		return &node{op: opVar, text: pick(g.chooser, g.vars)}
	}
	if len(g.aliases) > 0 && g.one(4) {
		return &node{op: opAttr, text: pick(g.chooser, g.aliases)}
	}
	switch g.n(3) {
	case 1:
		if g.one(6) {
			return &node{op: opStar, text: "*"}
		}
		return g.constant(want)
	case 2:
		base := &node{op: opAttr, text: pick(g.chooser, namesOf['o'])}
		for range g.n(3) {
			base = &node{op: opMember, text: "o", kids: []*node{base}}
		}
		return &node{op: opMember, text: pick(g.chooser, namesOf[want]), kids: []*node{base}}
	}
	return &node{op: opAttr, text: pick(g.chooser, namesOf[want])}
}

func (g *generator) constant(want byte) *node {
	switch want {
	case 'n':
		text := pick(g.chooser, literalNumbers)
		v, _ := parseNumber([]byte(text), false)
		if g.one(3) && !v.zero() {
			v = negate(v)
		}
		return &node{op: opLit, text: text, val: v}
	case 'b':
		if g.one(2) {
			return &node{op: opLit, text: "FALSE", val: boolValue(false)}
		}
		return &node{op: opLit, text: "TRUE", val: boolValue(true)}
	case 'a', 'o':
		if g.modern && g.depth < 7 {
			return g.document(want)
		}
	case 'v':
		return &node{op: opLit, text: "NULL", val: value{kind: kindNull}}
	}
	if literalTexts[want] == nil {
		want = 's'
	}
	return literal(pick(g.chooser, literalTexts[want]))
}

func literal(s string) *node { return &node{op: opLit, text: s, val: textValue([]byte(s))} }

func (g *generator) document(want byte) *node {
	n := &node{op: opArray}
	if want == 'o' {
		n.op = opObject
	}
	for range g.n(4) {
		n.kids = append(n.kids, g.expr('v'))
		if want == 'o' {
			n.names = append(n.names, pick(g.chooser, []string{"n", "s", "q", "o", "a b", "é", `"`}))
		}
	}
	return n
}

func (g *generator) conditional(want byte) *node {
	subject := "ns"[g.n(2)]
	n := &node{op: opCase, kids: []*node{g.expr(subject)}}
	for range 1 + g.n(2) {
		n.kids = append(n.kids, g.expr(subject), g.expr(want))
	}
	if g.one(2) {
		n.kids = append(n.kids, g.expr(want))
	}
	return n
}

func (g *generator) call(want byte) *node {
	// A function that fits, or one that is as good as it gets.
	var n *node
	from := g.n(len(signatures))
	for i := range signatures {
		s := signatures[(from+i)%len(signatures)]
		fn := functions[strings.ToLower(s.name)]
		if fn.modern && !g.modern || want != 'v' && s.ret != 'v' && s.ret != want {
			continue
		}
		n = &node{op: opCall, text: s.name, fn: fn}
		for _, a := range []byte(s.args) {
			switch {
			case a == '*':
				n.kids = append(n.kids, &node{op: opStar, text: "*"})
			case a < 'a':
				n.kids = append(n.kids, literal(pick(g.chooser, literalTexts[a])))
			default:
				n.kids = append(n.kids, g.expr(a))
			}
		}
		if s.name == "encode" && n.kids[0].op == opStar && g.nested == 0 {
			n.kids[0].op = opBytes
		}
		return n
	}
	return g.leaf(want)
}

var casts = map[byte][]string{
	'n': {"int", "decimal", "double", "integer"}, 's': {"string", "varchar", "text", "nvarchar", "ntext"},
	'b': {"bool", "boolean"},
}

func (g *generator) operation(want byte) *node {
	binary := func(op string, kinds byte) *node {
		return &node{op: opBinary, text: op, kids: []*node{g.expr(kinds), g.expr(kinds)}}
	}
	if c := casts[want]; c != nil && g.one(4) {
		if typ := pick(g.chooser, c); g.modern || !castTypes[typ].modern {
			return &node{op: opCast, text: typ, kids: []*node{g.expr('v')}}
		}
	}
	switch want {
	case 'n':
		if g.one(6) {
			return &node{op: opNeg, kids: []*node{g.expr('n')}}
		}
		return binary(pick(g.chooser, []string{"+", "-", "*", "/", "%"}), 'n')
	case 's':
		return binary("+", "sv"[g.n(2)])
	case 'b':
		switch g.n(5) {
		case 0:
			return binary(pick(g.chooser, []string{"<", "<=", ">", ">="}), 'n')
		case 1:
			return binary(pick(g.chooser, []string{"=", "<>"}), "nsbaov"[g.n(6)])
		case 2:
			return binary(pick(g.chooser, []string{"AND", "OR"}), 'b')
		case 3:
			return &node{op: opNot, kids: []*node{g.expr('b')}}
		}
		if g.modern && g.one(2) {
			return &node{op: opExists, sub: g.subquery('a')}
		}
		return &node{op: opBinary, text: "IN", kids: []*node{g.expr('v'), g.expr('a')}}
	}
	if !g.modern {
		return g.leaf(want)
	}
	if g.one(2) {
		return g.document("ao"[g.n(2)])
	}
	if want == 'v' {
		want = 'a'
	}
	return &node{op: opQuery, sub: g.subquery(want)}
}

func (g *generator) subquery(want byte) *query {
	q := &query{hasFrom: true}
	switch g.n(4) {
	case 1:
		q.from = &node{op: opMember, text: pick(g.chooser, namesOf[want]), kids: []*node{{op: opAttr, text: "o"}}}
	case 2:
		q.from = g.document('a')
	case 3:
		q.from = g.leaf(want)
	}
	if q.from == nil || q.from.op != opAttr && q.from.op != opMember && q.from.op != opVar && q.from.op != opArray &&
		q.from.op != opStar {
		q.from = &node{op: opAttr, text: pick(g.chooser, namesOf[want])}
	}
	g.nested++
	defer func() { g.nested-- }()
	if g.one(2) {
		q.alias = pick(g.chooser, []string{"e", "f", "n"})
	}
	if q.alias != "" {
		g.aliases = append(g.aliases, q.alias)
		defer func() { g.aliases = g.aliases[:len(g.aliases)-1] }()
	}
	g.list(q)
	if g.one(2) {
		q.where = g.expr('b')
	}
	return q
}

// payload makes a payload: most often an object with the names that
// statements use.
func (c *chooser) payload() string {
	switch c.n(16) {
	case 13:
		return pick(c, []string{"", "  ", "\x80\x01\x02", "{", `{"n":1,}`, `{"n":01}`, "{\"s\":\"\xff\"}", "hello",
			`{"n":1} 2`, strings.Repeat("[", 129) + strings.Repeat("]", 129)})
	case 14:
		return c.space() + c.value("nsbazl"[c.n(6)], 3) + c.space()
	case 15:
		return strings.Repeat(`{"o":`, 127) + "{}" + strings.Repeat("}", 127)
	}
	return c.space() + c.value('o', 3) + c.space()
}

func (c *chooser) space() string {
	if c.one(12) {
		return pick(c, []string{" ", "\n\t", "\r"})
	}
	return ""
}

var payloadNumbers = append([]string{
	"-0", "-0.0", "0e5", "0e-50", "1e0", "1E+3", "5e-1", "-1e40", "-1e-40", "-1.5", "-2.5", "2.5", "-0.5", "100e-2",
	"1e40", "1e999", "1e1000", "1e-1000",
	"-9223372036854775808", "-9223372036854775809", "18446744073709551616", "3.14159", "20", "-7", "1e33", "1e34",
	"10.00",
	"0.0000001", "0.00000012345678901234567890", "123456789012345678901234567890123456", "2e-400", "1e100001",
}, literalNumbers...)

var payloadTexts = append([]string{`\u0041\/`, `\ud83d\ude00`, `\ud800`, `\ud800\u0041`, `\"\\`, `\u0000`, "\u007f",
	`\b\f`}, literalTexts['s']...)

// value writes a value as JSON.
func (c *chooser) value(kind byte, depth int) string {
	if c.one(12) {
		kind = "nsbzaol"[c.n(7)]
	}
	switch kind {
	case 'n':
		return pick(c, payloadNumbers)
	case 's':
		return c.quoted(pick(c, payloadTexts))
	case 'b':
		return pick(c, []string{"true", "false"})
	case 'v', 'z':
		return "null"
	}
	if depth == 0 {
		return pick(c, []string{"[]", "{}", "1", `"x"`, "[ ]"})
	}
	var b strings.Builder
	if kind != 'o' {
		b.WriteString("[" + c.space())
		for i := range c.n(4) {
			if i > 0 {
				b.WriteString("," + c.space())
			}
			inner := byte('o')
			if kind == 'l' {
				inner = "ns"[c.n(2)]
			}
			b.WriteString(c.value(inner, depth-1) + c.space())
		}
		return b.String() + "]"
	}
	b.WriteString("{" + c.space())
	first := true
	for _, kind := range []byte("nnsbzaolnsba") {
		if c.one(3) {
			continue
		}
		name := map[byte]string{'z': "z", 'l': "l"}[kind]
		if name == "" {
			name = pick(c, namesOf[kind])
		}
		if name == "n" && c.one(16) {
			name = `\u006e`
		}
		if !first {
			b.WriteString("," + c.space())
		}
		first = false
		b.WriteString(`"` + name + `"` + c.space() + ":" + c.space() + c.value(kind, depth-1) + c.space())
	}
	return b.String() + "}"
}

// quoted writes text as a JSON string; backslashes that don't escape are
// escaped.
func (c *chooser) quoted(s string) string {
	if s == `\` || !strings.Contains(s, `\`) {
		s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s)
	}
	return `"` + s + `"`
}
