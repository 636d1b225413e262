package sensor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

func TestGPIOSuite(t *testing.T) {
	haltest.Sensor(t, func(t testing.TB) hal.Sensor {
		return open(t, "gpio-in", sim.New(sim.Options{}), map[string]any{"line": "sim:1", "pull": "up"})
	})
	haltest.Sensor(t, func(t testing.TB) hal.Sensor {
		return open(t, "gpio-out", sim.New(sim.Options{}), map[string]any{"line": "sim:2"})
	})
}

func TestGPIOIn(t *testing.T) {
	type step struct {
		high bool
		wait time.Duration
	}
	bounce := []step{{true, time.Millisecond}, {false, time.Millisecond}, {true, time.Millisecond},
		{false, 2 * time.Millisecond}, {true, time.Second}}
	spike := []step{{true, time.Millisecond}, {false, time.Second}}
	for _, c := range []struct {
		name    string
		noEdges bool
		opts    map[string]any
		steps   []step
		level   bool
		edges   int64
	}{
		{"every edge", false, nil, bounce, true, 5},
		{"a bouncing switch", false, map[string]any{"debounce": "5ms"}, bounce, true, 1},
		{"a spike", false, map[string]any{"debounce": "5ms"}, spike, false, 0},
		{"a spike counts", false, nil, spike, false, 2},
		{"pulled up", false, map[string]any{"pull": "up"}, nil, true, 0},
		{"pulled down", false, map[string]any{"pull": "down"}, nil, false, 0},
		{"polling sees every level that lasts", false, map[string]any{"poll": "100us"}, bounce, true, 5},
		{"slow polling misses short ones", false, map[string]any{"poll": "400ms"}, bounce, true, 1},
		{"no interrupts", true, nil, []step{{true, time.Second}, {false, time.Second}, {true, time.Second}}, true, 3},
		{"no interrupts, debounced", true, map[string]any{"debounce": "50ms"}, bounce, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := sim.New(sim.Options{NoEdges: c.noEdges})
				opts := map[string]any{"line": "sim:4"}
				for k, v := range c.opts {
					opts[k] = v
				}
				s := open(t, "gpio-in", b, opts)
				pin, err := b.Pin("sim:4")
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(50 * time.Microsecond) // not in step with the polls
				for _, x := range c.steps {
					pin.Drive(x.high)
					time.Sleep(x.wait)
				}
				synctest.Wait()
				m := reading(t, s)
				if m["level"].Bool() != c.level || m["edges"].Int() != c.edges {
					t.Errorf("level %v, %d edges; want %v, %d", m["level"].Bool(), m["edges"].Int(), c.level, c.edges)
				}
				if err := s.Close(); err != nil { // ends its goroutine, or Test fails
					t.Error(err)
				}
				pin.Drive(true)
			})
		})
	}
}

// A debounced level is the settled one also while the switch bounces.
func TestGPIOInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{})
		s := open(t, "gpio-in", b, map[string]any{"line": "sim:0", "debounce": "20ms"})
		defer s.Close()
		pin, _ := b.Pin("sim:0")
		pin.Drive(true)
		time.Sleep(10 * time.Millisecond)
		if m := reading(t, s); m["level"].Bool() || m["edges"].Int() != 0 {
			t.Error("the level counts before it has lasted")
		}
		time.Sleep(11 * time.Millisecond)
		synctest.Wait()
		if m := reading(t, s); !m["level"].Bool() || m["edges"].Int() != 1 {
			t.Error("the level does not count after it has lasted")
		}
	})
}

func TestGPIOOut(t *testing.T) {
	ctx := context.Background()
	b := sim.New(sim.Options{})
	pin, _ := b.Pin("sim:9")
	pin.Drive(true)
	s := open(t, "gpio-out", b, map[string]any{"line": "sim:9"})
	if !reading(t, s)["level"].Bool() {
		t.Error("opening changed the level")
	}
	if _, err := sensor.Open(ctx, "gpio-out", b, map[string]any{"line": "sim:9"}); err == nil {
		t.Error("the same line opened twice")
	}
	s.Close()
	s = open(t, "gpio-out", b, map[string]any{"line": "sim:9", "initial": false})
	if reading(t, s)["level"].Bool() {
		t.Error("initial = false reads high")
	}
	a := s.(hal.Actuator)
	pin.Hold(false)
	if err := a.Set(ctx, "level", hal.BoolValue(true)); !errors.Is(err, sensor.ErrHeld) {
		t.Errorf("a short circuit: %v, want ErrHeld", err)
	}
	pin.Unhold()
	if err := a.Set(ctx, "level", hal.BoolValue(true)); err != nil {
		t.Error(err)
	}
	for _, bad := range []hal.Value{{}, hal.IntValue(1), hal.TextValue("true"), hal.FloatValue(1)} {
		if a.Set(ctx, "level", bad) == nil {
			t.Errorf("a value of kind %d was taken", bad.Kind())
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.Set(gone, "level", hal.BoolValue(false)); !errors.Is(err, context.Canceled) || !pin.Level() {
		t.Errorf("Set with a context that has ended: %v, level %v", err, pin.Level())
	}
	s.Close()
	if _, err := sensor.Open(ctx, "gpio-out", b, map[string]any{"line": "gpiochip9:1"}); !errors.Is(err,
		hal.ErrNoDevice) {
		t.Errorf("no such line: %v", err)
	}
}

// plain is a board without the means to set inputs up.
type plain struct{ hal.Board }

func TestGPIOPlainBoard(t *testing.T) {
	b := plain{sim.New(sim.Options{})}
	s := open(t, "gpio-in", b, map[string]any{"line": "sim:0"})
	s.Close()
	if _, err := sensor.Open(t.Context(), "gpio-in", b, map[string]any{"line": "sim:0", "pull": "up"}); err == nil {
		t.Error("pull was ignored")
	}
	s = open(t, "gpio-out", b, map[string]any{"line": "sim:0", "initial": true})
	if !reading(t, s)["level"].Bool() {
		t.Error("initial was ignored")
	}
	s.Close()
}
