package clock

import (
	"encoding/hex"
	"math"
	"slices"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// bootOf returns the boot in which the agent was started so, -1 if it is not known.
func (c *Clock) bootOf(start [16]byte) int {
	id := hex.EncodeToString(start[:])
	return slices.IndexFunc(c.h.boots, func(b *boot) bool { return slices.Contains(b.Starts, id) })
}

// monoOf returns from when to when a batch's readings are, by the clock that counts
// from boot.
func monoOf(b *telemetry.Batch) (from, to int64) {
	from, to = math.MaxInt64, math.MinInt64
	for i := range b.Series {
		for _, t := range b.Series[i].Times {
			from, to = min(from, t-b.Time.Anchor), max(to, t-b.Time.Anchor)
		}
	}
	if from > to {
		return 0, 0
	}
	return from, to
}

// maxSent is how many batches that were sent are remembered: more than an uplink has
// on their way.
const maxSent = 1024

// sent is what became of the batches that are on their way.
type sent struct {
	times map[uint64]telemetry.Time // by sequence number; the state is ClockSynced
	seq   uint64                    // the last one whose time was known
	boot  int                       // ... and its boot
	to    int64                     // mono of its last reading
	time  telemetry.Time
	plain []byte // a batch of a good clock that came after it
}

// Fix returns a stored batch with the best that is known of its times, the batch
// itself where there is nothing to add. known is false if it was of an unknown time
// and still is: more may be known later, and it is another then. One whose time was
// known is the same, byte for byte, when it is sent again before Sent says that it
// arrived. A batch that cannot be read is returned as it is.
//
// Batches come in order, and so do their times: where more has been learned since
// the one before, and would put this one before it, it is put after it and the
// difference is part of its bound.
func (c *Clock) Fix(payload []byte) (out []byte, known bool) {
	h, err := telemetry.DecodeHeader(payload)
	if err != nil {
		return payload, true
	}
	if (h.Time == telemetry.Time{}) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if h.Clock == telemetry.ClockSynced && h.Seq > c.sent.seq {
			c.sent.plain = payload
		}
		return payload, true
	}
	c.mu.Lock()
	t, again := c.sent.times[h.Seq]
	c.mu.Unlock()
	if !again {
		b, err := telemetry.Decode(payload)
		if err != nil {
			return payload, true
		}
		if t, known = c.fixed(b); !known {
			return payload, false
		}
	}
	if out, err = telemetry.Retime(payload, telemetry.ClockSynced, t); err != nil {
		return payload, true
	}
	return out, true
}

// Sent says that the bridge has the batch.
func (c *Clock) Sent(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sent.times, seq)
}

func (c *Clock) fixed(b *telemetry.Batch) (t telemetry.Time, known bool) {
	from, to := monoOf(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.sent
	boot := c.bootOf(b.Boot)
	t.Anchor, t.Bound, known = c.offsetOf(b, boot, from, to)
	if !known {
		return t, false
	}
	if b.Seq > s.seq {
		least, bound := s.least(boot, from)
		// Where it is more than both can be off, one of them was wrong.
		if more := least - t.Anchor; more > 0 && more <= t.Bound+bound {
			t.Anchor, t.Bound = least, t.Bound+more
		}
		s.seq, s.boot, s.to, s.time, s.plain = b.Seq, boot, to, t, nil
		if boot == len(c.h.boots)-1 {
			c.noteStamped(anchor{At: to, Offset: t.Anchor})
		}
	}
	if s.times == nil || len(s.times) >= maxSent {
		s.times = map[uint64]telemetry.Time{}
	}
	s.times[b.Seq] = t
	return t, true
}

// least is the least offset that puts a batch of a boot after what was sent before
// it, and how far off that was.
func (s *sent) least(boot int, from int64) (offset, bound int64) {
	offset = math.MinInt64 / 2
	switch {
	case s.plain != nil:
		if b, err := telemetry.Decode(s.plain); err == nil && b.Readings() > 0 {
			_, to := monoOf(b) // its times, since it has no anchor
			offset, bound = to-from, telemetry.PlainBound
		}
	case s.seq > 0 && boot >= 0 && boot == s.boot:
		offset, bound = s.time.Anchor-max(0, from-s.to), s.time.Bound
	case s.seq > 0:
		offset, bound = s.to+s.time.Anchor-from, s.time.Bound
	}
	return offset, bound
}

// offsetOf is what to add to the readings of a batch of boot i, -1 for a forgotten
// one, that are from one moment to another. What the batch itself says counts where
// less is known: its boot is forgotten, or a kill came before the time was written.
// mu is held.
func (c *Clock) offsetOf(b *telemetry.Batch, i int, from, to int64) (offset, bound int64, known bool) {
	middle := from + (to-from)/2
	around := drift(to-from)/2 + 2 // within the batch, and of what was cut off to ms
	var wall int64
	if i >= 0 {
		c.h.boots[i].Last = max(c.h.boots[i].Last, to)
		wall, bound, known = c.h.when(i, middle)
	} else if top := c.h.upper(0, 0); top != never {
		// It was before all that are not forgotten, and not before what was known
		// when it was sealed.
		lo := middle + b.Time.Anchor - b.Time.Bound
		wall = max(lo, top-(to-middle)+drift(to-middle))
		bound, known = wall-lo, true
	}
	offset, bound = wall-middle, bound+around
	if b.Clock == telemetry.ClockSynced && (!known || b.Time.Bound < bound/2) {
		return b.Time.Anchor, b.Time.Bound, true
	}
	return offset, bound, known
}
