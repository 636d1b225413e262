package sampler

import (
	"strconv"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A window gathers the readings of one stretch of time. What it sends has, for each
// channel x of the sensor, of which a Float or an Int makes
//
//	x_min, x_mean, x_max   the smallest, the mean and the largest value
//	x_count                how many there were
//
// a Bool makes x, the last, x_mean, the share that was true, and x_count, and a Text
// x, the last, and x_count.
type window struct {
	length time.Duration
	start  time.Time // by the wall clock
	end    time.Time // when it is due, with the monotonic clock
	filled bool      // something was added

	chs   []hal.Channel // what is sent
	vals  []hal.Value   // of chs
	cells []cell        // by channel of the sensor
}

// A cell is one channel of a window.
type cell struct {
	kind     hal.Kind
	mean     mean
	min, max hal.Value
	last     hal.Value
}

// maxName is the longest name of a channel, in bytes (hal.Channel). A longer one loses
// letters before its ending; where two would be alike then, the later has a number there.
const maxName = 32

func fit(name, ending string) string { return name[:min(len(name), maxName-len(ending))] + ending }

// shareScale keeps three digits of the share of a Bool that was true, and more with
// many readings.
const shareScale = 1e3

func newWindow(chs []hal.Channel, length time.Duration, now time.Time) *window {
	w := &window{length: length, cells: make([]cell, len(chs))}
	used := map[string]bool{}
	add := func(c hal.Channel, ending, unit string, kind hal.Kind) {
		name := fit(c.Name, ending)
		for n := 2; used[name]; n++ {
			name = fit(c.Name, "_"+strconv.Itoa(n)+ending)
		}
		used[name] = true
		w.chs = append(w.chs, hal.Channel{Name: name, Unit: unit, Kind: kind})
	}
	for i, c := range chs {
		w.cells[i].kind = c.Kind
		switch c.Kind {
		case hal.Float, hal.Int:
			add(c, "_min", c.Unit, c.Kind)
			add(c, "_mean", c.Unit, hal.Float)
			add(c, "_max", c.Unit, c.Kind)
		case hal.Bool:
			add(c, "", c.Unit, c.Kind)
			add(c, "_mean", "", hal.Float)
		default:
			add(c, "", c.Unit, c.Kind)
		}
		add(c, "_count", "", hal.Int)
	}
	w.vals = make([]hal.Value, len(w.chs))
	w.begin(now)
	return w
}

// begin empties the window and makes it the one that now is in.
func (w *window) begin(now time.Time) {
	wall := now.Round(0)
	w.start = wall.Truncate(w.length)
	w.end = now.Add(w.start.Add(w.length).Sub(wall))
	w.filled = false
	for i := range w.cells {
		w.cells[i] = cell{kind: w.cells[i].kind}
	}
}

// over says whether now is outside of the window, and returns the time stamp that
// the window has: its end, or now where the wall clock was set meanwhile. Both have the
// monotonic clock, by which a time can be repaired once the clock is known.
func (w *window) over(now time.Time) (stamp time.Time, over bool) {
	wall, end := now.Round(0), w.start.Add(w.length)
	if at := wall.Sub(w.start); at >= 0 && at < w.length {
		return now, false
	}
	if set := wall.Sub(end) - now.Sub(w.end); set.Abs() >= w.length {
		return now, true
	}
	return w.end, true
}

// early says whether the window is not over though it is due: the wall clock runs slower
// than the monotonic one while it is brought in line. It is due a little later then.
func (w *window) early(now time.Time) bool {
	_, over := w.over(now)
	if !over {
		w.end = now.Add(w.start.Add(w.length).Sub(now.Round(0)))
	}
	return !over
}

func (w *window) add(vals []hal.Value) {
	for i, v := range vals {
		c := &w.cells[i]
		if v.Kind() != c.kind {
			continue // absent
		}
		w.filled = true
		x := 0.0
		switch c.kind {
		case hal.Float, hal.Int:
			x, _ = number(v)
			if low, ok := number(c.min); !ok || x < low {
				c.min = v
			}
			if high, ok := number(c.max); !ok || x > high {
				c.max = v
			}
		case hal.Bool:
			c.mean.scale = shareScale
			if v.Bool() {
				x = 1
			}
		}
		c.mean.add(x)
		c.last = v
	}
}

// values returns what the window sends, which is good until it is called again.
// Channels that had no value are absent, with a count of 0.
func (w *window) values() []hal.Value {
	out := w.vals[:0]
	for i := range w.cells {
		c := &w.cells[i]
		middle := hal.Value{}
		if c.mean.n > 0 {
			middle = hal.FloatValue(c.mean.round())
		}
		switch c.kind {
		case hal.Float, hal.Int:
			out = append(out, c.min, middle, c.max)
		case hal.Bool:
			out = append(out, c.last, middle)
		default:
			out = append(out, c.last)
		}
		out = append(out, hal.IntValue(int64(c.mean.n)))
	}
	return out
}
