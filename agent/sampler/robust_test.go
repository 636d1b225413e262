package sampler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var errOutOfReach = errors.New("nothing in reach")

// A sensor that answers with no value keeps its tick and stays open; so does a source that
// says so by itself.
func TestNoValueIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := 0
		sn := &fake{read: func(context.Context) ([]hal.Value, error) { return nil, errOutOfReach }}
		s := New(Options{Sink: &times{}, Kind: func(err error) string {
			if errors.Is(err, errOutOfReach) {
				return hal.CauseOutOfRange
			}
			return ""
		}, Open: func(context.Context, Spec) (hal.Sensor, error) { opens++; return sn, nil }})
		s.Set([]Spec{{Name: "s", Sampling: Sampling{Every: time.Second}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(10*time.Minute + time.Millisecond)
		synctest.Wait()
		st := s.Status()[0]
		if st.Errors != 601 || opens != 1 || st.State != Implausible || st.Kind != hal.CauseOutOfRange {
			t.Errorf("opened %d times, %+v", opens, st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A panicTalker is a source whose driver is broken.
type panicTalker struct{ source }

func (*panicTalker) Next(context.Context) (hal.Push, error) { panic("index out of range") }

func TestSourceThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, st := sampled(t, &panicTalker{source{chs: celsius}}, Spec{Sampling: Sampling{Every: time.Minute}},
			500*time.Millisecond, nil)
		if st.Errors == 0 || !strings.Contains(st.Error, "the driver panicked: index out of range") {
			t.Errorf("%+v", st)
		}
	})
}

// A panicMachine is an actuator whose driver is broken.
type panicMachine struct{ machine }

func (*panicMachine) Range(string) (hal.Range, bool) { panic("no such channel") }

// A driver that panics when it is asked what it is ends no other sensor, nor the agent.
func TestDriverThatPanicsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, st := sampled(t, &panicMachine{}, Spec{Sampling: Sampling{Every: time.Second},
			Safe: Safe{Values: map[string]hal.Value{"on": hal.BoolValue(false)}}}, 10*time.Second, nil)
		if st.Errors < 3 || st.Open || !strings.Contains(st.Error, "the driver panicked: no such channel") {
			t.Errorf("%+v", st)
		}
	})
}

// The names of a window differ, however long those of the channels are.
func TestWindowNames(t *testing.T) {
	long := strings.Repeat("a", 30)
	chs := []hal.Channel{{Name: long + "_x", Kind: hal.Float}, {Name: long + "_y", Kind: hal.Float},
		{Name: long + "_z", Kind: hal.Bool}, {Name: "x", Kind: hal.Int}, {Name: "x_min", Kind: hal.Text}}
	seen := map[string]bool{}
	for _, c := range newWindow(chs, time.Minute, time.Now()).chs {
		if seen[c.Name] || len(c.Name) > maxName {
			t.Errorf("%q, twice or too long", c.Name)
		}
		seen[c.Name] = true
	}
	if !seen["x_min"] || !seen["x_min_2"] || !seen["x_min_count"] {
		t.Error(seen)
	}
}

// A moody sink refuses some.
type moody struct {
	times
	refuses atomic.Bool
}

func (m *moody) Append(sensor string, chs []hal.Channel, at time.Time, vals []hal.Value) error {
	if m.refuses.Load() {
		return errors.New("full")
	}
	return m.times.Append(sensor, chs, at, vals)
}

