package iotsql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// seeds are statements and payloads for the fuzz corpora.
var seeds = []string{
	refRule,
	`SELECT * FROM 'a/+/b'`,
	`SELECT *, a.b AS c.d, 1 AS n FROM '#' WHERE NOT a = 1 OR b IN [1, 'x', null]`,
	`SET @x = concat(a, 'b'), @y = {'k': @x} SELECT VALUE @y.k FROM 'a'`,
	`SELECT (SELECT VALUE upper(n) FROM e WHERE v > 1) AS r, EXISTS (SELECT * FROM e AS x WHERE x = 3) AS s FROM 'a'`,
	`SELECT CASE a WHEN 1 THEN 'x' WHEN 1.5E3 THEN "y" ELSE -a END AS r, cast(a AS Decimal) AS d FROM 't'`,
	`SELECT regexp_replace(a, '([0-9]+)', '<$1>') AS r, parse_time('yyyy-MM-dd', timestamp(), 'Europe/Oslo') AS t FROM 't'`,
	`SELECT encode(*, 'base64') AS e, decode(a, 'base64').x AS d, transform('enrichArray', o, e) AS q FROM 't'`,
	"SELECT a\n, b FROM\t't' WHERE (a + 1) * -2 / 3 % 4 <> 5 AND get(e, 0).v >= 1",
}

var payloads = []string{
	``, `{}`, `[]`, `5`, `"x"`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":"\u0041\ud83d\ude00\ud800"}`,
	"{\"\\u0061\":{\"b\":[1,{}]}}",
	`{"a":1e5,"b":-0.0,"e":[1,2,{"n":"x","v":2.50}],"o":{"k":null},"c":true}`, " {\n\"a\" : [ 1 , 2 ] } ", `{"a":1}x`,
	"{\"a\":\"\xff\"}",
	`{"a":123456789012345678901234567890.5,"b":1e999,"o":1e1000}`, `{"a":"MTIz","e":[{"v":1}]}`,
}

// checkSyntaxError holds every error to its promises.
func checkSyntaxError(t *testing.T, text string, err error) {
	t.Helper()
	var se *SyntaxError
	if !errors.As(err, &se) {
		t.Fatalf("%q: error of type %T: %v", text, err, err)
	}
	if se.Offset < 0 || se.Offset > len(text) || se.Line < 1 || se.Column < 1 || se.Msg == "" {
		t.Fatalf("%q: %+v", text, se)
	}
	if lines := strings.Count(text[:se.Offset], "\n") + 1; se.Line != lines {
		t.Fatalf("%q: line %d, want %d", text, se.Line, lines)
	}
	out := strings.Split(se.Error(), "\n")
	if n := len(out); n < 3 || !strings.HasSuffix(out[n-1], "^") ||
		utf8.RuneCountInString(out[n-1]) > utf8.RuneCountInString(out[n-2])+1 {
		t.Fatalf("%q: no picture in %q", text, se.Error())
	}
}

