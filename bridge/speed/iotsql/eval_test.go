package iotsql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/deploy/nightly"
)

func mustCompile(t testing.TB, sql, version string) *Statement {
	t.Helper()
	s, err := Compile(sql, version)
	if err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
	return s
}

// evalTests hold what the conformance vectors don't: the exact bytes, and
// our readings where the guide is silent. sel stands between SELECT and FROM.
var evalTests = []struct {
	name, sel, where, payload, want string // want "-": does not fire
}{
	// how members are found and copied
	{"order is the list's", `b, a`, ``, `{"a":1,"b":2}`, `{"b":2,"a":1}`},
	{"names are case-sensitive", `A, a`, ``, `{"a":1}`, `{"a":1}`},
	{"the last duplicate wins", `a`, `a = 2`, `{"a":1,"a":2}`, `{"a":2}`},
	{"also in a path", `o.a AS a`, ``, `{"o":{"a":1,"a":2}}`, `{"a":2}`},
	{"also through get", `get(o, 'a') AS a`, ``, `{"o":{"a":1,"a":2}}`, `{"a":2}`},
	{"* keeps duplicates", `*, 1 AS n`, ``, `{"a":1,"a":2}`, `{"a":1,"a":2,"n":1}`},
	{"escaped names", `a`, ``, `{"\u0061":5}`, `{"a":5}`},
	{"escaped text is copied as it is", `a`, ``, `{"a":"\u0041\/\n"}`, `{"a":"\u0041\/\n"}`},
	{"and understood", `lower(a) AS r`, `a = 'A/'`, `{"a":"\u0041\/"}`, `{"r":"a/"}`},
	{"surrogates", `length(a) AS r`, ``, `{"a":"\ud83d\ude00\ud800"}`, `{"r":2}`},
	{"space within members is kept", `a`, ``, `{"a" : [1, 2] }`, `{"a":[1, 2]}`},
	{"but not in the string form", `'' + a AS r`, ``, `{"a" : {"x y" : [1, "\" "] }}`,
		`{"r":"{\"x y\":[1,\"\\\" \"]}"}`},
	{"nor are escapes, nor whole Decimals", `'' + a AS r, length(a) AS n`, ``,
		`{"a":["\u0041\/\u000a\b","\ud83d\ude00",10.0,1.50]}`, `{"r":"[\"A/\\n\\b\",\"😀\",10,1.50]","n":22}`},
	{"numbers keep their spelling", `a, b, c`, ``, `{"a":1.50,"b":1e-7,"c":123456789012345678901234567890123456789}`,
		`{"a":1.50,"b":1e-7,"c":123456789012345678901234567890123456789}`},
	{"whole Decimals become Int", `a, b, c, d`, ``, `{"a":10.0,"b":1e2,"c":-0.0,"d":1e40}`,
		`{"a":10,"b":100,"c":0,"d":1e40}`},
	{"names that are words", `value, set, a.end, a.select.from AS f`, ``,
		`{"value":1,"set":2,"a":{"end":3,"select":{"from":4}}}`, `{"value":1,"set":2,"end":3,"f":4}`},
	{"a lone attribute called value", `value.x`, ``, `{"value":{"x":1}}`, `{"x":1}`},

	// what isn't an object
	{"an array under *", `*`, ``, `[1,2]`, `[1,2]`},
	{"an array can't be merged", `*, 1 AS n`, ``, `[1,2]`, `{"n":1}`},
	{"an array nested", `* AS m`, ``, `[1,2]`, `{"m":[1,2]}`},
	{"an array's element", `get(*, 0) AS a, get(get(*, 1), 'b') AS b`, `get(*, 0) = 7`, `[7,{"b":8}]`, `{"a":7,"b":8}`},
	{"a scalar in an expression", `* + 1 AS n, [*, -*] AS l`, `* > 79`, `80`, `{"n":81,"l":[80,-80]}`},
	{"binary in an expression", `{'p': *} AS o, isUndefined(*) AS u`, ``, "\x80", `{"o":{"p":"gA=="},"u":false}`},
	{"nothing in an expression", `{'p': *} AS o`, `* = {}`, ``, `{"o":{"p":{}}}`},
	{"an array's attributes", `a, 1 AS n`, ``, `[{"a":1}]`, `{"n":1}`},
	{"binary nested", `* AS m`, ``, "\x80", `{"m":"gA=="}`},
	{"nothing nested", `* AS m`, ``, ``, `{"m":{}}`},
	{"broken JSON has no attributes", `a, 1 AS n`, ``, `{"a":1,}`, `{"n":1}`},
	{"nor has JSON with more after it", `a, 1 AS n`, ``, `{"a":1} {}`, `{"n":1}`},
	{"nor text that isn't UTF-8", `a, 1 AS n`, ``, "{\"a\":1,\"b\":\"\xff\"}", `{"n":1}`},
	{"space around is fine", `a`, ``, " \n{\"a\":1}\t ", `{"a":1}`},

	// aliases and *
	{"a later item replaces an earlier", `a AS x, b AS x`, ``, `{"a":1,"b":2}`, `{"x":2}`},
	{"unless it is Undefined", `a AS x, b AS x`, ``, `{"a":1}`, `{"x":1}`},
	{"an alias replaces a member of *", `*, 1 AS a`, ``, `{"a":5,"b":6}`, `{"b":6,"a":1}`},
	{"unless it is Undefined too", `*, q AS a`, ``, `{"a":5,"b":6}`, `{"a":5,"b":6}`},
	{"a * after replaces an alias", `1 AS a, 2 AS c, *`, ``, `{"a":5,"b":6}`, `{"a":5,"b":6,"c":2}`},
	{"dotted aliases nest", `a AS x.y, b AS x.z.w, 1 AS q`, ``, `{"a":1,"b":2}`, `{"x":{"y":1,"z":{"w":2}},"q":1}`},
	{"and vanish when empty", `q AS x.y`, ``, `{}`, `{}`},
	{"a leaf after a nest", `1 AS x.y, 2 AS x`, ``, `{}`, `{"x":2}`},
	{"a nest after a leaf", `2 AS x, 1 AS x.y`, ``, `{}`, `{"x":{"y":1}}`},
	{"implied names", `a.b, topic(1), get(c, 0), cast(d AS Int)`, ``, `{"a":{"b":1},"c":[2],"d":"3"}`,
		`{"b":1,"topic":"t","get":2,"cast":3}`},
	{"VALUE of nothing", `VALUE q`, ``, `{}`, ``},
	{"VALUE of text", `VALUE a`, ``, `{"a":"x\"y"}`, `"x\"y"`},

	{"VALUE with a name that names nothing", `VALUE a AS b`, ``, `{"a":"x"}`, `"x"`},
	{"VALUE of all with a name", `VALUE * AS b`, ``, `{"a":"x"}`, `{"a":"x"}`},
	{"VALUE of a product with *", `VALUE * * 2`, ``, `80`, `160`},

	// * as an expression, and path.*
	{"names that can't be written", `get(get(*, 'DS18B20-1'), 'Temperature') AS t, get(*, 'serial.no') AS n`,
		`get(*, 'serial.no') = '7'`,
		`{"DS18B20-1":{"Temperature":17.75},"serial.no":"7"}`, `{"t":17.75,"n":"7"}`},
	{"a member of *", `*.a AS r, *.a.b`, ``, `{"a":{"b":1}}`, `{"r":{"b":1},"b":1}`},
	{"* in literals", `[*] AS l, {'a': *, 'b': a.*, } AS o`, ``, `{"a":{"c":1}}`,
		`{"l":[{"a":{"c":1}}],"o":{"a":{"a":{"c":1}},"b":{"c":1}}}`},
	{"* in CASE and cast", `CASE a WHEN 1 THEN * END AS r, cast(* AS String) AS s`, ``, `{"a":1}`,
		`{"r":{"a":1},"s":"{\"a\":1}"}`},
	{"* in functions", `isNull(*) AS r, length(*) AS s, decode(encode(*, 'base64'), 'base64') AS t`,
		`NOT isUndefined(*)`, `{ "a": 1}`, `{"r":false,"s":7,"t":{ "a": 1}}`},
	{"members of a member", `state.reported.*, topic(1) AS id`, ``, `{"state":{"reported":{"temp":21.5,"hum":40}}}`,
		`{"temp":21.5,"hum":40,"id":"t"}`},
	{"members of a member alone", `a.*`, `a.* = {'b': 1}`, `{"a":{"b":1}}`, `{"b":1}`},
	{"what has no members to spread", `a.*, q.*, 1 AS n`, ``, `{"a":5}`, `{"n":1}`},
	{"of several spread objects the last wins", `*, a.*, b.*`, ``, `{"a":{"x":1,"y":2},"b":{"y":3,"a":4}}`,
		`{"b":{"y":3,"a":4},"x":1,"y":3,"a":4}`},
	{"an alias before and after a spread object", `1 AS x, 2 AS y, a.*, 3 AS y, 4 AS z`, ``,
		`{"a":{"x":5,"y":6,"z":7}}`, `{"x":5,"y":3,"z":4}`},
	{"members of a call and of a literal", `get(l, 0).*, {'n': 1}.*, [].*`, ``, `{"l":[{"a":1}]}`, `{"a":1,"n":1}`},
	{"a named spread nests", `a.* AS r`, ``, `{"a":{"x":1}}`, `{"r":{"x":1}}`},
	{"VALUE of members", `VALUE a.*`, ``, `{"a":{"x":1}}`, `{"x":1}`},
	{"members of elements", `(SELECT e.*, o.*, 1 AS n FROM l AS e) AS r`, ``, `{"l":[{"a":1,"o":{"b":2}},3]}`,
		`{"r":[{"a":1,"o":{"b":2},"b":2,"n":1},{"n":1}]}`},
	{"* in a nested query is the element",
		`(SELECT VALUE get(*, 'a b') FROM l WHERE * <> {}) AS r, (SELECT VALUE encode(*, 'base64') FROM m) AS s`, ``,
		`{"l":[{"a b":1},{}],"m":["x"]}`, `{"r":[1],"s":["eA=="]}`},
	{"a nested query over *", `(SELECT VALUE a FROM *) AS e`, ``, `[{"a":1}]`, `{"e":[1]}`},
	{"also over an object, and in WHERE", `(SELECT a, b.* FROM *) AS e`, `EXISTS (SELECT * FROM * WHERE a = 1)`,
		`{"a":1,"b":{"c":2}}`, `{"e":{"c":2,"a":1}}`},
	{"a nested query over the element", `(SELECT VALUE (SELECT VALUE x FROM * AS x) FROM l) AS r`, ``,
		`{"l":[[1,2],[3]]}`, `{"r":[[1,2],[3]]}`},

	// value as a name
	{"value first in the list", `value * 2 AS a, value`, ``, `{"value":5}`, `{"a":10,"value":5}`},
	{"value first, plus", `value + 1 AS v`, ``, `{"value":5}`, `{"v":6}`},
	{"value first, minus", `value - 2 AS v`, ``, `{"value":5}`, `{"v":3}`},
	{"value first, minus in front of others", `value - (2) AS a, 1 AS b`, ``, `{"value":5}`, `{"a":3,"b":1}`},
	{"value first, compared", `value > 5 AS v`, ``, `{"value":5}`, `{"v":false}`},
	{"value first, other operators", `value IN [5] AS a, value % 2 AS b, value = 5 AND true AS c, value != 5 AS d`, ``,
		`{"value":5}`, `{"a":true,"b":1,"c":true,"d":false}`},
	{"value in brackets and calls", `(value * 2) AS a, abs(value) AS b, [value - 1] AS c`, ``, `{"value":5}`,
		`{"a":10,"b":5,"c":[4]}`},
	{"value in a nested query", `(SELECT value * 2 AS d FROM l) AS r, (SELECT VALUE value FROM l) AS s`, ``,
		`{"l":[{"value":5}]}`, `{"r":[{"d":10}],"s":[5]}`},
	{"value times a negative", `value * -2 AS v`, ``, `{"value":5}`, `{"v":-10}`},
	{"VALUE of a negative", `VALUE -5`, ``, `{"value":5}`, `-5`},
	{"VALUE of a negative in brackets", `VALUE (- a)`, ``, `{"a":5}`, `-5`},

	// numbers
	{"exact decimals", `a + b AS r`, ``, `{"a":0.1,"b":0.2}`, `{"r":0.3}`},
	{"beyond int64", `a * a AS r`, ``, `{"a":9223372036854775807}`, `{"r":8.507059173023461584739690778423250E37}`},
	{"34 digits", `a / b AS r`, ``, `{"a":1,"b":3.5}`, `{"r":0.2857142857142857142857142857142857}`},
	{"Int division is cut", `a / 2 AS r, -7 / 2 AS s`, ``, `{"a":7}`, `{"r":3,"s":-3}`},
	{"a Decimal literal makes it Decimal", `a / 2.0 AS r`, ``, `{"a":7}`, `{"r":3.5}`},
	{"division by zero", `1 / 0 AS r, 1 % 0 AS s, 1.5 / 0.0 AS q, mod(1, 0) AS m`, ``, `{}`, `{}`},
	{"out of range", `a * 10 AS r, a AS same, a / 1E999 / 1E999 / 10 AS s`, ``, `{"a":9e999}`, `{"same":9e999}`},
	{"nor by less than a power of ten", `a + 9.99E999 AS r, b - 1.4E-999 AS s`, ``, `{"a":1e999,"b":1.5e-999}`, `{}`},
	{"too large to compute with", `a + 1 AS r, a`, `isUndefined(a > 1)`, `{"a":1e1000}`, `{"a":1e1000}`},
	{"negation", `-a AS r, - -a AS s, -'5' AS q, -b AS u`, ``, `{"a":5,"b":true}`, `{"r":-5,"s":5,"q":-5}`},
	{"remainder has the dividend's sign", `-7 % 3 AS r, 7 % -3 AS s, -7.5 % 2 AS q`, ``, `{}`,
		`{"r":-1,"s":1,"q":-1.5}`},
	{"huge remainder", `1E900 % 7 AS r`, ``, `{}`, `{"r":1}`},
	{"bits of negatives", `bitand(-1, 255) AS r, bitnot(0) AS s`, ``, `{}`, `{"r":255,"s":-1}`},
	{"bits of long Ints", `bitor(1E30, 1) AS r, bitxor(a, -1) AS s, bitnot(a) AS q, bitnot(9999999999999999999999999999999999) AS u`,
		``, `{"a":18446744073709551615}`,
		`{"r":1000000000000000000000000000001,"s":-18446744073709551616,"q":-18446744073709551616}`},
	{"less than a tenth", `floor(a) AS r, ceil(a) AS s, ceil(b) AS q, floor(b) AS u, round(a) AS v`, ``,
		`{"a":-0.001,"b":1e-300}`, `{"r":-1,"s":0,"q":1,"u":0,"v":0}`},
	{"a leaf erases what was nested", `1 AS x.y, 2 AS x, 3 AS x.z, 4 AS q.y, w AS q`, ``, `{}`,
		`{"x":{"z":3},"q":{"y":4}}`},
	{"doubles", `sqrt(2) AS r, power(2, 0.5) AS s, sqrt(-1) AS q, ln(0) AS u`, ``, `{}`,
		`{"r":1.4142135623730951,"s":1.4142135623730951}`},
	{"string forms", `'' + a + ' ' + b + ' ' + c AS r`, ``, `{"a":1.50,"b":1e-9,"c":true}`, `{"r":"1.50 1e-9 true"}`},
	{"computed string forms", `'' + a * 1 + ' ' + a * 1E20 AS r`, ``, `{"a":1e-15}`, `{"r":"1E-15 100000"}`},

	// three-valued logic
	{"false and Undefined", `1 AS n`, `isUndefined(a > 1 AND q > 1) AND isUndefined(q > 1 AND a > 1)`, `{"a":0}`,
		`{"n":1}`},
	{"true or Undefined", `1 AS n`, `isUndefined(a > 1 OR q > 1)`, `{"a":2}`, `{"n":1}`},
	{"not Undefined", `1 AS n`, `NOT q`, `{}`, `-`},
	{"the text true", `1 AS n`, `a`, `{"a":"True"}`, `{"n":1}`},
	{"one is not true", `1 AS n`, `a`, `{"a":1}`, `-`},

	// text
	{"quotes", `'it''s' AS a, "say ""x""" AS b, 'back\slash' AS c`, ``, `{}`,
		`{"a":"it's","b":"say \"x\"","c":"back\\slash"}`},
	{"control characters", `chr(0) + chr(9) + chr(10) + chr(31) AS r`, ``, `{}`, `{"r":"\u0000\t\n\u001f"}`},
	{"far from any index", `lpad('x', -1E40) AS r, trunc(1.5, -1E40) AS s, substring('abc', -1E40) AS q, topic(-1E40) AS u`,
		``, `{}`, `{"r":"x","s":1,"q":"abc"}`},
	{"substring counts characters", `substring('aé😀z', 1, 3) AS r, indexof('aé😀z', 'z') AS i`, ``, `{}`,
		`{"r":"é😀","i":3}`},
	{"substring clamps", `substring('abc', -5, 99) AS r, substring('abc', 2, 1) AS s, substring('abc', 1E300) AS q`, ``,
		`{}`, `{"r":"abc","s":"","q":""}`},
	{"groups", `regexp_replace('2026-11-23', '(\d+)-(\d+)-(\d+)', '$3/$2/$1 \$1') AS r, regexp_replace('a', '(a)', '$2') AS q`,
		``, `{}`, `{"r":"23/11/2026 $1"}`},
	{"$10 with fewer groups is $1 and 0", `regexp_replace('ab', '(a)(b)', '$10') AS r`, ``, `{}`, `{"r":"a0"}`},
	{"lookahead and backreferences", `regexp_matches('foobar', 'foo(?=bar)') AS r, regexp_substr('abccd', ` +
		`'(.)\1') AS s, regexp_replace(a, b, '<${v}>') AS t`,
		``, `{"a":"xéé1","b":"(?<v>é)++(?!2)"}`, `{"r":true,"s":"cc","t":"x<é>1"}`},
	{"replace nothing", `replace('abc', '', '-') AS r`, ``, `{}`, `{"r":"-a-b-c-"}`},

	// documents
	{"concat of arrays", `concat([], [1, 2], 'x', q, [], {'a': q}) AS r`, ``, `{}`, `{"r":[1,2,"x",{}]}`},
	{"arrays without Undefined", `[1, q, 2] AS r`, ``, `{}`, `{"r":[1,2]}`},
	{"objects are equal in any order", `1 AS n`, `a = b AND a <> c`,
		`{"a":{"x":1,"y":[{}]},"b":{"y":[{}],"x":1.0},"c":{"x":1,"y":[]}}`, `{"n":1}`},
	{"and by their last duplicate", `1 AS n`, `a = b`, `{"a":{"x":1,"x":2},"b":{"x":2}}`, `{"n":1}`},
	{"enrichArray", `VALUE transform('enrichArray', o, a)`, ``, `{"o":{"k":1},"a":[{"x":1,"k":2},3,{}]}`,
		`[{"k":1,"x":1},3,{"k":1}]`},
	{"a name in a nested query is the element's", `(SELECT VALUE a FROM e) AS r`, ``, `{"a":1,"e":[{"a":2},{}]}`,
		`{"r":[2]}`},
	{"nested in nested", `(SELECT (SELECT VALUE x.v * 2 FROM l AS x) AS d FROM e) AS r`, ``,
		`{"e":[{"l":[{"v":1},{"v":2}]},{"l":[]}]}`, `{"r":[{"d":[2,4]},{"d":[]}]}`},
	{"the outer alias inside", `(SELECT VALUE (SELECT VALUE x.k + y FROM x.l AS y) FROM e AS x) AS r`, ``,
		`{"e":[{"k":10,"l":[1,2]}]}`, `{"r":[[11,12]]}`},
	{"over an object", `(SELECT a FROM o WHERE a > 1) AS r, (SELECT VALUE a FROM o WHERE a > 2) AS s`, ``,
		`{"o":{"a":2}}`, `{"r":{"a":2}}`},
	{"* in a nested query", `(SELECT *, 1 AS n FROM e) AS r`, ``, `{"e":[{"a":1},5]}`, `{"r":[{"a":1,"n":1},{"n":1}]}`},
	{"a literal as the source", `(SELECT VALUE x * 2 FROM [1, 2] AS x) AS r`, ``, `{}`, `{"r":[2,4]}`},

	// time
	{"Joda patterns", `parse_time("EEE, d MMM yy h:mm:ss.SSS a ZZ 'o''clock' D w e", 1481825251155, '+05:30') AS r`, ``,
		`{}`, `{"r":"Thu, 15 Dec 16 11:37:31.155 PM +05:30 o'clock 350 50 4"}`},
	{"an unknown letter", `parse_time('yyyy-bb', 0) AS r, 1 AS n`, ``, `{}`, `{"n":1}`},
	{"fields without separators", `time_to_epoch('20161215180731', 'yyyyMMddHHmmss') AS r`, ``, `{}`,
		`{"r":1481825251000}`},
	{"zones in the text", `time_to_epoch('2016-12-15T18:07:31Z', "yyyy-MM-dd'T'HH:mm:ssX") AS r, ` +
		`time_to_epoch('2016-12-15 19:07 +0100', 'yyyy-MM-dd HH:mm Z') AS s, time_to_epoch('2016-12-15 06:07 PM ` +
		`PST', 'yyyy-MM-dd hh:mm a z') AS q`,
		``, `{}`, `{"r":1481825251000,"s":1481825220000,"q":1481854020000}`},
	{"a day past the month's end", `time_to_epoch('2021-02-31', 'yyyy-MM-dd') AS r, time_to_epoch('2021-02-32', 'yyyy-MM-dd') AS s`,
		``, `{}`, `{"r":1614470400000}`},
	{"no date", `time_to_epoch('12:00', 'HH:mm') AS r`, ``, `{}`, `{}`},
}

