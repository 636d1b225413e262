package iotsql

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/protojson/protojsontest"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// Functions of which an earlier evaluation may have had another value are
// marked, and only they.
func TestExplainMarksWhatIsComputedAnew(t *testing.T) {
	x := &Services{Shadows: shadowFunc(func() ([]byte, error) { return []byte(`{"v":1}`), nil })}
	s, err := x.Compile(`SELECT NewUUID() AS id, lower(topic()) AS t FROM 'a' WHERE rand() < 2 AND get_thing_shadow('x', 'r').v = 1`,
		Version2016)
	if err != nil {
		t.Fatal(err)
	}
	e := s.Explain(t.Context(), &Input{Message: message.Message{Topic: "a", Payload: []byte(`{}`)}})
	var marked []string
	for _, step := range e.Steps {
		if step.Anew {
			marked = append(marked, step.Text)
		}
	}
	if got := strings.Join(marked, " | "); got != "rand() | get_thing_shadow('x', 'r') | NewUUID()" {
		t.Errorf("marked: %s", got)
	}
	if !e.Fired || strings.Count(e.String(), "(may differ each time)") != 3 {
		t.Errorf("%s", e)
	}
	for name := range anew {
		if functions[name] == nil {
			t.Errorf("there is no function %s", name)
		}
	}
}

type shadowFunc func() ([]byte, error)

func (f shadowFunc) Shadow(context.Context, string, string) ([]byte, error) { return f() }

// A gate closes the way to services, and learns how long calls took.
type testGate struct {
	closed error
	took   []time.Duration
}

func (g *testGate) Enter() error             { return g.closed }
func (g *testGate) Leave(took time.Duration) { g.took = append(g.took, took) }

func TestGate(t *testing.T) {
	calls, failed := 0, 0
	x := &Services{Failed: func(string, error) { failed++ },
		Shadows: shadowFunc(func() ([]byte, error) { calls++; return []byte(`{"v":1}`), nil })}
	s, err := x.Compile(`SELECT get_thing_shadow('x', 'r').v AS v FROM 'a'`, Version2016)
	if err != nil {
		t.Fatal(err)
	}
	g := &testGate{}
	ctx := WithGate(t.Context(), g)
	for _, c := range []struct {
		closed error
		want   string
		calls  int
		failed int
		left   int
	}{{nil, `{"v":1}`, 1, 0, 1}, {errors.New("closed"), `{}`, 1, 1, 1}, {nil, `{"v":1}`, 2, 1, 2}} {
		g.closed = c.closed
		out, fired, err := s.Eval(ctx, nil, &Input{Message: message.Message{Topic: "a", Payload: []byte(`{}`)}})
		if string(out) != c.want || !fired || err != nil || calls != c.calls || failed != c.failed ||
			len(g.took) != c.left {
			t.Errorf("%+v: %s, %v, %v after %d calls, %d failed, %d left", c, out, fired, err, calls, failed,
				len(g.took))
		}
	}
}

// The descriptor sets of decode are behind the gate too; one that is known is
// used on while it is closed.
func TestGateOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, set := 0, protojsontest.Set(t)
		x := &Services{Protobuf: descriptorFunc(func() ([]byte, string, error) {
			calls++
			time.Sleep(100 * time.Millisecond)
			return set, "tag", nil
		})}
		s, err := x.Compile(`SELECT VALUE `+decodeReading+` FROM 'a'`, Version2016)
		if err != nil {
			t.Fatal(err)
		}
		g := &testGate{}
		ctx := WithGate(t.Context(), g)
		for _, c := range []struct {
			closed error
			want   string
			calls  int
		}{{errors.New("closed"), ``, 0}, {nil, `{"alarm":true}`, 1}, {errors.New("closed"), `{"alarm":true}`, 1}} {
			g.closed = c.closed
			out, _, err := s.Eval(ctx, nil, &Input{Message: message.Message{Topic: "a", Payload: []byte{0x40, 1}}})
			if string(out) != c.want || err != nil || calls != c.calls {
				t.Errorf("%+v: %q, %v after %d calls", c, out, err, calls)
			}
			time.Sleep(2 * schemaRefresh)
		}
		if !slices.Equal(g.took, []time.Duration{100 * time.Millisecond}) {
			t.Errorf("took %v", g.took)
		}
	})
}