// A window that is refused is offered once more, and no reading after it is lost.
func TestWindowThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &moody{}
		s := New(Options{Sink: sink, Open: func(context.Context, Spec) (hal.Sensor, error) {
			return &source{chs: []hal.Channel{{Name: "t", Kind: hal.Text}},
				read: func(n int) []hal.Value { return []hal.Value{hal.TextValue(fmt.Sprint(n))} }}, nil
		}})
		s.Set([]Spec{{Name: "s", Sampling: Sampling{Every: time.Second, Window: 10 * time.Second}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		refuse := func(from, to time.Duration) {
			time.Sleep(from)
			sink.refuses.Store(true)
			time.Sleep(to)
			sink.refuses.Store(false)
		}
		refuse(15*time.Second, 10*time.Second) // at 20
		refuse(10*time.Second, 20*time.Second) // at 40 and 50
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := s.Status()[0]; st.Lost != 1 || st.Errors != 3 {
			t.Errorf("%+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		var at []string
		for _, line := range sink.got {
			f := strings.Fields(line)
			at = append(at, f[0]+" "+f[3])
		}
		want := []string{"10 t_count=10", "20 t_count=10", "30 t_count=10", "50 t_count=10", "60 t_count=10"}
		if !slices.Equal(at[:min(len(at), 5)], want) {
			t.Errorf("%v", sink.got)
		}
	})
}

// A holder is a sensor on hardware that one at a time may have.
type holder struct {
	fake
	has  *atomic.Int32
	hang time.Duration // of Close
}

func (h *holder) Close() error {
	time.Sleep(h.hang)
	h.has.Add(-1)
	return nil
}

// Sets that come at once, and while Run starts, leave one runner for each sensor.
func TestSetsAtOnce(t *testing.T) {
	var has atomic.Int32
	var most atomic.Int32
	s := New(Options{Sink: &times{}, Open: func(context.Context, Spec) (hal.Sensor, error) {
		if n := has.Add(1); n > most.Load() {
			most.Store(n)
		}
		return &holder{has: &has}, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	done := make(chan error, 1)
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				s.Set([]Spec{{Name: "s", Options: map[string]any{"n": i*100 + n},
					Sampling: Sampling{Every: time.Hour}}})
			}
		})
	}
	go func() { done <- s.Run(ctx) }()
	wg.Wait()
	cancel()
	if err := <-done; err != nil || has.Load() != 0 || most.Load() > 1 {
		t.Errorf("%v; %d are open at the end, %d were at once", err, has.Load(), most.Load())
	}
}

// A sampling that is set while Run starts holds, and the race detector sees no race.
func TestSamplingWhileRunStarts(t *testing.T) {
	for range 50 {
		var has atomic.Int32
		s := New(Options{Sink: &times{}, Open: func(context.Context, Spec) (hal.Sensor, error) {
			return &holder{has: &has}, nil
		}})
		s.Set([]Spec{{Name: "s", Sampling: Sampling{Every: time.Hour}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for n := range time.Duration(200) {
			if err := s.SetSampling("s", Sampling{Every: 2*time.Hour + (199-n)*time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := s.Status()[0].Sampling.Every; got != 2*time.Hour {
			t.Errorf("every %v, want 2h", got)
		}
	}
}

// Sensors that do not stop are waited for once, and not opened again before they have.
func TestSetAndSensorsThatDoNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var has [3]atomic.Int32
		s := New(Options{Sink: &times{}, Open: func(_ context.Context, sp Spec) (hal.Sensor, error) {
			i := sp.Options["i"].(int)
			if has[i].Add(1) > 1 {
				t.Errorf("%s is opened while it is in use", sp.Name)
			}
			return &holder{has: &has[i], hang: time.Minute}, nil
		}})
		specs := func(every, timeout time.Duration) (all []Spec) {
			for i := range has {
				all = append(all, Spec{Name: fmt.Sprint(every, i), Options: map[string]any{"i": i},
					Sampling: Sampling{Every: every}, Timeout: timeout})
			}
			return all
		}
		s.Set(specs(time.Second, time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Second)
		began := time.Now()
		s.Set(specs(2*time.Second, 2*time.Second))
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("waited for %v", took)
		}
		synctest.Wait()
		if st := s.Status()[0]; st.State != Stuck || st.Open {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := s.Status()[0]; st.State != OK || !st.Open {
			t.Errorf("%+v", st)
		}
		cancel()
		<-done
		time.Sleep(2 * time.Minute)
	})
}

// A slowMachine takes its time to set an output.
type slowMachine struct{ machine }

func (m *slowMachine) Set(ctx context.Context, channel string, v hal.Value) error {
	select {
	case <-time.After(1500 * time.Millisecond):
		return m.machine.Set(ctx, channel, v)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// At the end all that is safe has two seconds together.
func TestSafeAtTheEndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &slowMachine{machine{began: time.Now()}}
		_, _, stop := rig(t, map[string]func() (hal.Sensor, error){"m": func() (hal.Sensor, error) { return m, nil }},
			Spec{Name: "m", Driver: "m", Timeout: 10 * time.Second, Sampling: Sampling{Every: 10 * time.Second},
				Safe: Safe{Values: map[string]hal.Value{"duty": hal.FloatValue(0), "speed": hal.IntValue(0),
					"on": hal.BoolValue(false)}}})
		time.Sleep(time.Minute)
		began := time.Now()
		stop()
		if took := time.Since(began); took != safeFor {
			t.Errorf("took %v", took)
		}
	})
}

// A ramp is told when it begins and when it ends.
func TestRampIsToldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		m := &machine{began: time.Now()}
		s := New(Options{Sink: &times{}, Changed: func(string) { told.Add(1) },
			Open: func(context.Context, Spec) (hal.Sensor, error) { return m, nil }})
		s.Set([]Spec{{Name: "m", Sampling: Sampling{Every: 3 * time.Second},
			Limits: map[string]Limit{"duty": {Rate: 0.01}}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Second)
		before := told.Load()
		if _, err := s.SetOutput(ctx, "m", "duty", hal.FloatValue(0.5)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n := told.Load() - before; n < 2 || n > 4 || s.Status()[0].Outputs["duty"] != hal.FloatValue(0.5) {
			t.Errorf("told %d times, %+v", n, s.Status()[0])
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