func TestEval(t *testing.T) {
	for _, tt := range evalTests {
		t.Run(tt.name, func(t *testing.T) {
			sql := "SELECT " + tt.sel + " FROM 't/#'"
			if tt.where != "" {
				sql += " WHERE " + tt.where
			}
			s := mustCompile(t, sql, Version2016)
			m := &Input{Message: message.Message{Topic: "t/1", Payload: []byte(tt.payload)}}
			for range 2 { // the second time with a used frame
				out, fired, err := s.Eval(context.Background(), nil, m)
				got := string(out)
				if !fired {
					got = "-"
				}
				if err != nil || got != tt.want {
					t.Fatalf("%s\nover %s\n got %s, %v\nwant %s", sql, tt.payload, got, err, tt.want)
				}
			}
			if e := s.Explain(context.Background(), m); e.Fired != (tt.want != "-") || e.Fired &&
				string(e.Output) != tt.want {
				t.Errorf("Explain: %v, %s", e.Fired, e.Output)
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a AS m%d, ", i)
	}
	return b.String() + "a"
}

func brackets(s string) string { return strings.Repeat("[", 60) + s + strings.Repeat("]", 60) }

func TestLimits(t *testing.T) {
	big := func(n int) string { return strings.Repeat("x", n) }
	m := func(payload string) *Input {
		return &Input{Message: message.Message{Topic: "t", Payload: []byte(payload)}}
	}
	tests := []struct {
		name, sql string
		m         *Input
		want      error
	}{
		{"output at the limit", `SELECT a AS x, a AS y, a AS z FROM 't'`, m(`{"a":"` + big((maxOutput-22)/3) + `"}`),
			nil},
		{"output over it", `SELECT a AS x, a AS y, a AS z FROM 't'`, m(`{"a":"` + big((maxOutput-22)/3+1) + `"}`),
			errTooLarge},
		{"bytes handed through", `SELECT * FROM 't'`, m(big(308 << 10)), nil},
		{"the longest payload of the standard with more", `SELECT *, topic() AS t FROM 't'`,
			m(`{"a":"` + big(maxOutput-8) + `"}`), nil},
		{"a long payload with more", `SELECT *, a AS b FROM 't'`, m(`{"a":"` + big(2<<20) + `"}`), nil},
		{"a long payload in expressions",
			`SELECT (SELECT VALUE a FROM *) AS e, length([*.a]) AS l FROM 't' WHERE NOT get(*, 'a') = ''`,
			m(`{"a":"` + big(900<<10) + `"}`), nil},
		{"a long payload of many elements", `SELECT (SELECT VALUE x FROM * AS x WHERE x > 0) AS e FROM 't'`,
			m(`[` + strings.Repeat("1,", 1<<19) + `1]`), nil},
		{"a long payload as base64", `SELECT * AS m FROM 't'`, m(big(1 << 20)), nil},
		{"one value too long", `SELECT length(a + a + a) AS n FROM 't'`, m(`{"a":"` + big(maxOutput/2) + `"}`),
			errTooLarge},
		{"many values", `SELECT length(upper(a) + lower(a)) AS n FROM 't'`, m(`{"a":"` + big(maxOutput/2-16) + `"}`),
			nil},
		{"replacements", `SELECT length(replace(a, 'x', a)) AS n FROM 't'`, m(`{"a":"` + big(1000) + `"}`),
			errTooLarge},
		{"many members", `SELECT ` + strings.Repeat("a AS x.x, a AS y, ", 3) + manyMembers(3000) + ` FROM 't'`,
			m(`{"a":"` + big(maxOutput/2) + `"}`), errTooLarge},
		{"built deep", `SET @a = ` + brackets(`a`) + `, @b = ` + brackets(`@a`) + `, @c = ` + brackets(`@b`) +
			`, @d = ` + brackets(`@c`) + ` SELECT @d = @d AS d FROM 't'`, m(`{"a":1}`), nil},
		{"by pattern", `SELECT length(regexp_replace(a, 'x', '$0$0$0')) AS n FROM 't'`,
			m(`{"a":"` + big(maxOutput/2) + `"}`), errTooLarge},
		{"SET variables together", `SET @a = a, @b = a, @c = a SELECT 1 AS n FROM 't'`,
			m(`{"a":"` + big(maxOutput/2) + `"}`), errTooLarge},
		{"payload nested to the limit", `SELECT isUndefined(a) AS n FROM 't'`, m(`{"a":` +
			strings.Repeat("[", maxPayloadNesting-1) + strings.Repeat("]", maxPayloadNesting-1) + `}`), nil},
		{"payload nested deeper", `SELECT isUndefined(a) AS n FROM 't'`, m(`{"a":` +
			strings.Repeat("[", maxPayloadNesting) + strings.Repeat("]", maxPayloadNesting) + `}`), errTooDeep},
		{"payload not looked at", `SELECT 1 AS n FROM 't'`, m(strings.Repeat("[", 1<<16)), nil},
		{"a product of nested queries", `SELECT EXISTS (SELECT * FROM a AS x WHERE EXISTS (SELECT * FROM [1,2,3,4,5,6,7,8] AS y
			WHERE EXISTS (SELECT * FROM [1,2,3,4,5,6,7,8] AS z WHERE EXISTS (SELECT * FROM [1,2,3,4,5,6,7,8] AS w WHERE w = 9)))) AS n FROM 't'`,
			m(`{"a":[` + strings.Repeat("1,", 10000) + `1]}`), errTooMuchWork},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, fired, err := mustCompile(t, tt.sql, Version2016).Eval(context.Background(), []byte("dst"), tt.m)
			if !errors.Is(err, tt.want) || fired != (tt.want == nil) {
				t.Errorf("fired %v, err %v, want %v", fired, err, tt.want)
			}
			if tt.want != nil && string(out) != "dst" {
				t.Errorf("dst came back with %d bytes", len(out))
			}
		})
	}
}

func TestVersions(t *testing.T) {
	m := &Input{Message: message.Message{Topic: "t", Payload: []byte(`{"a":10.0}`)}}
	for version, want := range map[string]string{
		"":          `{"a":10.0,"b":"11.0","sql_version":"2015-10-08"}`,
		Version2015: `{"a":10.0,"b":"11.0","sql_version":"2015-10-08"}`,
		Version2016: `{"a":10,"b":"11","sql_version":"2016-03-23"}`,
		VersionBeta: `{"a":10,"b":"11","sql_version":"beta"}`,
	} {
		out, _, err := mustCompile(t, `SELECT a, '' + (a + 1) AS b, sql_version() FROM 't'`,
			version).Eval(context.Background(), nil, m)
		if string(out) != want || err != nil {
			t.Errorf("%q: %s, %v, want %s", version, out, err, want)
		}
	}
}

func TestTemplate(t *testing.T) {
	s := mustCompile(t, `SET @site = upper(site), @n = 1 SELECT temp AS alias FROM 'dt/#'`, Version2016)
	m := &Input{Message: message.Message{Topic: "dt/a/b",
		Payload: []byte(`{"site":"x1","o":{"k": [1, 2]},"n":null,"q":"a\"b"}`)}}
	for text, want := range map[string]string{
		"":                          "",
		"plain $ {x} $$aws/things":  "plain $ {x} $$aws/things",
		"$$aws/${topic(2)}":         "$$aws/a",
		"${@site}/${@n + 1}":        "X1/2",
		"[${n}][${alias}][${gone}]": "[][][]",
		"${o} ${q}":                 `{"k":[1,2]} a"b`,
		"${get({'}': '${'}, '}')}":  "${",
		"${ \n site }":              "x1",
		"${topic()}${topic()}":      "dt/a/bdt/a/b",
		"${1}$${2}":                 "1$2",
	} {
		tm, err := s.Template(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		out, err := tm.Append(context.Background(), []byte(">"), m)
		if string(out) != ">"+want || err != nil {
			t.Errorf("%q gives %q, %v, want %q", text, out, err, want)
		}
		c, ok := tm.Const()
		if ok != !strings.Contains(text, "${") || ok && c != text {
			t.Errorf("%q: Const is %q, %v", text, c, ok)
		}
	}
	if _, err := CompileTemplate("${@site}", Version2016); err == nil {
		t.Error("a variable without its statement compiles")
	}
}

func TestMatches(t *testing.T) {
	s := mustCompile(t, `SELECT * FROM 'a/#'`, Version2016)
	for topic, want := range map[string]bool{"a": false, "a/": true, "a/b/c": true, "b": false} {
		if s.Matches(topic) != want {
			t.Errorf("Matches(%q) = %v", topic, !want)
		}
	}
	if s := mustCompile(t, `SELECT *`, Version2016); s.Matches("a") || s.Filter() != "" {
		t.Error("without FROM it matches")
	}
}

// Several goroutines share a statement; each must get its own results.
func TestConcurrent(t *testing.T) {
	s := mustCompile(t, `SET @x = upper(a) SELECT @x AS x, (SELECT VALUE v + 1 FROM e) AS l, concat(a, '-', `+
		`topic(2)) AS c FROM 't/#' WHERE n > 0`,
		Version2016)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			name := string(rune('a' + g))
			m := &Input{Message: message.Message{Topic: "t/" + name,
				Payload: []byte(`{"a":"` + strings.Repeat(name, 10*g+1) + `","e":[{"v":1},{"v":2}],"n":1}`)}}
			want := `{"x":"` + strings.Repeat(strings.ToUpper(name), 10*g+1) + `","l":[2,3],"c":"` +
				strings.Repeat(name, 10*g+1) + "-" + name + `"}`
			for range 200 {
				if out, fired, err := s.Eval(context.Background(), nil, m); string(out) != want || !fired ||
					err != nil {
					t.Errorf("%s, %v, %v; want %s", out, fired, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// With a seed, what is random comes out the same again, and differs between
// calls, rules and seeds.
func TestSeed(t *testing.T) {
	s := mustCompile(t, `SELECT newuuid() AS a, newuuid() AS b, rand() AS c FROM 't'`, Version2016)
	eval := func(m Input) string {
		out, _, err := s.Eval(t.Context(), nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	seed := [16]byte{1}
	first := eval(Input{Seed: seed, Rule: "r"})
	if again := eval(Input{Seed: seed, Rule: "r"}); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	for name, m := range map[string]Input{"no seed": {Rule: "r"}, "other seed": {Seed: [16]byte{2}, Rule: "r"},
		"other rule": {Seed: seed, Rule: "q"}} {
		if other := eval(m); other == first {
			t.Errorf("%s: %s again", name, other)
		}
	}
	var doc struct{ A, B string }
	if err := json.Unmarshal([]byte(first), &doc); err != nil || doc.A == doc.B {
		t.Errorf("%s: %v", first, err)
	}
}

// A document has maxOutput bytes or, where that is more, twice those of its
// payload, and not one more, however often * stands in it.
func TestDocumentKeepsItsLimit(t *testing.T) {
	for sel, copies := range map[string]int{"*, * AS w": 2, "*, * AS w, * AS w2": 3, "* AS w, * AS w2, * AS w3": 3,
		"*, a AS w, a AS w2": 3, "*, *, * AS w": 2} {
		s := mustCompile(t, "SELECT "+sel+" FROM 't'", Version2016)
		for _, size := range []int{maxOutput / 3, maxOutput / 2, maxOutput, 3 * maxOutput} {
			for n := size - 40; n <= size+8; n += nightly.Or(4, 1) { // the names of the members are among the bytes
				payload := `{"a":"` + strings.Repeat("x", n-len(`{"a":""}`)) + `"}`
				m := &Input{Message: message.Message{Topic: "t", Payload: []byte(payload)}}
				limit := max(maxOutput, 2*len(payload))
				out, fired, err := s.Eval(t.Context(), nil, m)
				if err == nil && (!fired || len(out) > limit) || err != nil &&
					(!errors.Is(err, errTooLarge) || copies*(n+12) < limit) {
					t.Fatalf("%s over %d bytes: %d bytes, limit %d, fired %v, %v", sel, n, len(out), limit, fired, err)
				}
			}
		}
	}
}
