package iotsql

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Functions of which an earlier evaluation may have had another value are
// marked, and only they.
func TestExplainMarksWhatIsComputedAnew(t *testing.T) {
	x := &Services{Shadows: shadowFunc(func() ([]byte, error) { return []byte(`{"v":1}`), nil })}
	s, err := x.Compile(`SELECT NewUUID() AS id, lower(topic()) AS t FROM 'a' WHERE rand() < 2 AND get_thing_shadow('x', 'r').v = 1`, Version2016)
	if err != nil {
		t.Fatal(err)
	}
	e := s.Explain(t.Context(), &Message{Topic: "a", Payload: []byte(`{}`)})
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
		out, fired, err := s.Eval(ctx, nil, &Message{Topic: "a", Payload: []byte(`{}`)})
		if string(out) != c.want || !fired || err != nil || calls != c.calls || failed != c.failed || len(g.took) != c.left {
			t.Errorf("%+v: %s, %v, %v after %d calls, %d failed, %d left", c, out, fired, err, calls, failed, len(g.took))
		}
	}
}

// The descriptor sets of decode are behind the gate too; one that is known is
// used on while it is closed.
func TestGateOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, set := 0, meterSet(t)
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
			out, _, err := s.Eval(ctx, nil, &Message{Topic: "a", Payload: []byte{0x40, 1}})
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
