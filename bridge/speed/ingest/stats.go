package ingest

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats of an Ingest since it was made.
type Stats struct {
	Messages    uint64        // taken: publishes, and readings of batches; refused ones not
	Readings    uint64        // taken from batches
	Batches     uint64        // taken, without copies and unreadable ones
	BatchBytes  uint64        // of those, as sent
	Duplicates  uint64        // batches sent again
	Refused     uint64        // readings that policy refused
	Quarantined uint64        // batches that could not be read
	Durable     uint64        // commits that ended well
	DurableTime time.Duration // from Publish to durable, summed over them
	Failed      uint64        // commits that failed
}

type counts struct {
	messages, readings, batches, batchBytes, duplicates, refused, quarantined, durable, failed atomic.Uint64

	durableTime atomic.Int64
}

// Stats returns what was taken since the Ingest was made.
func (in *Ingest) Stats() Stats {
	c := &in.counts
	return Stats{
		Messages: c.messages.Load(), Readings: c.readings.Load(), Batches: c.batches.Load(),
		BatchBytes: c.batchBytes.Load(), Duplicates: c.duplicates.Load(), Refused: c.refused.Load(),
		Quarantined: c.quarantined.Load(), Durable: c.durable.Load(),
		DurableTime: time.Duration(c.durableTime.Load()), Failed: c.failed.Load(),
	}
}

// warnings logs each (thing, topic) once an hour, and ten in a second at most:
// a fleet with a wrong policy must not fill the disk with log lines. Each line has
// the number of what it tells of since the one before.
type warnings struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	seen   map[string]said // by thing and topic
	second time.Time
	inIt   int
}

// said is what became of one (thing, topic): when it was logged last, and what
// came since.
type said struct {
	at    time.Time
	count int
}

// maxSeen bounds warnings.seen; beyond it all is forgotten.
const maxSeen = 10_000

func (w *warnings) say(msg, thing, topic string, n int, args ...any) {
	now := w.now()
	k := thing + "\x00" + topic
	w.mu.Lock()
	before, known := w.seen[k]
	n += before.count
	if now.Sub(w.second).Abs() >= time.Second {
		w.second, w.inIt = now, 0
	}
	quiet := known && now.Sub(before.at).Abs() < time.Hour && !before.at.IsZero()
	if !quiet {
		w.inIt++
		quiet = w.inIt > 10
	}
	if !known && len(w.seen) >= maxSeen {
		clear(w.seen)
	}
	if quiet {
		w.seen[k] = said{before.at, n}
		w.mu.Unlock()
		return
	}
	w.seen[k] = said{at: now}
	w.mu.Unlock()
	w.log.Warn(msg, append([]any{"thing", thing, "topic", topic, "count", n}, args...)...)
}
