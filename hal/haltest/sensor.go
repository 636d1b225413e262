// Package haltest holds the suite that every Sensor passes, and record and
// playback of I2C traffic, so that what a real chip said once can be said again
// in a test.
package haltest

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tidemill/tidemill/hal"
)

// name is what hal.Channel says of names.
var name = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Sensor runs the suite; open returns a new, working sensor each time. An
// Actuator's bool channels are set to both levels and left low. Reads get ten
// seconds each, which only a sensor that hangs needs.
func Sensor(t *testing.T, open func(t testing.TB) hal.Sensor) {
	t.Helper()
	t.Run("channels", func(t *testing.T) { channels(t, open(t)) })
	t.Run("values", func(t *testing.T) { values(t, open(t)) })
	t.Run("context", func(t *testing.T) { contexts(t, open(t)) })
	t.Run("close", func(t *testing.T) { closing(t, open(t)) })
	t.Run("set", func(t *testing.T) {
		s := open(t)
		a, ok := s.(hal.Actuator)
		if !ok {
			end(t, s)
			t.Skip("not an actuator")
		}
		setting(t, a)
	})
}

func end(t *testing.T, s hal.Sensor) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// read reads s and checks the values against the channels.
func read(t *testing.T, s hal.Sensor) []hal.Value {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	vals, err := s.Read(ctx)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	chs := s.Channels()
	if len(vals) != len(chs) {
		t.Fatalf("Read returned %d values for %d channels", len(vals), len(chs))
	}
	present := 0
	for i, v := range vals {
		if v.Kind() == hal.Absent {
			continue
		}
		present++
		if v.Kind() != chs[i].Kind {
			t.Errorf("%s: value of kind %d, want %d", chs[i].Name, v.Kind(), chs[i].Kind)
		}
		if v.Kind() == hal.Text && !utf8.ValidString(v.Text()) {
			t.Errorf("%s: %q is not UTF-8", chs[i].Name, v.Text())
		}
	}
	if present == 0 {
		t.Error("Read returned no value and no error")
	}
	return vals
}

func channels(t *testing.T, s hal.Sensor) {
	defer end(t, s)
	chs := slices.Clone(s.Channels())
	if len(chs) == 0 {
		t.Fatal("no channels")
	}
	seen := map[string]bool{"ts": true} // the record's own member
	for _, c := range chs {
		if !name.MatchString(c.Name) {
			t.Errorf("channel name %q, want %s", c.Name, name)
		}
		if seen[c.Name] {
			t.Errorf("channel name %q is taken", c.Name)
		}
		seen[c.Name] = true
		if !utf8.ValidString(c.Unit) || len(c.Unit) > 16 || slices.ContainsFunc([]rune(c.Unit), func(r rune) bool {
			return !unicode.IsPrint(r)
		}) {
			t.Errorf("%s: unit %q", c.Name, c.Unit)
		}
		if c.Kind < hal.Float || c.Kind > hal.Text {
			t.Errorf("%s: kind %d", c.Name, c.Kind)
		}
	}
	read(t, s)
	if now := s.Channels(); !slices.Equal(now, chs) {
		t.Errorf("channels after a read: %v, before: %v", now, chs)
	}
	end(t, s)
	if now := s.Channels(); !slices.Equal(now, chs) {
		t.Errorf("channels after Close: %v, before: %v", now, chs)
	}
}

func values(t *testing.T, s hal.Sensor) {
	defer end(t, s)
	first := read(t, s)
	kept := slices.Clone(first)
	for range 3 {
		read(t, s)
	}
	// NaN would differ from itself, but Value compares bits.
	if !slices.Equal(first, kept) {
		t.Error("a later Read changed an earlier one's values")
	}
}

func contexts(t *testing.T, s hal.Sensor) {
	defer end(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read with a context that has ended: %v, want context.Canceled", err)
	}
	read(t, s) // may be read again
}

func closing(t *testing.T, s hal.Sensor) {
	read(t, s)
	end(t, s)
	end(t, s)
	if vals, err := s.Read(t.Context()); err == nil {
		t.Errorf("Read after Close: %v, want an error", vals)
	}
	if a, ok := s.(hal.Actuator); ok {
		for _, c := range a.Channels() {
			if c.Kind == hal.Bool && a.Set(t.Context(), c.Name, hal.BoolValue(true)) == nil {
				t.Errorf("Set of %s after Close: no error", c.Name)
			}
		}
	}
}

func setting(t *testing.T, a hal.Actuator) {
	defer end(t, a)
	ctx := t.Context()
	if a.Set(ctx, "no_such_channel", hal.BoolValue(true)) == nil {
		t.Error("Set of an unknown channel: no error")
	}
	for i, c := range a.Channels() {
		if a.Set(ctx, c.Name, hal.Value{}) == nil {
			t.Errorf("Set of %s to an absent value: no error", c.Name)
		}
		if c.Kind != hal.Bool {
			continue
		}
		for _, v := range []hal.Value{hal.BoolValue(true), hal.BoolValue(false)} {
			if err := a.Set(ctx, c.Name, v); err != nil {
				t.Errorf("Set of %s to %v: %v", c.Name, v.Bool(), err)
			}
			if got := read(t, a)[i]; got != v {
				t.Errorf("%s reads %v after Set to %v", c.Name, got.Bool(), v.Bool())
			}
		}
	}
}
