package iotsql

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range g {
			if i >= len(w) || g[i] != w[i] {
				t.Fatalf("%s differs from line %d on; look, then -update:\n%s", path, i+1,
					strings.Join(g[i:min(i+8, len(g))], "\n"))
			}
		}
		t.Fatalf("%s has %d lines more", path, len(w)-len(g))
	}
}

var badStatements = []string{
	``,
	`   `,
	`UPDATE t SET a = 1`,
	`SELECT`,
	`SELECT FROM 't'`,
	`SELECT a, FROM 't'`,
	`SELECT a b FROM 't'`,
	`SELECT a AS FROM 't'`,
	`SELECT a AS 'x' FROM 't'`,
	`SELECT a + 1 FROM 't'`,
	`SELECT 1 FROM 't'`,
	`SELECT VALUE a, b FROM 't'`,
	`SELECT VALUE a AS b, c FROM 't'`,
	`SELECT * FROM t/#`,
	`SELECT * FROM 'a/#/b'`,
	`SELECT * FROM 'a+/b'`,
	`SELECT * FROM ''`,
	`SELECT * FROM 'a', 'b'`,
	`SELECT * FROM 'a' WHERE`,
	`SELECT * FROM 'a' WHERE a >`,
	`SELECT * FROM 'a' WHERE a = = 1`,
	`SELECT * FROM 'a' WHERE a < b < c`,
	`SELECT * FROM 'a' WHERE a > 1 b`,
	`SELECT * FROM 'a' WHERE a > 1 WHERE b > 1`,
	`SELECT * FROM 'a' WHERE (a > 1`,
	`SELECT * FROM 'a' WHERE a > 1)`,
	`SELECT * FROM 'a' WHERE a ! 1`,
	`SELECT * FROM 'a' WHERE v IN (1, 2)`,
	`SELECT * FROM 'a';`,
	`SELECT * FROM 'a' -- comment`,
	`SELECT * FROM 'a' ORDER BY b`,
	`SELECT 'abc FROM 't'`,
	`SELECT 12x AS a FROM 't'`,
	`SELECT 1. AS a FROM 't'`,
	`SELECT 1E AS a FROM 't'`,
	`SELECT 1E1000 AS a FROM 't'`,
	`SELECT a[0] AS v FROM 't'`,
	`SELECT a.0 AS v FROM 't'`,
	`SELECT a. AS v FROM 't'`,
	`SELECT a.'b c' AS v FROM 't'`,
	`SELECT [1, 2 AS v FROM 't'`,
	`SELECT [1,, 2] AS v FROM 't'`,
	`SELECT [,] AS v FROM 't'`,
	`SELECT {'a': 1,, } AS v FROM 't'`,
	`SELECT {,} AS v FROM 't'`,
	`SELECT value * 2 FROM 't'`,
	`SELECT a.*.b AS v FROM 't'`,
	`SELECT concat(a,) AS v FROM 't'`,
	`SELECT {a: 1} AS v FROM 't'`,
	`SELECT {'a' 1} AS v FROM 't'`,
	`SELECT {'a': 1 AS v FROM 't'`,
	`SELECT CASE WHEN a THEN b END AS v FROM 't'`,
	`SELECT CASE a ELSE b END AS v FROM 't'`,
	`SELECT CASE a WHEN 1 b END AS v FROM 't'`,
	`SELECT CASE a WHEN 1 THEN 2 AS v FROM 't'`,
	`SELECT cast(a AS blob) AS v FROM 't'`,
	`SELECT cast(a, Int) AS v FROM 't'`,
	`SELECT nosuch(a) AS v FROM 't'`,
	`SELECT abs(a AS v FROM 't'`,
	`SELECT abs(a b) AS v FROM 't'`,
	`SELECT * 2 AS v FROM 't'`,
	`SELECT get_thing_shadow('a', 'arn').state AS v FROM 't'`,
	`SELECT decode(a, 'proto', 'b', 'k', 'f', 'm') AS v FROM 't'`,
	`SELECT (SELECT a) AS v FROM 't'`,
	`SELECT (SELECT a FROM 'x') AS v FROM 't'`,
	`SELECT (SELECT a FROM e AS 1) AS v FROM 't'`,
	`SELECT EXISTS (a) AS v FROM 't'`,
	`SELECT @a AS v FROM 't'`,
	`SELECT @ AS v FROM 't'`,
	`SET a = 1 SELECT a FROM 't'`,
	`SET @a 1 SELECT @a FROM 't'`,
	`SET @a = 1, @a = 2 SELECT @a FROM 't'`,
	`SET @b = @a, @a = 1 SELECT @b FROM 't'`,
	`SET @a = 1`,
	`SELECT a FROM 't' SET @a = 1`,
	`SET @` + strings.Repeat("a", 65) + ` = 1 SELECT 1 AS n FROM 't'`,
	`SELECT * FROM 'dt/#' WHERE temp == 30`,
	`SELECT * FROM 'dt/#' WHERE temp > 30 && hum < 2`,
	`SELECT * FROM 'dt/#' WHERE temp > 30 || hum < 2`,
	`SELECT a || b AS c FROM 'dt/#'`,
	`SELECT * FROM 'dt/#' WHERE temp =! 30`,
	`SELECT * FROM 'dt/#' WHERE temp IS NULL`,
	`SELECT * FROM 'dt/#' WHERE a.b IS NOT NULL`,
	`SELECT * FROM 'dt/#' WHERE name LIKE 'a%'`,
	`SELECT * FROM 'dt/#' WHERE temp BETWEEN 1 AND 2`,
	`SELECT * FROM 'dt/#' WHERE temp NOT IN [1, 2]`,
	`SELECT * FROM 'dt/#' WHERE end > 3`,
	`SELECT * FROM 'dt/#' WHERE temp > 30 ORDER BY temp`,
	`SELECT * FROM 'dt/#' GROUP BY temp`,
	`SELECT * FROM 'dt/#' WHERE (temp > 30 AND (hum < 2)`,
	`SELECT upper(substring(a, 1) AS b FROM 'dt/#'`,
	`SELECT upper(a`,
	"SELECT [1,\n 2",
	"SELECT {'a': 1",
	`SELECT * FROM 'dt/#`,
	`SELECT * FROM "dt/#`,
	`SELECT * FROM dt/# WHERE a = 'b'`,
	"SELECT * FROM ‘dt/#’",
	"SELECT * FROM `dt`",
	`SELECT * FROM 'a/b#/c'`,
	`SELECT * FROM 'a/+b/c'`,
	`SELECT * FROM '#/c'`,
	`SELECT * FROM 'a' /* all */`,
	`SELECT temp AS FROM 'a'`,
	`SELECT temp AS t, AS b FROM 'a'`,
	`SELECT temp + 1 AS "t" FROM 'a'`,
	`SELECT uper(a) AS b FROM 'a'`,
	`SELECT sub_string(a, 1) AS b FROM 'a'`,
	`SELECT get_thing_shadows('a', 'arn') AS b FROM 'a'`,
	`SELECT lenght(a) AS b FROM 'a'`,
	`SELECT count(*) AS b FROM 'a'`,
	`SELECT now() AS b FROM 'a'`,
	`SELECT abs() AS b FROM 'a'`,
	`SELECT abs(a, b) AS b FROM 'a'`,
	`SELECT substring(a) AS b FROM 'a'`,
	`SELECT substring(a, 1, 2, 3) AS b FROM 'a'`,
	`SELECT timestamp(1) AS b FROM 'a'`,
	`SELECT topic(1, 2) AS b FROM 'a'`,
	`SELECT decode(a, 'base64', 1) AS b FROM 'a'`,
	`SELECT get_dynamodb('t', 'k', 'v', 's', 'arn') AS b FROM 'a'`,
	`SELECT upper(SELECT a) AS b FROM 'a'`,
	`SET @a = 1 SET @b = 2 SELECT @a FROM 'a'`,
	`SET @a = 1 @b = 2 SELECT @a FROM 'a'`,
	`SET @a := 1 SELECT @a FROM 'a'`,
	`SET @a.b = 1 SELECT @a FROM 'a'`,
	`SET @a = encode(b, @a) SELECT @a FROM 'a'`,
	`SET @m = 'base64', @a = encode(b, @m) SELECT @a FROM 'a'`,
	"SELECT a,\n\tb AS c,\n\tupper(d e) AS f\nFROM 't'",
	"SELECT 'é😀', ) FROM 't'",
	"SELECT \x80 FROM 't'",
	"SELECT '\x80' AS a FROM 't'",
	"SELECT #a FROM 't'",
	`SELECT ` + strings.Repeat("a, ", 60) + `) FROM 't' WHERE ` + strings.Repeat("b AND ", 30) + "c",
	`SELECT ` + strings.Repeat("(", 70) + `a FROM 't'`,
	`SELECT a FROM 't' WHERE a` + strings.Repeat("+1", maxOperators+1),
	`SELECT a` + strings.Repeat(".a", maxOperators+1) + ` FROM 't'`,
	`SELECT ` + strings.Repeat(" ", maxStatement) + `a FROM 't'`,
}

