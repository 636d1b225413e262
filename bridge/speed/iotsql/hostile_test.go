package iotsql

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// maxHostileBytes is what compiling and evaluating any statement of up to
// maxStatement over any payload of up to maxOutput may allocate.
const maxHostileBytes = 48 << 20

// hostile are statements and payloads that would take time or memory without
// end, or out of proportion, from an engine without limits.
func hostile() []struct{ name, sql, payload string } {
	rep := strings.Repeat
	from := func(expr string) string { return "SELECT " + expr + " AS r FROM 't'" }
	text := func(s string) string { return `{"a":"` + s + `"}` }
	list := func(n int, s string) string { return `{"a":[` + strings.TrimSuffix(rep(s+",", n), ",") + `]}` }
	members := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"a":1`)
		for i := range n {
			fmt.Fprintf(&b, `,"%x":1`, i)
		}
		return b.String() + "}"
	}
	aliases := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a AS %x,", 0xa00000+i)
		}
		return b.String()
	}
	object := strings.Replace(members(12000), `"a":1,`, "", 1)
	digits := rep("7", 128<<10-10)
	cases := []struct{ name, sql, payload string }{
		{"payload nested 10,000", from("a.b"), `{"a":` + rep("[", 10000) + rep("]", 10000) + `}`},
		{"objects nested 10,000", from("a.b"), rep(`{"a":`, 10000) + "1" + rep("}", 10000)},
		{"many open brackets", from("a"), rep("[", 128<<10)},
		{"statement nested 10,000", from(rep("(", 10000) + "a" + rep(")", 10000)), `{}`},
		{"arrays in the statement nested 10,000", from(rep("[", 10000) + rep("]", 10000)), `{}`},
		{"NOT 10,000 times", from(rep("NOT ", 10000) + "a"), `{}`},
		{"minus 60,000 times", from(rep("- ", 30000) + "a"), `{}`},
		{"operators 30,000 times", from(rep("1+", 30000) + "1"), `{}`},
		{"operators in parentheses", from("(" + rep("a*7+", 900) + "1)" + rep("+("+rep("a*7+", 900)+"1)", 15)),
			`{"a":1.5}`},
		{"64 KiB of SELECT items", "SELECT " + rep("a,", 32000) + "a FROM 't'", `{"a":1}`},
		{"thousands of aliases", "SELECT " + aliases(6000) + "1 AS r FROM 't'", `{"a":1}`},
		{"thousands of aliases and of members", "SELECT *, " + aliases(6000) + "1 AS r FROM 't'", members(12000)},
		{"names of 30 KiB", from(rep("a", 30000)), `{}`},
		{"an unknown function of 60 KiB", from(rep("a", 60000) + "(1)"), `{}`},
		{"thousands of dotted names", "SELECT a AS " + rep("x.", 30000) + "x FROM 't'", `{"a":1}`},
		{"CASE with thousands of branches", from("CASE a " + rep("WHEN 1 THEN 2 ", 4000) + "END"), list(30000, "1")},
		{"CASE of long text", from("CASE a " + rep("WHEN b THEN 2 ", 4000) + "END"), `{"a":"` + rep("x", 60000) +
			`","b":"` + rep("x", 59999) + `y"}`},
		{"a wide literal", from("[" + rep("a,", 30000) + "a]"), text(rep("x", 100))},
		{"comparisons of long documents", from(rep("a = b OR ", 900) + "a = b"), `{"a":` + object[:len(object)/2-2] +
			`1},"b":` + object[:len(object)/2-2] + `2}}`},

		{"digits", from("a"), `{"a":` + digits + `}`},
		{"digits as text", from("a * 2"), text(digits)},
		{"digits in text added", from("a - 1"), `{"a":0.` + digits + `}`},
		{"digits everywhere", from(
			"[cast(a AS Int), cast(a AS Double), trunc(a, 34), round(a), power(a, 2), floor(a), a % 7, bitand(a, 1), '' + a]"),
			`{"a":` + digits + `}`},
		{"digits after the point everywhere",
			from("[cast(a AS Int), trunc(a, 34), round(a), power(a, 2), ceil(a), a % 7, '' + a]"), text("1." + digits)},
		{"digits in a literal", from("a + " + rep("9", 60000)), `{"a":1}`},
		{"exponents", from("[a + 1, a * b, b / a, round(a), trunc(b, 3), power(a, b), cast(a AS Int), '' + a]"),
			`{"a":1E999999999,"b":1E-999999999}`},
		{"exponents as text", from("[a + 1, a * b, round(a), cast(a AS Int)]"), `{"a":"1E` + digits[:50000] +
			`","b":"1E-` + digits[:50000] + `"}`},
		{"exponents at the range", from("[a + b, a - b, a % b, trunc(b, 34), bitand(a, 1), round(a), power(a, a)]"),
			`{"a":9E999,"b":1E-999}`},

		{"pad", from(rep("lpad(", 60) + "a" + rep(",1000)", 60)), text(rep("x", 120000))},
		{"concat of concat", from(rep("concat(", 60) + "a" + rep(",a)", 60)), text(rep("x", 100000))},
		{"concat of arrays", from("concat(" + rep("a,", 2000) + "a)"), list(30000, "1")},
		{"replace multiplies", from(
			"replace(replace(replace(a, 'x', 'xxxxxxxxxx'), 'x', 'xxxxxxxxxx'), 'x', 'xxxxxxxxxx')"),
			text(rep("x", 10000))},
		{"replace of nothing", from("replace(a, '', a)"), text(rep("x", 60000))},
		{"replace of everything", from("replace(a, 'x', '')"), text(rep("x", 120000))},
		{"SET doubles", "SET @a = a + a, @b = @a + @a, @c = @b + @b, @d = @c + @c, @e = @d + @d, @f = @e + @e, @g " +
			"= @f + @f, @h = @g + @g, @i = @h + @h SELECT 1 AS r FROM 't'",
			text(rep("x", 1000))},
		{"SET doubles documents", "SET @a = [a, a], @b = [@a, @a], @c = [@b, @b], @d = [@c, @c], @e = [@d, @d], " +
			"@f = [@e, @e], @g = [@f, @f], @h = [@g, @g], @i = [@h, @h] SELECT @i AS r FROM 't'",
			text(rep("x", 1000))},
		{"hashes over and over", from(rep("sha512(a) + ", 900) + "''"), text(rep("x", 120000))},
		{"md2 over and over", from(rep("md2(a) + ", 900) + "''"), text(rep("x", 120000))},
		{"case mapping over and over", from(rep("indexof(upper(a), 'y') + ", 900) + "1"), text(rep("x", 120000))},
		{"searching over and over", from(rep("indexof(a, b) + ", 900) + "1"), `{"a":"` + rep("x", 60000) + `","b":"` +
			rep("x", 30000) + `y"}`},
		{"escapes over and over", from(rep("length(a) + ", 900) + "1"), text(rep(`\u00e9`, 20000))},
		{"documents as text over and over", from(rep("length(a) + ", 900) + "1"), list(40000, "1")},
		{"base64 over and over", from(rep("length(encode(a, 'base64')) + ", 900) + "1"), text(rep("x", 90000))},
		{"base64 decoded over and over", from(rep("nanvl(decode(a, 'base64'), 1) + ", 900) + "1"),
			text(rep("QUFB", 30000))},

		{"a product of lists", from("(SELECT VALUE (SELECT VALUE 1 FROM a) FROM a)"), list(60000, "1")},
		{"a list of lists", from("(SELECT VALUE (SELECT VALUE x = y FROM [1,2,3] AS y) FROM a AS x)"),
			list(60000, "1")},
		{"EXISTS in EXISTS", from("EXISTS (SELECT * FROM a AS x WHERE EXISTS (SELECT * FROM e AS y WHERE y = x))"),
			list(60000, "1")},
		{"get over a list", from("(SELECT VALUE get(x, 20000) FROM a AS x)"), list(60000, "1")},
		{"get of the last, over and over", from(rep("get(a, 60000) + ", 900) + "1"), list(60000, "1")},
		{"a member of a large object, over and over", from(rep("a.x + ", 900) + "1"), `{"a":` + object + `}`},
		{"members of members in a nested query", from("(SELECT VALUE @o.x + @o.y FROM a)"), `{"a":1}`},
		{"IN a large list, over and over", from(rep("7 IN a OR ", 900) + "7 IN a"), list(60000, "1")},
		{"IN of each in each", from("(SELECT VALUE x FROM a AS x WHERE x IN [1,2,3,4,5,6,7,8,9])"), list(60000, "0")},
		{"equal lists of equal lists", from("a IN a"), list(3000, "["+rep("1,", 18)+"1]")},
		{"transform", from("transform('enrichArray', o, a)"), `{"o":{"x":"` + rep("x", 50000) + `"},"a":[` +
			rep("{},", 20000) + `{}]}`},
		{"transform of many members", from("transform('enrichArray', a, [a, a, a, a, a, a, a, a])"), `{"a":` + object +
			`}`},
		{"many members", "SELECT *, a AS b FROM 't'", members(12000)},
		{"the same member 100,000 times", "SELECT *, a AS b, a + 1 AS c FROM 't'", "{" +
			strings.TrimSuffix(rep(`"a":1,`, 21000), ",") + "}"},
		{"many members, many aliases", "SELECT *, " + rep("a AS b, ", 3000) + "1 AS c FROM 't'", members(12000)},
		{"a * in an element for each", from("(SELECT *, 1 AS x, 2 AS y, 3 AS z FROM a)"), list(15000, `{"x":1}`)},

		{"parse_time of a long pattern", from("parse_time(a, 0)"), text(rep("yyyy ", 25000))},
		{"parse_time of a long quote", from("parse_time(a, 0, a)"), text("'" + rep("x", 120000) + "'")},
		{"parse_time over and over", from(rep("parse_time(a, 0) + ", 900) + "''"), text(rep("yyyy-MM-dd ", 20))},
		{"time_to_epoch of long text", from("time_to_epoch(a, a)"), text(rep("'x'", 40000))},
		{"time_to_epoch of digits", from("time_to_epoch(a, 'yyyy-MM-dd')"), text(digits)},
		{"zones", from(rep("parse_time('z', 0, '../../etc/passwd') + ", 900) + "''"), `{}`},

		{"nested quantifiers", from("regexp_matches(a, '(x+x+)+y')"), text(rep("x", 120000))},
		{"nested quantifiers, backtracking", from("regexp_matches(a, '(?=x)(x+x+)+y')"), text(rep("x", 30000))},
		{"alternatives, backtracking", from("regexp_replace(a, '(?=x)(x|xx|xxx)*(?<!x)y', '')"), text(rep("x", 30000))},
		{"a long repetition", from("regexp_matches(a, '(x?){1000}(x?){1000}x{1000}y')"), text(rep("x", 120000))},
		{"replacements of nothing", from("regexp_replace(a, 'y*', '$0$0')"), text(rep("x", 30000))},
		{"replacements of everything", from("regexp_replace(a, '(x)(x)(x)(x)', '$1')"), text(rep("x", 120000))},
		{"many groups", from("regexp_replace(a, '" + rep("(x?)", 500) + "', '$500')"), text(rep("x", 30000))},
		{"patterns of the sender", from("(SELECT VALUE regexp_matches('xxxx', p) FROM a AS p)"),
			list(8000, `"\\p{L}"`)},
		{"slow patterns of the sender", from("(SELECT VALUE regexp_matches('" + rep("x", 40) + "', p) FROM a AS p)"),
			list(2000, `"(?=x)(x+x+)+y"`)},
	}
	many := make([]string, 5000) // patterns that differ
	for i := range many {
		many[i] = fmt.Sprintf(`"\\p{L}\\p{N}%d"`, i)
	}
	return append(cases, struct{ name, sql, payload string }{"patterns that differ",
		from("(SELECT VALUE regexp_matches('xxxx', p) FROM a AS p)"), `{"a":[` + strings.Join(many, ",") + `]}`})
}