// checkOutput runs a statement and holds the result to its promises.
func checkOutput(t *testing.T, s *Statement, m *Input) {
	t.Helper()
	prefix := []byte("prefix")
	out, fired, err := s.Eval(context.Background(), prefix, m)
	if !bytes.HasPrefix(out, prefix) || (!fired || err != nil) && len(out) != len(prefix) || err != nil && fired {
		t.Fatalf("%s over %q: %q, %v, %v", s, m.Payload, out, fired, err)
	}
	if !fired {
		return
	}
	doc := out[len(prefix):]
	sel := s.prog.sel
	if sel.lone {
		if !bytes.Equal(doc, m.Payload) {
			t.Fatalf("%s over %q: %q", s, m.Payload, doc)
		}
		return
	}
	if !(sel.value && len(doc) == 0) && (!json.Valid(doc) || !utf8.Valid(doc)) {
		t.Fatalf("%s over %q: not JSON: %q", s, m.Payload, doc)
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range seeds {
		for _, p := range []string{payloads[0], payloads[9], payloads[13]} {
			f.Add(s, []byte(p))
		}
	}
	f.Fuzz(func(t *testing.T, sql string, payload []byte) {
		for _, version := range []string{Version2015, Version2016} {
			s, err := Compile(sql, version)
			if err != nil {
				checkSyntaxError(t, sql, err)
				continue
			}
			m := &Input{Message: message.Message{Topic: "a/b", Payload: payload, Time: 1700000000000}}
			checkOutput(t, s, m)
			if e := s.Explain(context.Background(), m); e.String() == "" {
				t.Fatal("no explanation")
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"${topic()}/x", "a ${b} $${c.d}", "${get({'a': '}'}, 'a')}", "${", "$", "${a b}"} {
		f.Add(s, []byte(payloads[9]))
	}
	f.Fuzz(func(t *testing.T, text string, payload []byte) {
		tm, err := CompileTemplate(text, Version2016)
		if err != nil {
			checkSyntaxError(t, text, err)
			return
		}
		out, err := tm.Append(context.Background(), []byte("x"),
			&Input{Message: message.Message{Topic: "a/b", Payload: payload}})
		if !bytes.HasPrefix(out, []byte("x")) || err != nil && len(out) != 1 {
			t.Fatalf("%q: %q, %v", text, out, err)
		}
		if c, ok := tm.Const(); ok && c != string(out[1:]) {
			t.Fatalf("constant %q, appended %q", c, out[1:])
		}
	})
}

// FuzzPayload runs a fixed set of statements over any payload, and compares
// what the scan finds with encoding/json.
func FuzzPayload(f *testing.F) {
	var statements []*Statement
	for _, sql := range append(seeds, everyFunction()...) {
		s, err := silent.Compile(sql, Version2016)
		if err != nil {
			f.Fatal(err)
		}
		statements = append(statements, s)
	}
	attr, err := Compile(`SELECT VALUE [isUndefined(a), a] FROM 't'`, Version2016)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range payloads {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := &Input{Message: message.Message{Topic: "a/b", Payload: payload,
			Properties: properties{User: [][2]string{{"k", string(payload[:min(len(payload), 65535)])}}}.wire()}}
		for _, s := range statements {
			checkOutput(t, s, m)
		}
		var doc map[string]json.RawMessage
		want := "[true]"
		if utf8.Valid(payload) && len(bytes.Trim(payload, " \t\r\n")) > 0 && json.Unmarshal(payload, &doc) == nil {
			if a, ok := doc["a"]; ok {
				want = "[false," + string(a) + "]"
			}
		}
		out, _, err := attr.Eval(context.Background(), nil, m)
		if err != nil {
			if errors.Is(err, errTooDeep) || errors.Is(err, errTooLarge) {
				return
			}
			t.Fatal(err)
		}
		got, err1 := readJSON(out)
		exp, err2 := readJSON([]byte(want))
		if err1 != nil || err2 != nil || !sameJSON(got, exp, 0) {
			if n := bytes.IndexAny([]byte(want), "eE"); n >= 0 && len(want) < 1<<10 {
				return // apd in sameJSON has a smaller range of exponents than JSON
			}
			t.Fatalf("%q: a is %s, encoding/json has %s", payload, out, want)
		}
	})
}

// everyFunction makes a statement for each function, with each number of arguments.
func everyFunction() []string {
	var all []string
	for name, fn := range functions {
		for n := 0; n <= 3; n++ {
			if !fn.takes(n) {
				continue
			}
			args := []string{"a", "b", "c"}[:n]
			all = append(all, fmt.Sprintf("SELECT %s(%s) AS r FROM 't'", name, strings.Join(args, ", ")),
				fmt.Sprintf("SELECT %s(%s) AS r FROM 't'", name, strings.Join([]string{"e", "a", "o"}[:n], ", ")))
		}
	}
	for typ := range castTypes {
		all = append(all, "SELECT cast(a AS "+typ+") AS r FROM 't'")
	}
	return all
}

// The way over int64 and the one over apd must agree.
func FuzzArithmetic(f *testing.F) {
	f.Add(int64(75), int8(-1), int64(2), int8(0))
	f.Add(int64(-7), int8(0), int64(3), int8(0))
	f.Add(int64(9223372036854775807), int8(0), int64(-1), int8(-3))
	f.Fuzz(func(t *testing.T, a int64, ae int8, b int64, be int8) {
		const tooSmall = -9223372036854775808
		if a == tooSmall || b == tooSmall {
			return
		}
		for _, version := range []string{Version2015, Version2016} {
			p := &program{version: version, modern: version == Version2016}
			x := value{kind: kindNumber, c: a, e: int32(ae % 30)}
			y := value{kind: kindNumber, c: b, e: int32(be % 30)}
			if ae == 0 {
				x.form = formInt
			}
			if be == 0 {
				y.form = formInt
			}
			bx, by := x, y
			bx.d, by.d = apd.New(a, x.e), apd.New(b, y.e)
			if compare(x, y) != bx.d.Cmp(by.d) {
				t.Fatalf("compare %v %v: %d", x, y, compare(x, y))
			}
			for _, op := range []byte("+-*/%") {
				if b == 0 && (op == '/' || op == '%') {
					continue
				}
				got, want := p.arithmetic(op, x, y), p.arithmetic(op, bx, by)
				if got.kind != want.kind || got.kind == kindNumber &&
					(compare(got, want) != 0 || got.form != want.form) {
					t.Fatalf("%s %c %s: %s, in apd %s", bx.d, op, by.d, appendDecimal(nil, got),
						appendDecimal(nil, want))
				}
				if got.kind != kindNumber {
					continue
				}
				text := appendDecimal(nil, got)
				back, ok := parseNumber(text, true)
				if !ok || compare(back, got) != 0 || !json.Valid(text) {
					t.Fatalf("%s is not read back", text)
				}
			}
		}
	})
}

// What a pattern with all fields writes, the same pattern reads back; other
// patterns and texts do no harm.
func FuzzTime(f *testing.F) {
	f.Add("yyyy-MM-dd", "2020-02-29", int64(1481825251155))
	f.Add("d/M/yy h:mm a 'x''y' z", "1/1/20 1:01 AM x'y PST", int64(-1))
	f.Add("yyyyMMddHHmmssSSSZ", "20200101000000000+0100", int64(253402300799999))
	f.Add("EEEE D VV XXX G", "Monday 7 Europe/Oslo +01:00 AD", int64(0))
	f.Fuzz(func(t *testing.T, pattern, text string, ms int64) {
		fr := newFrame(t.Context(), &program{modern: true}, &Input{})
		defer fr.release()
		str := func(s string) value { return textValue([]byte(s)) }
		parseTime(fr, []value{str(pattern), intValue(ms), str(text)})
		timeToEpoch(fr, []value{str(text), str(pattern)})

		const full = "yyyy-MM-dd'T'HH:mm:ss.SSSZ"
		for _, zone := range []string{"UTC", "America/St_Johns", "Asia/Kathmandu"} {
			out := parseTime(fr, []value{str(full), intValue(ms), str(zone)})
			if out.kind == kindUndefined {
				continue
			}
			// Local mean time before about 1940 has seconds, which the pattern drops.
			back := timeToEpoch(fr, []value{out, str(full)})
			if back.kind != kindNumber || back.c != ms && ms > -900000000000 {
				t.Fatalf("%d in %s is %s, read back %d", ms, zone, out.b, back.c)
			}
		}
	})
}
