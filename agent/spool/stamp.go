package spool

import (
	"math"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// A Stamp is what a clock says at a flush. All is in ms.
type Stamp struct {
	Clock telemetry.Clock // of the batches
	Now   int64           // epoch ms, for MaxAge; 0: not to be trusted

	// Timed: Append was given times of a clock that never jumps, and Offset makes
	// epoch ms of them, Bound being the error of that, now. A batch that is right
	// within telemetry.PlainBound is of format version 1; others carry their Time.
	Timed  bool
	Offset int64
	Bound  int64
	PPM    int64 // by which Bound is greater for what is older, in millionths of its age
}

func wallClock() Stamp {
	if t := time.Now().UnixMilli(); t >= telemetry.OldestClock {
		return Stamp{Now: t}
	}
	return Stamp{}
}

// batch puts the times of a batch right, and says in its header how right they are.
func (s *Stamp) batch(b *telemetry.Batch) *telemetry.Batch {
	if b.Clock = s.Clock; !s.Timed {
		return b
	}
	oldest := int64(math.MaxInt64)
	for i := range b.Series {
		for _, t := range b.Series[i].Times {
			oldest = min(oldest, t)
		}
	}
	b = b.Shifted(s.Offset)
	bound := s.Bound
	if s.Clock == telemetry.ClockSynced {
		bound += max(0, s.Now-(oldest+s.Offset)) * s.PPM / 1_000_000
	}
	if s.Clock != telemetry.ClockSynced || bound > telemetry.PlainBound {
		b.Time = telemetry.Time{Anchor: s.Offset, Bound: max(bound, 1)}
	}
	return b
}
