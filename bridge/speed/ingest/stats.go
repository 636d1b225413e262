package ingest

import (
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

// warn logs seldom what n publishes or readings of a thing on a topic have: a fleet
// with a wrong policy must not fill the disk with log lines.
func (in *Ingest) warn(msg, thing, topic string, n int, args ...any) {
	in.notices.HappenedTo(msg+"\x00"+thing+"\x00"+topic, uint64(n), func(count uint64) {
		in.opts.Log.Warn(msg, append([]any{"thing", thing, "topic", topic, "count", count}, args...)...)
	})
}
