package partition

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEval(t *testing.T) {
	for _, c := range []struct{ query, record, want string }{
		{`{customer_id:.customer_id}`, `{"customer_id":"1234567890"}`, "customer_id=1234567890"},
		// The guide's example of many keys.
		{`{customer_id:.customer_id, device:.type.device, year:.event_timestamp|strftime("%Y"), hour:.event_timestamp|strftime("%H")}`,
			`{"type":{"device":"mobile"},"customer_id":1234567890,"event_timestamp":1565382027}`,
			"customer_id=1234567890 device=mobile hour=20 year=2019"},
		{`{a:.a}`, `{"a":12345678901234567890123}`, "a=12345678901234567890123"},
		{`{a:.a,b:.b,c:.c}`, `{"a":1.0,"b":true,"c":1e3}`, "a=1 b=true c=1000"},
		{`{a:(.a+1)}`, `{"a":41}`, "a=42"},
		{`{a:(.x // "none")}`, `{}`, "a=none"},
		{`.list[0] | {a, "b": .c.d}`, `{"list":[{"a":"x","c":{"d":"y"}}]}`, "a=x b=y"},
		{`{(.k): .v}`, `{"k":"name","v":"x"}`, "name=x"},
		{`{a: "\(.x)-\(.y)"}`, `{"x":1,"y":"z"}`, "a=1-z"},
		{`{a: (.l | map(select(. > 1)) | length)}`, `{"l":[1,2,3]}`, "a=2"},
		{`{a: (if .n >= 10 then "big" elif .n > 5 then "mid" else "small" end)}`, `{"n":7}`, "a=mid"},
		{`{a: (.s | ascii_downcase | split("/") | .[-1])}`, `{"s":"A/B"}`, "a=b"},
		{`{a: (.s | gsub("[^a-z]"; "_"))}`, `{"s":"a/b.c"}`, "a=a_b_c"},
		{`{a: (.s | capture("(?<n>[0-9]+)") | .n)}`, `{"s":"x12"}`, "a=12"},
		{`{a: (reduce .l[] as $x (0; . + $x))}`, `{"l":[1,2,3]}`, "a=6"},
		{`{a: (.l as [$x,$y] | $y)}`, `{"l":["p","q"]}`, "a=q"},
		{`{a: (.o | to_entries | map(.key) | join("+"))}`, `{"o":{"q":1,"p":2}}`, "a=p+q"},
		{`{a: (try error("x") catch .)}`, `{}`, "a=x"},
		{`{a: (.t | fromdate | todate)}`, `{"t":"2015-03-05T23:51:47Z"}`, "a=2015-03-05T23:51:47Z"},
		{`{a: @base64 "\(.x)"}`, `{"x":"hi"}`, "a=aGk="},
		{`{a: -.n}`, `{"n":3}`, "a=-3"},
		{`{a: .a} , {a: "second"}`, `{"a":"first"}`, "a=first"},

		{`{a: .a}`, `{"a":null}`, "null"},
		{`{a: .a}`, `{}`, "null"},
		{`{a: .a}`, `{"a":[1]}`, "list"},
		{`{a: .a}`, `{"a":""}`, "empty"},
		{`{a: .a}`, `[1]`, "query"},
		{`{a: .a}`, `no`, "not JSON"},
		{`{a: .a}`, `{"a":1}{"a":2}`, "text after the value"},
		{`{a: .a}`, ``, "not JSON"},
		{`.a`, `{"a":"x"}`, "no object"},
		{`{a: 1} | select(.b)`, `{}`, "nothing"},
		{`{a: (.a | tonumber)}`, `{"a":"x"}`, "query"},
		{`{a: infinite}`, `{}`, "no number"},
		{`{a: (. * 2)}`, `{}`, "want numbers"},
	} {
		q, err := Compile(c.query)
		if err != nil {
			t.Errorf("%s: %v", c.query, err)
			continue
		}
		keys, err := q.Eval([]byte(c.record))
		if err != nil {
			if strings.Contains(c.want, "=") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s of %s: %v, want %s", c.query, c.record, err, c.want)
			}
			continue
		}
		var got []string
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			got = append(got, k+"="+keys[k])
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s of %s: %s, want %s", c.query, c.record, text, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	for query, want := range map[string][]string{
		`{a:.x, "b c": .y, d}`: {"a", "b c", "d"}, `.x | {a}`: {"a"}, `{}`: {}, `.`: nil, `{(.k):1}`: nil, `{"\(.k)":1}`: nil,
	} {
		q, err := Compile(query)
		if err != nil || !slices.Equal(q.Keys(), want) || (q.Keys() == nil) != (want == nil) {
			t.Errorf("%s: %q, %v", query, q.Keys(), err)
		}
	}
}