type descriptorFunc func() ([]byte, string, error)

func (f descriptorFunc) DescriptorSet(context.Context, string, string, string) ([]byte, string, error) {
	return f()
}

// AND and OR of what is no Boolean do not fire, and the explanation says so.
func TestExplainNamesTheOperandThatIsNoBoolean(t *testing.T) {
	for where, want := range map[string]string{
		"a = 1 OR gone > 1":               "the right side is no Boolean, and OR then is Undefined whatever the other side is",
		"gone > 1 OR a = 1":               "the left side is no Boolean, and OR then is Undefined whatever the other side is",
		"a = 2 AND gone":                  "the right side is no Boolean, and AND then is Undefined whatever the other side is",
		"NOT (a = 1 OR gone)":             "the right side is no Boolean, and OR then is Undefined whatever the other side is",
		"isUndefined(gone) OR gone = 'x'": "the right side is no Boolean, and OR then is Undefined whatever the other side is",
	} {
		s := mustCompile(t, "SELECT a FROM 't' WHERE "+where, Version2016)
		e := s.Explain(t.Context(), &Input{Message: message.Message{Topic: "t", Payload: []byte(`{"a":1}`)}})
		noted := ""
		for _, step := range e.Steps {
			noted += step.Note
		}
		if e.Fired || noted != want || !strings.Contains(e.String(), want) {
			t.Errorf("%s: fired %v\n%s", where, e.Fired, e)
		}
	}
}

// A document with nothing of the payload is told of, by the evaluation and by
// the explanation; one that holds it, or never asked for it, is not.
func TestUnmerged(t *testing.T) {
	for _, c := range []struct {
		sel, payload string
		want         bool
	}{
		{"*, topic() AS d", `{"t":nan}`, true},
		{"*, topic() AS d", `Online`, true},
		{"*, topic() AS d", `[{"n":"temp","v":1}]`, true},
		{"*, topic() AS d", `80`, true},
		{"1 AS a, *, *", `null`, true},
		{"*, a.*", `[]`, true},
		{"*, topic() AS d", `{"t":1}`, false},
		{"*, topic() AS d", ``, false},
		{"*", `Online`, false},
		{"* AS m, topic() AS d", `Online`, false},
		{"topic() AS d", `Online`, false},
		{"a.*, topic() AS d", `{}`, true},
		{"a.*, topic() AS d", `nan`, true},
		{"a.*, topic() AS d", `Online`, true},
		{"a.*, topic() AS d", `[{"a":1}]`, true},
		{"a.*, topic() AS d", `"str"`, true},
		{"a.*, topic() AS d", `{"a":5}`, true},
		{"a.*, topic() AS d", `{"a":[1]}`, true},
		{"a.*", `{"a":null}`, true},
		{"a.b.*, c.*", `{"a":{"b":{"x":1}},"c":"lost"}`, true},
		{"a.*, topic() AS d", `{"a":{}}`, false},
		{"a.*, topic() AS d", `{"a":{"b":1}}`, false},
		{"a.*, *", `{"a":5}`, false},
		{"*, a.*", `{"a":5}`, false},
		{"(SELECT a.*, 1 AS x FROM b) AS d", `{"b":[{"a":1}]}`, false},
		{"(SELECT *, 1 AS x FROM a) AS d", `{"a":[1]}`, false},
	} {
		s := mustCompile(t, "SELECT "+c.sel+" FROM 't'", Version2016)
		m := &Input{Message: message.Message{Topic: "t", Payload: []byte(c.payload)}}
		for range 2 { // a frame that is used again remembers nothing
			r, err := s.Evaluate(t.Context(), nil, m)
			if err != nil || !r.Fired || r.Unmerged != c.want {
				t.Errorf("%s over %s: %+v, %v", c.sel, c.payload, r, err)
			}
		}
		e := s.Explain(t.Context(), m)
		if told := strings.Contains(e.String(),
			" is no JSON object, so the document has nothing of it"); e.Unmerged != c.want || told != c.want {
			t.Errorf("%s over %s: %v\n%s", c.sel, c.payload, e.Unmerged, e)
		}
	}
}