// limitErrors are the errors an evaluation may end with.
var limitErrors = []error{nil, errTooLarge, errTooDeep, errTooMuchWork}

// TestHostile holds evaluation to its limits: what it allocates here, how long
// it works by the limits it may run into; -v shows the time.
func TestHostile(t *testing.T) {
	for _, tt := range hostile() {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.payload) > 132<<10 {
				t.Fatalf("the payload has %d bytes", len(tt.payload))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			s, err := Compile(tt.sql, Version2016)
			compiled := time.Since(began)
			if err != nil {
				checkSyntaxError(t, tt.sql, err)
			} else {
				if s.Check() != nil {
					t.Log("Check refuses it")
				}
				compiled = time.Since(began)
				began = time.Now()
				_, _, err = s.Eval(context.Background(), nil,
					&Input{Message: message.Message{Topic: "t", Payload: []byte(tt.payload)}})
				known := false
				for _, limit := range limitErrors {
					known = known || errors.Is(err, limit)
				}
				if !known {
					t.Errorf("fails with %v", err)
				}
			}
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			bytes := after.TotalAlloc - before.TotalAlloc
			if bytes > maxHostileBytes && !raceEnabled {
				t.Errorf("allocates %d MiB", bytes>>20)
			}
			text := fmt.Sprint(err)
			t.Logf("TIME %4d ms, compiled %v, evaluated %v, %d KiB, %.60q", (compiled+took)/time.Millisecond,
				compiled.Round(time.Microsecond), took.Round(time.Microsecond), bytes>>10, text)
		})
	}
}
