package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/deploy/qemu/machine"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
	"github.com/tidemill/tidemill/deploy/qemu/session"
	"github.com/tidemill/tidemill/deploy/rig"
)

// What the device of the tests samples. On a busy machine a reading of 100 ms may take a
// second: one that fails would open the counter anew. flush is the interval that session's devices have.
const (
	flush     = time.Second
	perSecond = 10
	counting  = `
[[sensor]]
name = "n"
driver = "count"
every = "100ms"
timeout = "10s"
[[sensor]]
name = "room"
driver = "tmp105"
every = "500ms"
timeout = "10s"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x49
[[sensor]]
name = "air"
driver = "dps310"
every = "2s"
timeout = "10s"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x76
[[sensor]]
name = "lamp"
driver = "gpio-out"
every = "1s"
[sensor.options]
line = "GPIO27"
`
)

// fetched has get bring parts from the store. Those that cannot be had skip the test, or fail
// it in CI.
func fetched(t *testing.T, get func(*parts.Store) error) *parts.Store {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a device")
	}
	store, err := parts.Default(t.Output())
	if err == nil {
		err = get(store)
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	return store
}

// A world is a bridge with one device.
type world struct {
	t *testing.T
	s *session.Session
	m *machine.Machine
}

func newWorld(t *testing.T, board string) *world {
	t.Helper()
	b, err := machine.Find(board)
	if err != nil {
		t.Fatal(err)
	}
	store := fetched(t, func(s *parts.Store) error { return machine.Fetch(t.Context(), s, b) })
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), "../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	if w.s, err = session.Open(t.Context(), store, "../..", bin, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.m, err = w.s.Device(t.Context(), b, thing, counting, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.m.PowerCut()
		if console, err := w.m.Console(); t.Failed() && err == nil {
			t.Log("the console since the last power-on:\n" + console)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// on switches the power on and waits until a reading of this boot is in the stream.
func (w *world) on() {
	w.t.Helper()
	known := w.lives()
	began := time.Now()
	w.must(w.m.On())
	w.until("the first reading in the stream", func(r session.Record) bool {
		return r.Sensor == "n" && known[text(r, "life")] == nil
	})
	w.t.Logf("%s: a reading is in the stream %.1f s after the power came", w.m.Board.Name, time.Since(began).Seconds())
}

// until waits for a record of the stream.
func (w *world) until(what string, is func(r session.Record) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), bootLimit)
	defer cancel()
	found := false
	err := w.s.Records(ctx, true, func(r session.Record) bool {
		found = is(r)
		return !found
	})
	if !found {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// ask is how often the device is asked for its status: a command costs an emulated processor
// a second's part.
const ask = 2 * time.Second

// status waits until the device's agent says what ok wants, asking over the console.
func (w *world) status(what string, ok func(st *device.Status) bool) (st device.Status) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), bootLimit)
	defer cancel()
	for tick := time.NewTicker(ask); ; {
		out, err := w.m.Run(ctx, "status", "-json")
		if err == nil {
			st = device.Status{}
			err = json.Unmarshal([]byte(out), &st)
		}
		if err == nil && ok(&st) {
			tick.Stop()
			return st
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%s: %v; %s, %d readings in the spool", what, err, st.Link.State, st.Spool.Readings)
		}
	}
}

// taken is how many readings of the counter there were in this boot.
func taken(st *device.Status) int {
	i := slices.IndexFunc(st.Sensors, func(s device.SensorStatus) bool { return s.Name == "n" })
	if i < 0 {
		return 0
	}
	return int(st.Sensors[i].Readings)
}

func text(r session.Record, name string) string { return fmt.Sprint(r.Values[name]) }

// lives are the numbers of the counter's readings in the stream, by its life, which is
// another in each boot.
func (w *world) lives() map[string][]int {
	w.t.Helper()
	all := map[string][]int{}
	w.must(w.s.Records(w.t.Context(), false, func(r session.Record) bool {
		if r.Sensor == "n" {
			var n int
			_, _ = fmt.Sscan(text(r, "n"), &n) // else 0, which none has
			all[text(r, "life")] = append(all[text(r, "life")], n)
		}
		return true
	}))
	return all
}

// whole says that the numbers are 1 to their count, each once, and returns the count.
func (w *world) whole(life string, numbers []int) int {
	w.t.Helper()
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i+1 {
			near := numbers[max(0, i-3):min(len(numbers), i+3)]
			w.t.Fatalf("life %s: reading %d is lost or there twice: ... %v", life, i+1, near)
		}
	}
	return len(numbers)
}

