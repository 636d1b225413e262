// Package ingest puts what devices publish into the ingest log, so that an
// acknowledgement means durable and each reading takes effect once.
//
// A batch of readings (topic $tidemill/batch) is expanded to one message for
// each reading, on the reading's own topic dt/{thing}/{sensor}, which policy
// and rules then see. Every other publish is one message. All messages of one
// publish go in one atomic commit to one shard, chosen by the thing's name, so
// each thing's order holds.
//
// A batch is known by (thing, spool, boot, sequence), boot being the start of
// the agent that made it. The highest sequence of each boot is committed with
// the records it covers, so a batch that is sent again is stored once, before
// and after a crash, and its copy is acknowledged only when the first is
// durable. Sequences may have gaps: a spool that was full drops its oldest
// batches. Of each thing the marks of the last 64 boots are kept, whatever it
// sends; a copy from an earlier boot, all that time unacknowledged, would be
// stored again.
//
// Two things are acknowledged though they are not in the log, since sending
// them again can't help, and the device would do so for ever, behind it
// everything else:
//   - readings on a topic that policy refuses: counted, logged and told to done;
//   - batches that can't be read, or that come from a client that is no thing:
//     counted, logged, and kept as they came in the stream $quarantine.
//
// A publish is an Entry from Begin to Commit. Between the two its messages are
// shown to subscribers, in the order of the log, and what has to be durable with
// them joins its batch. So subscribers see a message when it is queued, not when
// it is synced, but for what they put off by Then. After a crash in between, a
// device sends its message again and subscribers see it twice, as QoS 1 allows.
package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/quota"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const (
	// Stream is the ingest log.
	Stream = "$ingest"

	// Quarantine is the stream of batches that could not be read: one record
	// each, a Message with the batch as its payload.
	Quarantine = "$quarantine"
)

// Options of an Ingest. The zero value is good for use.
type Options struct {
	// Shards of the ingest log if it has to be made; 0: 16.
	Shards int

	// Store says whether messages on topic are logged; nil: all. The others
	// are acknowledged at once.
	Store func(topic string) bool

	// Units has each reading of a batch carry the units of its channels, as user
	// properties of MQTT 5: unit.CHANNEL. They are in its record, 20 to 30 bytes each.
	Units bool

	// ThingRate and ThingBytes are how many messages a second a thing may
	// publish, and how many bytes of topics and payloads; each reading of a batch
	// is a message. Begin takes them all the same: see Wait. 0: no limit.
	ThingRate, ThingBytes int

	// Lanes is how many boots' marks are kept in memory, about 250 bytes
	// each; others are read from the store. 0: 100,000.
	Lanes int

	Log *slog.Logger // nil: nothing is logged

	// Notices has warnings logged seldom; somebody runs it. nil: one of its own.
	Notices *notice.Log

	Now func() time.Time // nil: time.Now
}

// A Log is what an Ingest needs of the bridge's log: its streams, and marks that
// are stored together with the batches they are of.
type Log interface {
	streams.Keys
	Create(name string, c streams.Config) error
	Describe(name string) (streams.Info, error)
	NewBatch() *streams.Batch
	CommitAsync(b *streams.Batch, done func(error))
}

// An Ingest is the way into the log. Its methods may be called from several
// goroutines.
type Ingest struct {
	store   Log
	opts    Options
	shards  int
	lanes   lanes
	rate    *quota.Each // by thing
	notices *notice.Log
	counts  counts
	spare   sync.Pool // *Entry
}

// New returns an Ingest that writes to store, and makes the streams it needs.
// The store need not run yet.
func New(store Log, o Options) (*Ingest, error) {
	if o.Shards == 0 {
		o.Shards = 16
	}
	if o.Lanes == 0 {
		o.Lanes = 100_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notices == nil {
		o.Notices = new(notice.Log)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	err := store.Create(Stream, streams.Config{Shards: o.Shards})
	if err != nil && !errors.Is(err, streams.ErrExists) {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	// Kept for a look by a person, and bounded whatever a broken or hostile
	// device sends.
	err = store.Create(Quarantine, streams.Config{Shards: 1, Retention: 30 * 24 * time.Hour, MaxBytes: 64 << 20})
	if err != nil && !errors.Is(err, streams.ErrExists) {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	info, err := store.Describe(Stream)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	in := &Ingest{
		store: store, opts: o, shards: info.Shards, rate: quota.NewEach(o.ThingRate, o.ThingBytes),
		lanes:   lanes{max: o.Lanes, hot: map[laneKey]*lane{}, cold: map[laneKey]*lane{}},
		notices: o.Notices,
	}
	in.spare.New = func() any { return newEntry(in) }
	return in, nil
}

// Wait says how long a thing is over its rate, 0 if it is not.
func (in *Ingest) Wait(thing string) time.Duration {
	if thing == "" {
		return 0
	}
	return in.rate.Take(thing, in.opts.Now(), 0, 0)
}

// Stage adds m to b, so that it is committed with b: for a rule that
// republishes, whose read position is in the same batch. It isn't delivered;
// that is for the caller to do. Without a Time or Trace it gets one.
func (in *Ingest) Stage(b *streams.Batch, m *message.Message) {
	in.complete(m)
	if !in.stores(m.Topic) {
		return
	}
	in.counts.messages.Add(1)
	b.Append(Stream, in.shardOf(m), streams.Record{Time: m.Time, Key: keyOf(m), Data: m.AppendRecord(nil)})
}

// complete gives m what it needs to be stored.
func (in *Ingest) complete(m *message.Message) {
	if m.Time == 0 {
		m.Time = in.opts.Now().UnixMilli()
	}
	if m.Trace == (message.Trace{}) {
		m.Trace = message.NewTrace()
	}
}

func (in *Ingest) stores(topic string) bool { return in.opts.Store == nil || in.opts.Store(topic) }

func (in *Ingest) shardOf(m *message.Message) int { return streams.ShardOf(keyOf(m), in.shards) }

// keyOf is what the order of m is kept for, cut to what a stream takes.
func keyOf(m *message.Message) string {
	k := m.Key()
	return k[:min(len(k), streams.MaxKey)]
}
