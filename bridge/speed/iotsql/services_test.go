package iotsql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// A stub answers every call in the same way.
type stub struct {
	answer []byte
	err    error
	slow   bool // waits for the context's end
}

func (s stub) call(ctx context.Context) ([]byte, error) {
	if s.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.answer, s.err
}

func (s stub) Shadow(ctx context.Context, _, _ string) ([]byte, error)         { return s.call(ctx) }
func (s stub) Describe(ctx context.Context, _ string) ([]byte, error)          { return s.call(ctx) }
func (s stub) Groups(ctx context.Context, _ string) ([]byte, error)            { return s.call(ctx) }
func (s stub) Secret(ctx context.Context, _ string, _ bool) ([]byte, error)    { return s.call(ctx) }
func (s stub) Invoke(ctx context.Context, _ string, _ []byte) ([]byte, error)  { return s.call(ctx) }
func (s stub) Predict(ctx context.Context, _ string, _ []byte) ([]byte, error) { return s.call(ctx) }
func (s stub) Item(ctx context.Context, _, _ string, _ []byte, _ string, _ []byte) ([]byte, error) {
	return s.call(ctx)
}
func (s stub) DescriptorSet(ctx context.Context, _, _, _ string) ([]byte, string, error) {
	b, err := s.call(ctx)
	return b, "1", err
}

// failures are what Failed was told.
type failures struct {
	mu  sync.Mutex
	all []string
}

func (l *failures) add(function string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf("%s: %v", function, err))
}

func (s stub) services(l *failures) *Services {
	return &Services{Shadows: s, Things: s, Tables: s, Secrets: s, Lambdas: s, Models: s, Protobuf: s, Failed: l.add}
}

// outsideCalls has a call of each function that reaches outside, and its limit.
var outsideCalls = map[string]time.Duration{
	`get_thing_shadow('t', 'arn')`:                   callLimit,
	`get_registry_data('DescribeThing', 't', 'arn')`: callLimit,
	`get_dynamodb('t', 'k', 1, 'arn')`:               callLimit,
	`get_secret('s', 'SecretString', 'arn')`:         callLimit,
	`aws_lambda('f', *)`:                             lambdaLimit,
	`machinelearning_predict('m', 'arn', *)`:         callLimit,
	`decode(*, 'proto', 'b', 'k', 'f', 'm')`:         callLimit,
}

func mustCompileWith(t testing.TB, x *Services, sql string) *Statement {
	t.Helper()
	s, err := x.Compile(sql, Version2016)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOutsideLimits(t *testing.T) {
	for call, limit := range outsideCalls {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told failures
				s := mustCompileWith(t, stub{slow: true}.services(&told), "SELECT 1 AS ok, "+call+" AS r FROM 't'")
				start := time.Now()
				out, fired, err := s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: []byte("{}")}})
				if string(out) != `{"ok":1}` || !fired || err != nil {
					t.Errorf("slow service: %s, %v, %v", out, fired, err)
				}
				if took := time.Since(start); took != limit {
					t.Errorf("took %v, want %v", took, limit)
				}
				if len(told.all) != 1 || !strings.Contains(told.all[0], "deadline") {
					t.Errorf("told %q", told.all)
				}

				// The end of the evaluation's own context fails it.
				why := errors.New("shutdown")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(limit/2, func() { cancel(why) })
				start = time.Now()
				out, fired, err = s.Eval(ctx, nil, &Input{Message: message.Message{Payload: []byte("{}")}})
				if out != nil || fired || !errors.Is(err, why) {
					t.Errorf("context ended: %s, %v, %v", out, fired, err)
				}
				if took := time.Since(start); took != limit/2 {
					t.Errorf("took %v, want %v", took, limit/2)
				}
				if len(told.all) != 1 {
					t.Errorf("told %q", told.all[1:])
				}
			})
		})
	}
}

