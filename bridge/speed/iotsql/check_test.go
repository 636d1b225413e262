package iotsql

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/deploy/conformance"
	"github.com/tidemill/tidemill/deploy/nightly"
)

// certainMistakes compile, and Check refuses them.
var certainMistakes = []string{
	`SELECT 'a' * 2 AS v FROM 't'`,
	`SELECT a, -'x' AS v FROM 't'`,
	`SELECT * FROM 't' WHERE [1] < 2`,
	`SELECT * FROM 't' WHERE temp < 'abc'`,
	`SELECT * FROM 't' WHERE 'yes'`,
	`SELECT * FROM 't' WHERE temp > 30 AND upper(site)  AND 1`,
	`SELECT * FROM 't' WHERE NOT 5`,
	`SELECT * FROM 't' WHERE temp > true`,
	`SELECT * FROM 't' WHERE a IN 'abc'`,
	`SELECT * FROM 't' WHERE length(a)`,
	`SELECT true + 1 AS v FROM 't'`,
	`SELECT 'a' + null AS v FROM 't'`,
	`SELECT a / 0 AS v, mod(a, 0) AS w FROM 't'`,
	`SELECT sqrt(-1) AS v, acos(2) AS w, chr(300) AS x FROM 't'`,
	`SELECT abs([1]) AS v FROM 't'`,
	`SELECT substring(a, 'x') AS v FROM 't'`,
	`SELECT encode(*, 'hex') AS v FROM 't'`,
	`SELECT encode(a, 'base32') AS v, decode(a, 'hex') AS w FROM 't'`,
	`SELECT transform('merge', a, b) AS v FROM 't'`,
	`SELECT transform('enrichArray', [1], b) AS v FROM 't'`,
	`SELECT regexp_matches(a, '(') AS v FROM 't'`,
	`SELECT parse_time('b', timestamp()) AS v FROM 't'`,
	`SELECT parse_time('yyyy', timestamp(), 'Nowhere') AS v FROM 't'`,
	`SELECT time_to_epoch(a, 'qqqqqq{') AS v FROM 't'`,
	`SELECT get_mqtt_property('topic') AS v FROM 't'`,
	`SELECT get({'a': b}, 0) AS v, get([a], 'x') AS w, get(5, 0) AS x FROM 't'`,
	`SELECT 'abc'.length AS v, topic().a AS w FROM 't'`,
	`SELECT concat(1, 2) AS v, concat() AS w FROM 't'`,
	`SELECT cast([a] AS Int) AS v, cast(null AS String) AS w, cast('abc' AS Decimal) AS x FROM 't'`,
	`SET @x = 'abc' SELECT @x * 2 AS v FROM 't'`,
	`SELECT (SELECT VALUE upper(n) FROM e WHERE 1) AS v FROM 't'`,
	`SELECT (SELECT VALUE n FROM e WHERE n - 'x' > 1) AS v FROM 't'`,
	`SELECT CASE a WHEN 1 THEN 'x' ELSE [2] * 2 END AS v FROM 't'`,
	`SELECT CASE 1 WHEN 2 THEN 'x' END AS v FROM 't'`,
	`SELECT [a, 'x' - 1] AS v, {'k': null < 1} AS w FROM 't'`,
}

// notCertain compile and Check has nothing against them.
var notCertain = []string{
	refRule,
	`SELECT * FROM 't' WHERE enabled`,
	`SELECT * FROM 't' WHERE 'true'`,
	`SELECT * FROM 't' WHERE false`,
	`SELECT '5' * 2 AS v, '5' < 7 AS w, -'1E3' AS x, cast('7.5' AS Int) AS y FROM 't'`,
	`SELECT a + [1] AS v, [1] + 'x' AS w, nanvl(a, 1) * 2 AS x FROM 't'`,
	`SELECT get(a, 'x') AS v, get(a, 0) AS w, get('abc', 1) AS x, get([{'a': 1}], 0).a AS y FROM 't'`,
	`SELECT CASE a WHEN 1 THEN '5' END * 2 AS v FROM 't' WHERE temp + 1`,
	`SELECT encode(*, 'base64') AS v, concat(a, b) AS w, concat(null) AS x FROM 't'`,
	`SELECT null AS v, isNull(null) AS w, null = null AS x, sqrt(a) AS y FROM 't'`,
	`SET @x = a SELECT @x * 2 AS v, @x.b AS w FROM 't' WHERE @x`,
	`SELECT parse_time('yyyy-MM-dd', timestamp(), 'Europe/Oslo') AS v, regexp_substr(a, '(?<=x)\d++') AS w FROM 't'`,
}

