package clock

import (
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// current is offset and bound as of now. mu is held.
func (c *Clock) current() (offset, bound int64, known bool) {
	i := len(c.h.boots) - 1
	b := c.h.boots[i]
	if len(b.Anchors) == 0 {
		return b.Guess, max(1, c.mono+b.Guess-c.h.lower(i, c.mono)), false
	}
	if last := b.Anchors[len(b.Anchors)-1]; last.At == c.mono {
		return last.Offset, last.Bound, true // of the kernel, just read
	}
	wall, bound, _ := c.h.when(i, c.mono)
	return wall - c.mono, bound, true
}

// A Stamp is what to add to Taken's times.
type Stamp struct {
	Offset int64 // ms
	// Known: the sum is right within Bound. Otherwise it is a guess, and the true
	// time is so much earlier at most.
	Known bool
	Bound int64 // ms
	Now   int64 // the sum as of now, epoch ms
}

// Stamp returns what is known now. It writes the file now and then, so it may take
// as long as a flush.
func (c *Clock) Stamp() Stamp {
	c.mu.Lock()
	c.look()
	passed := time.Duration(c.mono-c.saved) * time.Millisecond
	var known *record
	if passed >= saveEvery || c.news == soon && passed >= saveSoon || c.news == atOnce {
		known = c.kept()
	}
	s := c.stamp()
	if s.Known {
		c.noteStamped(anchor{At: c.mono, Offset: s.Offset})
	}
	c.oldest = never
	c.mu.Unlock()
	if known != nil {
		c.save(known)
	}
	return s
}

// stamp goes back by 1 % at most of the time that passes between readings, once it is
// known: where more is learned, readings that are taken later must not come before.
// What is left is part of the bound.
func (c *Clock) stamp() Stamp {
	offset, bound, known := c.current()
	if known && c.stamped.At != 0 {
		if least := c.stamped.Offset - max(0, min(c.oldest, c.mono)-c.stamped.At)/100; offset < least {
			offset, bound = least, bound+least-offset
		}
	}
	return Stamp{Offset: offset, Known: known, Bound: bound, Now: c.mono + offset}
}

// noteStamped notes an offset that readings have up to a moment. mu is held.
func (c *Clock) noteStamped(a anchor) {
	switch {
	case c.stamped.At == 0 || a.At >= c.stamped.At:
		if c.stamped.At != 0 {
			a.Offset = max(a.Offset, c.stamped.Offset-(a.At-c.stamped.At)/100)
		}
		c.stamped = a
	default:
		c.stamped.Offset = max(c.stamped.Offset, a.Offset-(c.stamped.At-a.At)/100)
	}
}

// Taken returns the ms since the machine's boot at a moment of this process, not long
// ago, at which a reading was taken that the next Stamp is for.
func (c *Clock) Taken(at time.Time) int64 {
	mono := (c.read().Boot - time.Since(at)).Milliseconds()
	c.noteTaken(mono)
	return mono
}

func (c *Clock) noteTaken(mono int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oldest = min(c.oldest, mono)
}

// Wall returns Taken's time as epoch ms, as far as that is known.
func (c *Clock) Wall(mono int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	offset, _, _ := c.current()
	return mono + offset
}

// Changed is closed when more is known than now.
func (c *Clock) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Status is a snapshot for people and metrics.
type Status struct {
	Known  bool
	Source Source
	Now    time.Time     // as far as it is known
	Error  time.Duration // its bound; while not known the time is so much earlier at most
	Offset time.Duration // Now less the system's clock
	Kernel telemetry.Clock
	// Refused says why the bridge's time is not taken.
	Refused string
}

// Status reads the clocks.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	s := c.stamp()
	st := Status{Known: s.Known, Source: c.source, Now: time.UnixMilli(s.Now).UTC(),
		Error: time.Duration(s.Bound) * time.Millisecond, Kernel: telemetry.ClockUnsynced, Refused: c.refused}
	st.Offset = st.Now.Sub(c.r.Wall).Round(time.Millisecond)
	if c.r.Synced {
		st.Kernel = telemetry.ClockSynced
	}
	return st
}