// TestDevice has a Raspberry Pi 3 on Debian's kernel provisioned by claim. What a chip measures
// arrives in the stream, with its unit; an output that the shadow desires is at its level in
// the pin registers; a minute without link loses nothing; a power cut loses less than the flush
// interval has, and nothing that was on the card or acknowledged.
func TestDevice(t *testing.T) {
	w := newWorld(t, "raspi3b")
	w.on()
	w.until("a pressure in the stream", func(r session.Record) bool {
		return r.Sensor == "air" && r.Unit("pressure") == "Pa" && r.Values["pressure"] != nil
	})
	w.temperature(41.5)
	w.temperature(-12.25)
	for _, level := range []bool{true, false, true} {
		w.must(w.s.Desire(t.Context(), thing, map[string]any{"outputs": map[string]any{"lamp": map[string]any{
			"level": level}}}))
		ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
		w.must(rig.Until(ctx, fmt.Sprintf("level %v at the pin", level), func() (bool, error) {
			got, err := w.m.Level(ctx, 27)
			return got == level, err
		}))
		cancel()
	}
	w.minuteWithoutLink()
	w.powerCut()
	w.must(w.m.Off(t.Context(), bootLimit))
}

// temperature sets what the chip measures and waits for it in the stream. 12 bits have steps
// of 1/16 °C.
func (w *world) temperature(celsius float64) {
	w.t.Helper()
	w.must(w.m.SetTemperature(w.t.Context(), "tmp105", celsius))
	w.until(fmt.Sprint(celsius, " °C in the stream"), func(r session.Record) bool {
		return r.Sensor == "room" && text(r, "temperature") == fmt.Sprint(celsius) && r.Unit("temperature") == "°C"
	})
}

// minuteWithoutLink cuts the link until a minute's readings wait, and mends it.
func (w *world) minuteWithoutLink() {
	w.t.Helper()
	w.must(w.m.SetLink(w.t.Context(), false))
	before := w.status("a status", func(*device.Status) bool { return true })
	after := w.status("a minute's readings in the spool", func(st *device.Status) bool {
		return taken(st) >= taken(&before)+60*perSecond && st.Spool.Readings >= 60*perSecond
	})
	w.must(w.m.SetLink(w.t.Context(), true))
	w.status("the end of the backlog", func(st *device.Status) bool {
		return int(st.Spool.Acked) >= taken(&after) &&
			st.Spool.Readings < 10*perSecond
	})
	lives := w.lives()
	if len(lives) != 1 {
		w.t.Fatalf("%d lives, want 1", len(lives))
	}
	for life, numbers := range lives {
		n := w.whole(life, numbers)
		if n < taken(&after) {
			w.t.Errorf("%d readings are in the stream, %d were taken", n, taken(&after))
		}
		w.t.Logf("link cut for %d readings of %d: none is lost, none doubled", taken(&after)-taken(&before), n)
	}
}

// flushTakes is how long a flush may take on the emulated card beyond its interval.
const flushTakes = time.Second

// powerCut kills the device while it has readings that wait for the link, and starts it again.
func (w *world) powerCut() {
	w.t.Helper()
	w.must(w.m.SetLink(w.t.Context(), false))
	last := w.status("readings that wait", func(st *device.Status) bool { return st.Spool.Readings >= 5*perSecond })
	w.m.PowerCut()
	first := slices.Collect(maps.Keys(w.lives()))[0]
	w.on()
	now := w.status("the end of the backlog", func(st *device.Status) bool { return st.Spool.Readings < 5*perSecond })
	lives := w.lives()
	if len(lives) != 2 {
		w.t.Fatalf("%d lives, want 2", len(lives))
	}
	for life, numbers := range lives {
		n := w.whole(life, numbers)
		if life != first {
			continue
		}
		lost, most := taken(&last)-n, int((flush+flushTakes).Seconds()*perSecond)
		w.t.Logf("power cut after %d readings, of which %d waited on the card: %d arrived", taken(&last),
			last.Spool.Readings, n)
		if lost > most {
			w.t.Errorf("%d readings are lost, want at most %d: those of %v and of one flush", lost, most, flush)
		}
	}
	durable := uint64(0)
	w.must(w.s.Records(w.t.Context(), false, func(r session.Record) bool {
		var at int64
		if _, err := fmt.Sscan(text(r, "ts"), &at); err == nil && at < now.Started.UnixMilli() {
			durable++
		}
		return true
	}))
	if durable < last.Spool.Appended {
		w.t.Errorf("%d readings of all sensors arrived, but %d were on the card or acknowledged", durable,
			last.Spool.Appended)
	}
}