func TestRefused(t *testing.T) {
	many := make([]string, maxKeys+1)
	for i := range many {
		many[i] = fmt.Sprintf("k%d:.k%d", i, i)
	}
	for _, query := range []string{
		"", "{", "{a:.a", "{" + strings.Join(many, ",") + "}", strings.Repeat(" ", maxQuery) + ".",
		"def f: f; f", `import "x" as y; .`, "input", "env.HOME", "$ENV.HOME", "$__loc__", "now", "localtime", "debug", "halt",
		"range(9)", "[limit(9; repeat(1))]", "recurse(.a)", "until(true; .)", "while(true; .)", ".a = 1", ".a |= 1", ".a += 1",
		"setpath([9]; 1)", "path(.a)", "del(.a)", "getpath([\"a\"])", "walk(.)", "contains([1])", `test(.a)`, `test("a{1000}")`,
		`join(.a)`, `gsub("a"; .b)`, `split("\(.a)")`, `indices("a")`, "combinations", "ltrimstr(.)", "$undefined", "nosuch",
		"label $f | break $f", "input_filename", "splits(\"a\")", "_tidemill_check", "_multiply(1;2)", "getpath(.)",
		strings.Repeat("(", maxDepth+1) + "." + strings.Repeat(")", maxDepth+1),
		`"` + strings.Repeat(`\(.)`, maxPieces+1) + `"`,
	} {
		if _, err := Compile(query); err == nil {
			t.Errorf("%.60s: accepted", query)
		}
	}
}

// Programs that would take all time or memory end soon, in the same way each
// time.
func TestHostile(t *testing.T) {
	big := `{"s":"` + strings.Repeat("x", 900_000) + `","l":[` + strings.Repeat("1,", 100_000) + `1],"n":9999999999}`
	for _, query := range []string{
		"{a:([.s,.s,.s,.s,.s,.s,.s,.s]|add)}" + strings.Repeat("|{a:([.a,.a,.a,.a,.a,.a,.a,.a]|add)}", 20),
		".s" + strings.Repeat("|. + .", 40) + "|{a:.}",
		".s" + strings.Repeat(`|"\(.)\(.)"`, 40) + "|{a:.}",
		".l" + strings.Repeat("|[.[],.[]]", 40) + "|{a:length}",
		".l" + strings.Repeat("|[.,.]", 60) + "|{a:tojson}",
		".n" + strings.Repeat("|. * .", 60) + "|{a:.}",
		"{a:(. as $r|reduce $r.l[] as $x (0; . + ($r.s|length)))}",
		"{a:(. as $r|reduce $r.l[] as $x (0; . + ($r.l|sort|length)))}",
		"{a:(. as $r|reduce $r.l[] as $x (0; . + ($r.l|tojson|length)))}",
		"{a:(.l as $l|[$l[]|$l[]]|length)}",
		"{a:([.. | .. | ..]|length)}",
		`{a:(. as $r|[$r.l[]|$r.s|test("(x*)*y")]|length)}`,
		`{a:(.s|[scan("x")]|length)}`,
		`{a:(.s|gsub("x";"` + strings.Repeat("y", 99) + `")|length)}`,
		`{a:(.s|explode|map([.,.,.,.,.,.,.,.])|tojson|tojson|tojson|tojson|length)}`,
		"{a:(.s * .n)}", "{a:(first(.l[]|select(. == 2)))}",
	} {
		q, err := Compile(query)
		if err != nil {
			t.Errorf("%.60s: %v", query, err)
			continue
		}
		began := time.Now()
		_, err = q.Eval([]byte(big))
		took := time.Since(began)
		if err == nil || took > 5*time.Second {
			t.Errorf("%.60s: %v after %v", query, err, took)
		}
		if _, again := q.Eval([]byte(big)); again == nil || err != nil && again.Error() != err.Error() {
			t.Errorf("%.60s: %v, then %v", query, err, again)
		}
		t.Logf("%6d ms %.50s: %v", took.Milliseconds(), query, err)
	}
}

// Whatever is accepted ends, and keys have values.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{`{a:.a}`, `{a:(.a|map(.+1)|add)}`, `.. | {a:.}`, `{a:"\(.a)"}`, `{a:(.a as [$x] | $x)}`,
		`{a:@json}`, `{a:(try .a[] catch "x")}`, `reduce .a[] as $x ({}; {a:$x})`, `{a:.a[1:]}`, "", "# a comment"} {
		f.Add(s, `{"a":[1,"b",{"c":null}]}`)
	}
	f.Fuzz(func(t *testing.T, query, record string) {
		q, err := Compile(query)
		if err != nil {
			return
		}
		keys, err := q.Eval([]byte(record))
		if err != nil {
			return
		}
		for k, v := range keys {
			if v == "" || len(keys) > maxKeys {
				t.Fatalf("%s of %s: %q has no value", query, record, k)
			}
		}
	})
}

func BenchmarkEval(b *testing.B) {
	q, err := Compile(`{customer_id:.customer_id, device:.type.device, year:.event_timestamp|strftime("%Y")}`)
	if err != nil {
		b.Fatal(err)
	}
	record := []byte(`{"type":{"device":"mobile","event":"user_clicked_submit_button"},"customer_id":"1234567890",` +
		`"event_timestamp":1565382027,"region":"sample_region"}`)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Eval(record); err != nil {
			b.Fatal(err)
		}
	}
}
