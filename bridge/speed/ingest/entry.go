package ingest

import (
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// An Entry is one publish on its way into the log: what it came to, and the
// batch that makes it durable. It is used again, so that a publish costs few
// allocations; after Commit it is not the caller's any more.
type Entry struct {
	in       *Ingest
	batch    *streams.Batch
	record   []byte // scratch
	finished func(error)

	done   func(error)
	cost   Cost
	whole  *message.Message  // of a publish that is one message
	parts  []message.Message // of a batch
	later  []func()          // when the batch is durable
	lane   *lane             // nil unless a batch; its order is held until Commit
	flight *flight
	// refused is what policy kept out of a batch; nil: nothing. done gets it.
	refused *telemetry.Refused
	began   time.Time
	holds   atomic.Int32 // Commit's and finish's
}

// A Cost is what a publish came to: of a batch its readings, each with its own
// topic, of anything else one message.
type Cost struct {
	Messages int
	Bytes    int // of topics and payloads
}

func plainCost(m *message.Message) Cost {
	return Cost{Messages: 1, Bytes: len(m.Topic) + len(m.Payload)}
}

// Begin takes one publish of a client whose policy allowed its topic. may is
// asked for the topics inside a batch; nil allows all. The Entry has to be
// committed, soon: others of its thing wait for that. It is nil for a copy of
// a batch, which is stored already or about to be.
//
// done is called once, with nil when the message is durable, or needs no
// storing, and with a *telemetry.Refused if that is so but for readings that
// policy refused; it is called by the committer, or before Begin or Commit
// returns, and must not block. m gets a Time and a Trace if it has none; it and
// what it points to must not change after.
func (in *Ingest) Begin(m *message.Message, may func(topic string) bool, done func(error)) *Entry {
	in.complete(m)
	if m.Topic == telemetry.Topic {
		return in.beginBatch(m, may, done)
	}
	in.counts.messages.Add(1)
	e := in.entry(done)
	e.whole = m
	if in.stores(m.Topic) {
		e.add(Stream, in.shardOf(m), keyOf(m), m)
	}
	in.charge(m, e, plainCost(m))
	return e
}

// Publish is Begin and Commit, for a message that nobody sees but readers of the
// log.
func (in *Ingest) Publish(m *message.Message, may func(topic string) bool, done func(error)) {
	if e := in.Begin(m, may, done); e != nil {
		e.Commit()
	}
}

// charge counts what a publish came to against its thing's rate. e is nil for a
// copy.
func (in *Ingest) charge(m *message.Message, e *Entry, c Cost) {
	if e != nil {
		e.cost = c
	}
	if m.Thing != "" {
		in.rate.Take(m.Thing, in.opts.Now(), c.Messages, c.Bytes)
	}
}

// Cost is what the publish came to.
func (e *Entry) Cost() Cost { return e.cost }

// Messages yields what the publish came to, in the order of the log: for
// subscribers, who may keep the messages but not change them.
func (e *Entry) Messages(yield func(*message.Message) bool) {
	if e.whole != nil {
		yield(e.whole)
		return
	}
	for i := range e.parts {
		if !yield(&e.parts[i]) {
			return
		}
	}
}

// Batch is what Commit makes durable. What has to be durable before the
// publisher is told is added to it.
func (e *Entry) Batch() *streams.Batch { return e.batch }

// Then has later called when the batch is durable, by the committer and before
// done; it must not block. nil is nothing.
func (e *Entry) Then(later func()) {
	if later != nil {
		e.later = append(e.later, later)
	}
}

// Commit queues the batch, or ends the publish if there is nothing to store. It
// blocks while the store's queue is full.
func (e *Entry) Commit() {
	lane := e.lane // e may be another publish's before this returns
	if e.batch.Bytes() == 0 {
		e.holds.Store(1)
		e.sendLater()
		e.end(nil)
	} else {
		e.holds.Store(2)
		e.in.store.CommitAsync(e.batch, e.finished)
		e.release()
	}
	if lane != nil {
		lane.order.Unlock()
	}
}

func newEntry(in *Ingest) *Entry {
	e := &Entry{in: in, batch: in.store.NewBatch()}
	e.finished = e.finish
	return e
}

func (in *Ingest) entry(done func(error)) *Entry {
	e := in.spare.Get().(*Entry)
	e.done, e.began = done, time.Now()
	return e
}

// add puts a message's record into the batch.
func (e *Entry) add(stream string, shard int, key string, m *message.Message) {
	e.record = m.AppendRecord(e.record[:0])
	e.batch.Append(stream, shard, streams.Record{Time: m.Time, Key: key, Data: e.record})
}

// finish is called with the outcome of the commit.
func (e *Entry) finish(err error) {
	c := &e.in.counts
	if err != nil {
		c.failed.Add(1)
	} else {
		c.durable.Add(1)
		c.durableTime.Add(int64(time.Since(e.began)))
		e.sendLater()
	}
	e.end(err)
}

func (e *Entry) sendLater() {
	for _, later := range e.later {
		later()
	}
}

// end tells who waits.
func (e *Entry) end(err error) {
	var copies []func(error)
	if e.lane != nil {
		copies = e.lane.land(e.flight, err)
		e.in.lanes.put(e.lane)
	}
	if err == nil && e.refused != nil {
		err = e.refused
	}
	e.done(err)
	for _, done := range copies {
		done(err)
	}
	e.release()
}

// maxKept is the scratch memory that an Entry keeps for its next use.
const maxKept = 256 << 10

func (e *Entry) release() {
	if e.holds.Add(-1) > 0 {
		return
	}
	if e.batch.Bytes() > maxKept || cap(e.record) > maxKept {
		return // the garbage collector's
	}
	e.batch.Reset()
	clear(e.later)
	e.done, e.cost, e.whole, e.parts, e.later = nil, Cost{}, nil, nil, e.later[:0]
	e.lane, e.flight, e.refused = nil, nil, nil
	e.in.spare.Put(e)
}