func TestOutsideAnswers(t *testing.T) {
	long := []byte(`"` + strings.Repeat("x", maxOutput) + `"`)
	for _, tt := range []struct {
		name   string
		stub   stub
		told   string // part of what Failed is told; "" if it isn't
		secret string // where a secret is another matter
	}{
		{name: "nothing"},
		{name: "fails", stub: stub{err: errors.New("no route")}, told: "no route"},
		{name: "too long", stub: stub{answer: long}, told: "limit"},
		{name: "no JSON", stub: stub{answer: []byte("{oops")}, told: "no JSON", secret: `"{oops"`},
		{name: "text behind", stub: stub{answer: []byte("{} {}")}, told: "no JSON", secret: `"{} {}"`},
		{name: "no bytes", stub: stub{answer: []byte{}}, told: "no JSON", secret: `""`},
		{name: "no UTF-8", stub: stub{answer: []byte("\"\xff\"")}, told: "no "},
		{name: "deep", stub: stub{answer: bytes.Repeat([]byte("["), 200)}, told: "no JSON", secret: `"` +
			strings.Repeat("[", 200) + `"`},
	} {
		for call := range outsideCalls {
			isSecret, isProto := strings.HasPrefix(call, "get_secret"), strings.HasPrefix(call, "decode")
			if isProto {
				continue // its answers are no JSON: see TestSchema
			}
			var told failures
			s := mustCompileWith(t, tt.stub.services(&told), "SELECT VALUE get_or_default("+call+", 'd') FROM 't'")
			out, _, err := s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: []byte("{}")}})
			want, wantTold := `"d"`, tt.told
			if isSecret && tt.secret != "" {
				want, wantTold = tt.secret, ""
			}
			if string(out) != want || err != nil {
				t.Errorf("%s: %s yields %.80s, %v", tt.name, call, out, err)
			}
			if all := strings.Join(told.all, "\n"); !strings.Contains(all, wantTold) ||
				(all == "") != (wantTold == "") {
				t.Errorf("%s: %s told %q, want %q", tt.name, call, all, wantTold)
			}
		}
	}
}

func TestOutsideRefused(t *testing.T) {
	for call := range outsideCalls {
		_, err := Compile("SELECT "+call+" AS r FROM 't'", Version2016)
		if serr, ok := errors.AsType[*SyntaxError](err); !ok || serr.Offset != len("SELECT ") ||
			!strings.Contains(serr.Msg, "no service here") {
			t.Errorf("%s without its service: %v", call, err)
		}
	}
	x := stub{}.services(&failures{})
	for _, sql := range []string{
		"SET @r = 'arn' SELECT get_thing_shadow('t', @r) AS r",
		"SET @r = 'arn' SELECT get_thing_shadow('t', 's', concat(@r, 'x')) AS r",
		"SET @r = 'DescribeThing' SELECT get_registry_data(@r, 't', 'arn') AS r",
		"SET @r = 'arn' SELECT get_registry_data('DescribeThing', 't', @r) AS r",
		"SET @r = 'arn' SELECT get_dynamodb('t', 'k', 1, @r) AS r",
		"SET @r = 'SecretString' SELECT get_secret('s', @r, 'arn') AS r",
		"SET @r = 'arn' SELECT get_secret('s', 'SecretString', @r) AS r",
		"SET @r = 'arn' SELECT machinelearning_predict('m', @r, *) AS r",
		"SET @r = 'proto' SELECT decode(*, @r, 'b', 'k', 'f', 'm') AS r",
		"SET @r = {'x': 'base64'} SELECT encode(*, @r.x) AS r",
		"SET @r = 'enrichArray' SELECT transform(@r, a, b) AS r",
		"SELECT decode(*, 'proto', 'b', 'k') AS r",
	} {
		if _, err := x.Compile(sql, Version2016); err == nil {
			t.Errorf("%s compiles", sql)
		}
	}
	for _, sql := range []string{
		"SET @t = 't' SELECT get_thing_shadow(@t, @t, 'arn') AS r",
		"SET @t = 't' SELECT get_secret(@t, 'SecretString', @t, 'arn') AS r",
		"SET @d = decode(*, 'proto', 'b', 'k', 'f', 'm') SELECT @d.a AS a",
	} {
		s, err := x.Compile(sql, Version2016)
		if err != nil {
			t.Error(err)
			continue
		}
		for text, want := range map[string]bool{
			"${get_thing_shadow('t', 'arn').a}":         true,
			"${decode(a, 'proto', 'b', 'k', 'f', 'm')}": false,
			"${decode(a, mode, 'b', 'k', 'f', 'm')}":    false,
		} {
			if _, err := s.Template(text); (err == nil) != want {
				t.Errorf("template %s: %v", text, err)
			}
		}
	}
	for call, modern := range map[string]bool{
		"get_thing_shadow('t', 'arn')": true, "get_dynamodb('t', 'k', 1, 'arn')": true,
		"get_registry_data('DescribeThing', 't', 'arn')": false, "get_secret('s', 'SecretString', 'arn')": false,
		"aws_lambda('f', *)": false, "machinelearning_predict('m', 'arn', *)": false,
	} {
		if _, err := x.Compile("SELECT "+call+" AS r", Version2015); (err != nil) != modern {
			t.Errorf("%s in %s: %v", call, Version2015, err)
		}
	}
}

