package sensor

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A meter makes a debounced level, counts, frequency and pulse widths of the
// edges of one line. A window lasts from one take to the next. All times are on
// the line's clock.
type meter struct {
	debounce time.Duration // a level counts once it has lasted this long

	level   bool // that counts
	edges   int64
	changed bool          // the line has the other level, not yet for long enough,
	since   time.Duration // ... since then
	last    time.Duration // the newest edge
	back    bool          // an edge was older than the one before it

	rose bool          // there was a rise, and the last one was
	rise time.Duration // ... then
	high bool          // the pulse that runs began at rise

	// Of this window.
	periods  int           // rises that have one before them
	span     time.Duration // of all periods
	pulses   int           // that have ended
	sum      time.Duration // of their widths
	min, max time.Duration
}

// edge takes the next change of the line.
func (m *meter) edge(e hal.Edge) {
	if e.At < m.last {
		m.back = true
	}
	m.last = e.At
	if m.debounce == 0 {
		m.count(e)
		return
	}
	m.settle(e.At)
	// Changes that nobody saw were shorter than the time they would have to last.
	m.changed, m.since = e.High != m.level, e.At
}

// settle lets a level count that has lasted long enough by now.
func (m *meter) settle(now time.Duration) {
	if m.changed && now-m.since >= m.debounce {
		m.changed = false
		m.count(hal.Edge{High: !m.level, At: m.since})
	}
}

// count takes a change that counts. Of the changes that were lost before it, every
// second one was a rise.
func (m *meter) count(e hal.Edge) {
	changes := e.Lost + 1
	m.edges += int64(changes)
	rises := changes / 2
	if e.High {
		rises = (changes + 1) / 2
	}
	if rises > 0 && m.rose {
		m.periods += rises
		m.span += e.At - m.rise
	}
	if !e.High && m.high && e.Lost == 0 {
		width := e.At - m.rise
		if m.pulses == 0 {
			m.min, m.max = width, width
		}
		m.min, m.max = min(m.min, width), max(m.max, width)
		m.sum += width
		m.pulses++
	}
	if rises > 0 {
		m.rose, m.rise = true, e.At
	}
	m.level, m.high = e.High, e.High
}

// measured is what a window gave.
type measured struct {
	level     bool
	edges     int64
	frequency float64 // rises in 1/s, from one to the next; 0 without
	pulses    int
	mean      float64 // widths in s
	min, max  float64
}

// take ends the window. high is what the line reads now; a level only counts if
// the line still has it. Times that went back are an ErrImplausible: nothing of
// the window can be trusted.
func (m *meter) take(now time.Duration, high bool) (measured, error) {
	if high != m.level {
		m.settle(now)
	}
	got := measured{level: m.level, edges: m.edges, pulses: m.pulses}
	if m.span > 0 {
		got.frequency = float64(m.periods) / m.span.Seconds()
	}
	if m.pulses > 0 {
		got.mean = (m.sum / time.Duration(m.pulses)).Seconds()
		got.min, got.max = m.min.Seconds(), m.max.Seconds()
	}
	m.periods, m.span, m.pulses, m.sum = 0, 0, 0, 0
	if m.back {
		m.back, m.rose, m.high = false, false, false
		return measured{}, fmt.Errorf("%w: the times of the line's edges went back", ErrImplausible)
	}
	return got, nil
}
