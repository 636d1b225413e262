package sampler

import (
	"maps"
	"math"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Sampling says when a sensor is read and which of its readings are sent. It can
// be changed while the sensor is open.
type Sampling struct {
	Every time.Duration // between two ticks
	Phase time.Duration // ticks are this much after the multiples of Every; counted modulo Every
	// Average is how many times the sensor is read at a tick. A Float channel has
	// the mean of them, the others the last. It is not the driver's own
	// oversampling, which happens in the chip. 0 and 1 are once.
	Average int
	// Deadband says by channel how far a value must be from the one sent last
	// before a reading is sent. Channels that it does not name are sent at any
	// change. A reading is sent whole. Empty, with no Heartbeat: every reading is sent.
	Deadband map[string]Band
	// Heartbeat is the longest time without a reading sent; 0 with a Deadband is DefaultHeartbeat.
	Heartbeat time.Duration
	// Window, if not 0, puts minimum, mean, maximum and count of this long a time
	// in the place of its readings. Windows begin at multiples of their length.
	// Deadband and Heartbeat rest meanwhile.
	Window time.Duration
}

// DefaultHeartbeat tells a sensor that does not change from one that is dead.
const DefaultHeartbeat = time.Hour

// A Band is how far a value may be from the one sent last without being sent. The
// zero Band is any change.
type Band struct {
	Absolute float64 // in the channel's unit
	Percent  float64 // of the value sent last
	Never    bool    // this channel alone never causes a reading
}

func (s Sampling) equal(o Sampling) bool {
	return maps.Equal(s.Deadband, o.Deadband) && s.Every == o.Every && s.Phase == o.Phase && s.Average == o.Average &&
		s.Heartbeat == o.Heartbeat &&
		s.Window == o.Window
}

// OnChange says whether readings are left out while nothing changes.
func (s *Sampling) OnChange() bool { return s.Window == 0 && (len(s.Deadband) > 0 || s.Heartbeat > 0) }

// next is the first tick after now. It keeps now's monotonic clock, so that what is
// measured from it does not jump with the wall clock. A timer that fires a little
// early must not give the same tick twice, hence the tenth.
func (s *Sampling) next(now time.Time) time.Time {
	wall := now.Round(0)
	phase := s.Phase % s.Every
	tick := wall.Add(s.Every/10 - phase).Truncate(s.Every).Add(s.Every + phase)
	return now.Add(tick.Sub(wall))
}

// A filter leaves readings out that say nothing new.
type filter struct {
	bands  []Band // by channel
	sent   []hal.Value
	sentAt time.Time // zero: nothing was sent yet
}

func newFilter(chs []hal.Channel, s *Sampling) *filter {
	f := &filter{bands: make([]Band, len(chs)), sent: make([]hal.Value, len(chs))}
	for i, c := range chs {
		f.bands[i] = s.Deadband[c.Name]
	}
	return f
}

// due says whether a reading is to be sent. Without it, the next comes every later,
// which must not be after the heartbeat.
func (f *filter) due(now time.Time, s *Sampling, vals []hal.Value) bool {
	beat := s.Heartbeat
	if beat == 0 {
		beat = DefaultHeartbeat
	}
	if f.sentAt.IsZero() || now.Sub(f.sentAt)+s.Every > beat {
		return true
	}
	for i, v := range vals {
		if f.bands[i].left(f.sent[i], v) {
			return true
		}
	}
	return false
}

// keep notes what was sent.
func (f *filter) keep(now time.Time, vals []hal.Value) {
	copy(f.sent, vals)
	f.sentAt = now
}

// rounding lets 0.3 - 0.2 count as 0.1.
const rounding = 1e-9

// left says whether now is so far from before that it counts as a change.
func (b *Band) left(before, now hal.Value) bool {
	switch {
	case b.Never || before == now:
		return false
	case before.Kind() != now.Kind():
		return true
	}
	from, ok := number(before)
	to, _ := number(now)
	if !ok {
		return true
	}
	width := max(b.Absolute, math.Abs(from)*b.Percent/100)
	return math.Abs(to-from) >= width*(1-rounding)
}

// number returns the value of a Float or Int.
func number(v hal.Value) (float64, bool) {
	switch v.Kind() {
	case hal.Float:
		return v.Float(), true
	case hal.Int:
		return float64(v.Int()), true
	}
	return 0, false
}

// A mean adds up numbers.
type mean struct {
	n     int
	value float64
	scale float64 // the power of ten that all of them are multiples of the reciprocal of; 0 before the first
}

// maxScale is the finest resolution that is taken for one: a double has 15 digits.
const maxScale = 1e9

func (m *mean) add(v float64) {
	m.n++
	m.value += (v - m.value) / float64(m.n)
	if m.scale == 0 {
		m.scale = 1
	}
	for m.scale < maxScale {
		x := v * m.scale
		if math.Abs(x-math.Round(x)) <= 1e-9*max(1, math.Abs(x)) {
			break
		}
		m.scale *= 10
	}
}

// round returns the mean with the digits that it can have: those of the numbers,
// and one more for each hundred of them (the error of a mean falls with the square
// root). Others would be noise, and cost seven bytes a value on the wire.
func (m *mean) round() float64 {
	if m.scale >= maxScale || m.n == 0 {
		return m.value
	}
	scale := m.scale
	for n := 1; n < m.n; n *= 100 {
		scale *= 10
	}
	if r := math.Round(m.value*scale) / scale; !math.IsInf(r, 0) && !math.IsNaN(r) {
		return r
	}
	return m.value
}
