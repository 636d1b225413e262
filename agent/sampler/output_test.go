package sampler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A machine is an actuator with a number that has steps of 1/256, a whole number and a
// switch. It outlives its openings.
type machine struct {
	began time.Time

	mu     sync.Mutex
	duty   float64
	speed  int64
	on     bool
	broken bool
	sets   []string // "seconds channel=value"
}

func (m *machine) Channels() []hal.Channel {
	return []hal.Channel{{Name: "duty", Kind: hal.Float}, {Name: "speed", Kind: hal.Int}, {Name: "on", Kind: hal.Bool},
		{Name: "current", Unit: "A", Kind: hal.Float}}
}

func (m *machine) Range(channel string) (hal.Range, bool) {
	switch channel {
	case "duty":
		return hal.Range{Min: 0, Max: 1}, true
	case "speed":
		return hal.Range{Min: -100, Max: 100}, true
	}
	return hal.Range{}, false
}

func (m *machine) Read(context.Context) ([]hal.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return nil, errors.New("no answer")
	}
	return []hal.Value{hal.FloatValue(math.Round(m.duty*256) / 256), hal.IntValue(m.speed), hal.BoolValue(m.on),
		hal.FloatValue(0.5)}, nil
}

func (m *machine) Set(_ context.Context, channel string, v hal.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("no answer")
	}
	x := ""
	switch channel {
	case "duty":
		m.duty = v.Float()
		x = fmt.Sprintf("%.4g", m.duty)
	case "speed":
		m.speed = v.Int()
		x = fmt.Sprint(m.speed)
	case "on":
		m.on = v.Bool()
		x = fmt.Sprint(m.on)
	}
	m.sets = append(m.sets, fmt.Sprintf("%.1f %s=%s", time.Since(m.began).Seconds(), channel, x))
	return nil
}

func (m *machine) Close() error { return nil }

// take returns what was set since the last call.
func (m *machine) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.sets
	m.sets = nil
	return out
}

func (m *machine) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func machined(t *testing.T, sp Spec) (*machine, *Sampler, func()) {
	m := &machine{began: time.Now()}
	sp.Name, sp.Driver, sp.Every = "m", "m", 10*time.Second
	s, _, stop := rig(t, map[string]func() (hal.Sensor, error){"m": func() (hal.Sensor, error) { return m, nil }}, sp)
	synctest.Wait()
	return m, s, stop
}

func TestOutputRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, stop := machined(t, Spec{Limits: map[string]Limit{"speed": {Min: math.Inf(-1), Max: 50}}})
		for _, c := range []struct {
			channel string
			v       hal.Value
			want    hal.Value
			err     string
		}{
			{"duty", hal.FloatValue(0.3), hal.FloatValue(0.3), ""},
			{"duty", hal.IntValue(1), hal.FloatValue(1), ""},
			{"duty", hal.FloatValue(1.01), hal.Value{}, "duty: refused: 1.01, want 0 to 1"},
			{"duty", hal.FloatValue(math.NaN()), hal.Value{}, "want 0 to 1"},
			{"duty", hal.BoolValue(true), hal.Value{}, "want a number"},
			{"speed", hal.FloatValue(50), hal.IntValue(50), ""},
			{"speed", hal.FloatValue(51), hal.Value{}, "want -100 to 50"},
			{"speed", hal.FloatValue(1.5), hal.Value{}, "want a whole number"},
			{"on", hal.BoolValue(true), hal.BoolValue(true), ""},
			{"on", hal.FloatValue(1), hal.Value{}, "want true or false"},
			{"current", hal.FloatValue(1), hal.Value{}, "refused: not an output: m.current; it has duty, speed, on"},
		} {
			got, err := s.SetOutput(t.Context(), "m", c.channel, c.v)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%s: %v, want %s", c.channel, err, c.err)
			case c.err == "" && (err != nil || got != c.want):
				t.Errorf("%s: %v, %v", c.channel, got, err)
			}
		}
		// A number is what it was set to, though the hardware has its steps, and is not
		// set again and again.
		time.Sleep(time.Minute)
		if v := s.Status()[0].Outputs; v["duty"] != hal.FloatValue(1) || len(v) != 3 {
			t.Errorf("%v", v)
		}
		wantLines(t, m.take(), "0.0 duty=0.3", "0.0 duty=1", "0.0 speed=50", "0.0 on=true")
		stop()
		wantLines(t, m.take()) // nothing is safe here: it stays
	})
}

func TestOutputLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, stop := machined(t, Spec{Limits: map[string]Limit{"duty": {Rate: 1}, "speed": {Rate: 2},
			"on": {Interval: 5 * time.Second}}})
		set := func(channel string, v hal.Value) hal.Value {
			t.Helper()
			got, err := s.SetOutput(t.Context(), "m", channel, v)
			if err != nil {
				t.Error(err)
			}
			return got
		}
		if got := set("duty", hal.FloatValue(0.35)); got != hal.FloatValue(0.1) {
			t.Errorf("at once it is at %v", got.Float())
		}
		time.Sleep(time.Second)
		wantLines(t, m.take(), "0.0 duty=0.1", "0.1 duty=0.2", "0.2 duty=0.3", "0.3 duty=0.35")
		set("speed", hal.IntValue(-2))
		time.Sleep(2 * time.Second)
		wantLines(t, m.take(), "1.0 speed=-1", "1.5 speed=-2")
		set("on", hal.BoolValue(true))
		time.Sleep(time.Second)
		if set("on", hal.BoolValue(false)) != hal.BoolValue(true) {
			t.Error("switched too soon")
		}
		time.Sleep(time.Second)
		set("on", hal.BoolValue(true)) // it never was off
		set("on", hal.BoolValue(false))
		time.Sleep(time.Minute)
		wantLines(t, m.take(), "3.0 on=true", "8.0 on=false")
		// What the hardware loses is set again, at its next reading.
		m.change(func() { m.on = true })
		time.Sleep(10 * time.Second)
		if on := s.Status()[0].Outputs["on"]; on != hal.BoolValue(false) || len(m.take()) != 1 {
			t.Error("not set again")
		}
		stop()
	})
}

// What is safe is set before anything is read, while the sensor is held, and at the end,
// at once.
func TestSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		safe := Safe{Held: true, Values: map[string]hal.Value{"on": hal.BoolValue(false), "duty": hal.FloatValue(0.2)}}
		limits := map[string]Limit{"on": {Interval: 30 * time.Second}, "duty": {Rate: 0.01}}
		m, s, stop := machined(t, Spec{Limits: limits, Safe: safe})
		wantLines(t, m.take(), "0.0 duty=0.2", "0.0 on=false")
		if got, err := s.SetOutput(t.Context(), "m", "on", hal.BoolValue(true)); err != nil || got.Bool() {
			t.Errorf("while it is held: %v, %v", got, err)
		}
		if st := s.Status()[0]; !st.Held {
			t.Errorf("%+v", st)
		}
		if s.Hold("m", false) != nil || s.Hold("x", true) == nil {
			t.Error("Hold of a sensor, and of none")
		}
		time.Sleep(time.Minute)
		if _, err := s.SetOutput(t.Context(), "m", "on", hal.BoolValue(true)); err != nil {
			t.Error(err)
		}
		wantLines(t, m.take(), "60.0 on=true")
		_ = s.Hold("m", true)
		time.Sleep(time.Second)
		wantLines(t, m.take(), "60.0 duty=0.2", "60.0 on=false")
		_ = s.Hold("m", false)

		// An actuator that was away is as it was wanted when it is back, by its limits.
		if _, err := s.SetOutput(t.Context(), "m", "speed", hal.IntValue(7)); err != nil {
			t.Error(err)
		}
		m.change(func() { m.broken = true })
		time.Sleep(time.Minute)
		m.change(func() { m.broken, m.speed = false, 0 })
		time.Sleep(2 * time.Minute)
		got := m.take()
		if n := len(got); n < 2 || n > 3 || !strings.HasSuffix(got[n-1], "speed=7") {
			t.Errorf("%v", got)
		}
		stop()
		if got := m.take(); len(got) != 2 || !strings.HasSuffix(got[0], "duty=0.2") || !strings.HasSuffix(got[1],
			"on=false") {
			t.Errorf("at the end: %v", got)
		}
	})
}

// An actuator that cannot be opened says so at once.
func TestOutputThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, stop := rig(t, map[string]func() (hal.Sensor, error){"m": func() (hal.Sensor, error) {
			return nil, hal.ErrNoDevice
		}}, Spec{Name: "m", Driver: "m", Sampling: Sampling{Every: time.Second}})
		time.Sleep(time.Minute)
		before := time.Now()
		_, err := s.SetOutput(t.Context(), "m", "on", hal.BoolValue(true))
		if err == nil || !strings.Contains(err.Error(), "not open: open: hal: no such device") ||
			errors.Is(err, ErrRefused) || time.Since(before) > 0 {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		stop()
	})
}

// A value that could not be set is tried again, and the state says so meanwhile.
func TestOutputThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, stop := machined(t, Spec{})
		m.change(func() { m.broken = true })
		if _, err := s.SetOutput(t.Context(), "m", "on", hal.BoolValue(true)); err == nil {
			t.Error("set")
		}
		if st := s.Status()[0]; st.State != Retrying || !strings.Contains(st.Error, "no answer") {
			t.Errorf("%+v", st)
		}
		m.change(func() { m.broken = false })
		time.Sleep(setAgain + time.Second)
		if st := s.Status()[0]; st.State != OK || st.Outputs["on"] != hal.BoolValue(true) {
			t.Errorf("%+v", st)
		}
		// What failed is no matter any more once something else is wanted.
		m.change(func() { m.broken = true })
		_, err := s.SetOutput(t.Context(), "m", "on", hal.BoolValue(false))
		m.change(func() { m.broken = false })
		if _, again := s.SetOutput(t.Context(), "m", "on", hal.BoolValue(true)); err == nil || again != nil {
			t.Error(err, again)
		}
		time.Sleep(20 * time.Second)
		if st := s.Status()[0]; st.State != OK {
			t.Errorf("%+v", st)
		}
		stop()
	})
}