// A second get_dynamodb and a third decode of protobuf end the rule, wherever
// they are.
func TestCallCounts(t *testing.T) {
	x := stub{answer: []byte("1")}.services(&failures{})
	const item, proto = "get_dynamodb('t', 'k', 1, 'arn')", "decode(*, 'proto', 'b', 'k', 'f', 'm')"
	for sql, ends := range map[string]bool{
		"SELECT " + item + " AS a":                                                       false,
		"SELECT " + item + " AS a, " + item + " AS b":                                    true,
		"SELECT " + item + " AS a WHERE " + item + " = 1":                                true,
		"SET @a = " + item + " SELECT @a AS a WHERE @a = 1":                              false,
		"SET @a = " + item + " SELECT @a AS a, " + item + " AS b":                        true,
		"SELECT get_dynamodb(null, 'k', 1, 'arn') AS a, " + item + " AS b":               true,
		"SELECT " + proto + " AS a, " + proto + " AS b":                                  false,
		"SELECT " + proto + " AS a, " + proto + " AS b WHERE isUndefined(" + proto + ")": true,
	} {
		s := mustCompileWith(t, x, sql)
		for range 2 { // the count is an evaluation's
			if _, fired, err := s.Eval(t.Context(), nil,
				&Input{Message: message.Message{Payload: []byte("{}")}}); errors.Is(err, errTooManyCalls) != ends ||
				fired == ends {
				t.Errorf("%s: fired %v, %v", sql, fired, err)
			}
		}
	}
	s := mustCompileWith(t, x, "SET @a = "+item+", @b = @a SELECT @b AS a")
	for text, ends := range map[string]bool{
		"${@a}": false, "${@a} ${@b}": false, "${@a} ${" + item + "}": true,
		"${" + item + "}": false, // SET is computed only for a template that has variables
	} {
		tm, err := s.Template(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tm.Append(t.Context(), nil, &Input{}); errors.Is(err, errTooManyCalls) != ends {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestExplainShowsCalls(t *testing.T) {
	x := stub{answer: []byte(`{"level": 3}`)}.services(&failures{})
	s := mustCompileWith(t, x, "SELECT 1 AS ok FROM 't' WHERE get_thing_shadow('t', 'arn').level > 2")
	e := s.Explain(t.Context(), &Input{Message: message.Message{Topic: "t", Payload: []byte("{}")}})
	const want = `get_thing_shadow('t', 'arn') → {"level":3}`
	if !e.Fired || !strings.Contains(e.String(), want) {
		t.Errorf("%s\nwant %s", e, want)
	}
}

// An explanation says why a function has no answer, at that function's step.
func TestExplainSaysWhyNot(t *testing.T) {
	for _, c := range []struct {
		stub stub
		call string
		want string
	}{
		{stub{}, "get_thing_shadow('t', 'arn')", "Undefined: there is none"},
		{stub{err: errors.New("out of order")}, "get_registry_data('DescribeThing', 't', 'arn')",
			"Undefined: out of order"},
		{stub{answer: []byte("{")}, "get_thing_shadow('t', 'arn')", "Undefined: the answer is no JSON"},
		{stub{err: errors.New("out of order")}, "decode(*, 'proto', 'b', 'k', 'f', 'M')",
			"Undefined: the descriptor set could not be had"},
	} {
		s := mustCompileWith(t, c.stub.services(&failures{}), "SELECT upper("+c.call+".a) AS r FROM 't'")
		e := s.Explain(t.Context(), &Input{Message: message.Message{Topic: "t", Payload: []byte("{}")}})
		var notes []string
		for _, step := range e.Steps {
			if step.Note != "" {
				notes = append(notes, step.Text)
			}
		}
		if !strings.Contains(e.String(), c.call+" → "+c.want) || !slices.Equal(notes, []string{c.call}) {
			t.Errorf("%s\nwant %s at %s, notes at %q", e, c.want, c.call, notes)
		}
	}
}

// keys records what Item is asked for.
type keys struct {
	stub
	asked []string
}

func (k *keys) Item(_ context.Context, table, partitionKey string, partitionValue []byte, sortKey string,
	sortValue []byte) ([]byte, error) {
	k.asked = append(k.asked, fmt.Sprintf("%s %s=%s %s=%s", table, partitionKey, partitionValue, sortKey, sortValue))
	return nil, nil
}

func TestTableKeys(t *testing.T) {
	for call, want := range map[string]string{
		"get_dynamodb('t', 'k', a, 'arn')":         `t k="x\"y" =`,
		"get_dynamodb('t', 'k', a, 's', n, 'arn')": `t k="x\"y" s=7`,
		"get_dynamodb(n, b, 1.5, 's', '7', 'arn')": `7 true=1.5 s="7"`,
		"get_dynamodb('t', 'k', b, 'arn')":         ``,
		"get_dynamodb('t', 'k', [1], 'arn')":       ``,
		"get_dynamodb('t', '', a, 'arn')":          ``,
		"get_dynamodb('t', 'k', a, '', 1, 'arn')":  ``,
		"get_dynamodb('t', 'k', a, 's', b, 'arn')": ``,
	} {
		k := &keys{}
		s := mustCompileWith(t, &Services{Tables: k}, "SELECT 1 AS ok, "+call+" AS r")
		if _, fired, err := s.Eval(t.Context(), nil,
			&Input{Message: message.Message{Payload: []byte(`{"a": "x\"y", "n": 7.0, "b": true}`)}}); !fired ||
			err != nil {
			t.Errorf("%s: %v, %v", call, fired, err)
		}
		if got := strings.Join(k.asked, "\n"); got != want {
			t.Errorf("%s asks %s, want %s", call, got, want)
		}
	}
}

func TestAsks(t *testing.T) {
	x := stub{}.services(&failures{})
	for sql, want := range map[string]string{
		"SELECT temp, encode(a, 'base64') AS e, newuuid() FROM 't'":                                              "",
		"SELECT decode(a, 'base64') AS d FROM 't'":                                                               "",
		"SELECT decode(a, 'proto', 'b', 'k', 'f', 'm') AS d FROM 't'":                                            "decode",
		"SET @x = GET_SECRET('s', 'SecretString', 'arn') SELECT @x AS x FROM 't'":                                "get_secret",
		"SELECT a FROM 't' WHERE get_thing_shadow('t', 'arn').v > 1 AND aws_lambda('a', *).v > 1":                "aws_lambda get_thing_shadow",
		"SELECT (SELECT get_thing_shadow(n, 'r') AS s FROM l) AS x, get_thing_shadow(n, 'q', 'r') AS y FROM 't'": "get_thing_shadow",
	} {
		if got := strings.Join(mustCompileWith(t, x, sql).Asks(), " "); got != want {
			t.Errorf("%s asks %q, want %q", sql, got, want)
		}
	}
}

// Who only looks at a statement calls no function by it, while what it reads is read.
func TestWithoutEffects(t *testing.T) {
	var l failures
	x := stub{answer: []byte(`{"a":1}`)}.services(&l)
	s := mustCompileWith(t, x,
		"SELECT aws_lambda('f', *).a AS f, get_secret('s', 'SecretString', 'a', 'arn') AS s FROM 't'")
	in := &Input{Message: message.Message{Topic: "t", Payload: []byte("{}")}}
	for ctx, want := range map[context.Context]string{t.Context(): `{"f":1,"s":1}`,
		WithoutEffects(t.Context()): `{"s":"[redacted]"}`} {
		got, fired, err := s.Eval(ctx, nil, in)
		if string(got) != want || !fired || err != nil {
			t.Errorf("%s, %v, %v, want %s", got, fired, err, want)
		}
	}
	if len(l.all) != 0 {
		t.Error(l.all)
	}
}

// Who only looks at a statement sees of a secret what members it has, in no form and by
// no comparison what they are.
func TestSecretsAreHidden(t *testing.T) {
	const object, text = `{"key":"hunter2","n":{"deep":"hunter2"},"a\u0022b":1}`, "hunter2"
	ctx := WithoutEffects(t.Context())
	for _, c := range []struct{ secret, call, want string }{
		{object, "get_secret('s', 'SecretString', 'arn')", `{"key":"[redacted]","n":"[redacted]","a\u0022b":"[redacted]"}`},
		{object, "get_secret('s', 'SecretString', 'key', 'arn')", `"[redacted]"`},
		{object, "get_secret('s', 'SecretString', 'none', 'arn')", ``},
		{object, "get_secret('s', 'SecretString', 'arn').n.deep", ``},
		{object, "get_secret('s', 'SecretBinary', 'arn')", `"[redacted]"`},
		{object, "startswith(get_secret('s', 'SecretString', 'key', 'arn'), 'h')", `false`},
		{text, "get_secret('s', 'SecretString', 'arn')", `"[redacted]"`},
		{text, "get_secret('s', 'SecretString', 'key', 'arn')", errSecretKey.Error()},
		{"\xff", "get_secret('s', 'SecretString', 'arn')", `"[redacted]"`},
		{"[1]", "get_secret('s', 'SecretString', 'arn')", `"[redacted]"`},
	} {
		x := stub{answer: []byte(c.secret)}.services(&failures{})
		s := mustCompileWith(t, x, "SELECT VALUE "+c.call+" FROM 't'")
		in := &Input{Message: message.Message{Topic: "t", Payload: []byte("{}")}}
		got, _, err := s.Eval(ctx, nil, in)
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != c.want {
			t.Errorf("%s of %s: %s, want %s", c.call, c.secret, got, c.want)
		}
		if e := s.Explain(ctx, in); strings.Contains(e.String(), "hunter2") || strings.Contains(string(e.Output), "hunter2") {
			t.Errorf("explained:\n%s", e.String())
		}
	}
}

// hide makes JSON objects of JSON objects, whatever they have.
func FuzzHide(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[{}]}`), false)
	f.Add([]byte(`hunter2`), true)
	f.Fuzz(func(t *testing.T, secret []byte, binary bool) {
		got := hide(secret, binary)
		if string(got) == Redacted {
			return
		}
		var was, is map[string]any
		if json.Unmarshal(secret, &was) == nil && (json.Unmarshal(got, &is) != nil || len(is) != len(was)) {
			t.Fatalf("%s became %s", secret, got)
		}
		for name, v := range is {
			if v != Redacted {
				t.Fatalf("%s is %v", name, v)
			}
		}
	})
}