func TestSyntaxErrors(t *testing.T) {
	var b strings.Builder
	show := func(kind, text string, err error) {
		if err == nil {
			t.Errorf("%s compiles", text)
			return
		}
		checkSyntaxError(t, text, err)
		if r := []rune(strings.ToValidUTF8(text, "?")); len(r) > 120 {
			text = string(r[:120]) + "…"
		}
		fmt.Fprintf(&b, "--- %s%s\n%s\n\n", kind, strings.ToValidUTF8(text, "?"), err)
	}
	for _, sql := range badStatements {
		_, err := Compile(sql, Version2016)
		show("", sql, err)
	}
	for _, sql := range []string{
		`SELECT [1] AS a FROM 't'`, `SELECT {'a': 1} AS a FROM 't'`, `SELECT (SELECT a FROM e) AS a FROM 't'`,
		`SELECT length(a) AS a FROM 't'`, `SELECT cast(a AS Decimal) AS a FROM 't'`,
	} {
		_, err := Compile(sql, Version2015)
		show("2015-10-08: ", sql, err)
	}
	_, err := Compile(`SELECT * FROM 't'`, "2099-01-01")
	show("2099-01-01: ", `SELECT * FROM 't'`, err)
	for _, text := range []string{"a/${", "a/${}", "a/${topic(}", "a/${a b}/c", "${a}/${upper(}", "${@x}",
		"${get_secret('a')}", "${* a}", "${topic()", "${topic(3)/x", "${a} ${'b}", "${SELECT a}", "${a AS b}",
		"${get(a)}", "${@x.y}", "${a,b}"} {
		_, err := CompileTemplate(text, Version2016)
		show("template: ", text, err)
	}
	golden(t, "errors.txt", b.String())
}