func TestCheck(t *testing.T) {
	var b strings.Builder
	for _, sql := range certainMistakes {
		err := mustCompile(t, sql, Version2016).Check()
		if err == nil {
			t.Errorf("%s: nothing found", sql)
			continue
		}
		fmt.Fprintf(&b, "--- %s\n%s\n\n", sql, err)
	}
	s := mustCompile(t, `SET @x = 'abc' SELECT * FROM 't'`, Version2016)
	for _, text := range []string{"a/${topic() * 2}/${'x' - 1}", "${@x + 1}${@x * 2}", "${1 = 1}${a}"} {
		tm, err := s.Template(text)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "--- template: %s\n%v\n\n", text, tm.Check())
	}
	golden(t, "mistakes.txt", b.String())
	for _, sql := range notCertain {
		if err := mustCompile(t, sql, Version2016).Check(); err != nil {
			t.Errorf("%s\n%s", sql, err)
		}
	}
}

// provesMistakes evaluates what Check finds in s: it must be Undefined, and a
// WHERE not hold, whatever the message.
func provesMistakes(t *testing.T, s *Statement, messages []*Input) (found int) {
	t.Helper()
	for _, mistake := range s.checker().found {
		found++
		c := newCompiler(s.Version(), s.services, false)
		c.assign(s.query.sets)
		c.aliases = mistake.aliases
		ev := c.expr(mistake.node)
		prog := c.done()
		for _, m := range messages {
			f := newFrame(context.Background(), prog, m)
			f.start()
			for range mistake.aliases {
				f.elems = append(f.elems, f.payload())
			}
			v := ev(f)
			if mistake.where && f.holds(v) || !mistake.where && v.kind != kindUndefined && f.err == nil {
				t.Fatalf("%s\nover %q: %v is found, and it yields kind %d %q", s, m.Payload, mistake.err, v.kind, v.b)
			}
			f.release()
		}
	}
	return found
}

func checkMessages() (all []*Input) {
	for _, p := range append([]string{`{"a":{"b":"5"},"b":"true","n":1,"s":"7","e":[{"n":1}],"o":{"n":2},"temp":"31","site":"x"}`,
		`[1,2]`, `"5"`, `true`}, payloads...) {
		all = append(all, &Input{Message: message.Message{Topic: "1/2/3", Payload: []byte(p), Time: 1700000000000,
			Trace: message.Trace{5}, ClientID: "7", Principal: "true"}, Account: "12"})
	}
	return all
}

func TestCheckIsCertain(t *testing.T) {
	messages := checkMessages()
	for _, sql := range append(certainMistakes, notCertain...) {
		provesMistakes(t, mustCompile(t, sql, Version2016), messages)
	}
	for _, file := range []string{"iotsql.jsonl", "iotsql-doubtful.jsonl"} {
		for _, v := range conformance.All[vector](t, file) {
			if s, err := v.Externals.services(t).Compile(v.SQL, v.Version); err == nil {
				provesMistakes(t, s, append(messages, v.message(t)))
			}
		}
	}
	seeds, found := nightly.Or(500, 3000), 0
	for seed := range uint64(seeds) {
		found += checkGenerated(t, rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), messages)
	}
	t.Logf("%d mistakes in generated statements", found)
	if found < seeds/30 {
		t.Error("the generator makes too few mistakes for this test to mean much")
	}
}

// checkGenerated is one round over a generated statement.
func checkGenerated(t *testing.T, src *rand.ChaCha8, messages []*Input) int {
	data := make([]byte, 400)
	src.Read(data)
	c := &chooser{data}
	g := &generator{chooser: c, modern: true}
	p := &printer{chooser: c}
	p.query(g.statement())
	s, err := Compile(strings.TrimSpace(p.String()), Version2016)
	if err != nil {
		t.Fatal(err)
	}
	return provesMistakes(t, s, append(messages,
		&Input{Message: message.Message{Topic: "t/1", Payload: []byte(c.payload())}}))
}