// Texts at the limits compile.
func TestStatementLimits(t *testing.T) {
	for _, sql := range []string{
		`SELECT a FROM 't' WHERE a` + strings.Repeat("+1", maxOperators),
		`SELECT ` + strings.Repeat("(", maxNesting-2) + "a" + strings.Repeat(")", maxNesting-2) + ` AS a FROM 't'`,
		`SELECT a FROM 't'` + strings.Repeat(" ", maxStatement-17),
	} {
		if _, err := Compile(sql, Version2016); err != nil {
			t.Error(err)
		}
	}
}

func TestExplain(t *testing.T) {
	const doc = `{"temp": 31.5, "hum": 48, "tags": ["a", "b"], "site": "x"}`
	var b strings.Builder
	for _, tt := range []struct{ sql, topic, payload string }{
		{refRule, "dt/boiler/room", doc},
		{refRule, "dt/boiler/room", `{"temp": 21.5}`},
		{refRule, "dt/boiler/room", `{"Temp": 31.5}`},
		{refRule, "dt", doc},
		{refRule, "$aws/rules/r/dt/x", doc},
		{`SELECT *`, "dt/x", doc},
		{"SET @f = temp * 9 / 5 + 32 SELECT @f AS f,\n\tget(tags, 0) AS t FROM 'dt/+'\nWHERE @f > 80 AND (site = 'x' OR 'c' IN tags)",
			"dt/x", doc},
		{`SELECT VALUE (SELECT VALUE upper(x) FROM tags AS x WHERE x <> 'a') FROM 'dt/+' WHERE NOT isNull(site) ` +
			`AND EXISTS (SELECT * FROM tags)`,
			"dt/x", doc},
		{`SELECT a FROM 'dt/+' WHERE isUndefined(a.b)`, "dt/x", `{"a":` + strings.Repeat("[", 200) + `}`},
	} {
		m := &Input{Message: message.Message{Topic: tt.topic, Payload: []byte(tt.payload)}, Rule: "r"}
		fmt.Fprintf(&b, "--- %s\n--- %s %.80s\n%s\n", tt.sql, tt.topic, tt.payload,
			mustCompile(t, tt.sql, Version2016).Explain(context.Background(), m))
	}
	golden(t, "explain.txt", b.String())
}
