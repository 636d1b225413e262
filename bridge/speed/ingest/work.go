package ingest

import (
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A work is one publish on its way to the log. It is used again, so that a
// publish costs few allocations.
type work struct {
	in       *Ingest
	batch    *streams.Batch
	record   []byte // scratch
	finished func(error)

	done   func(error)
	later  []func() // when the batch is durable
	lane   *lane    // nil unless a batch
	flight *flight
	// refused is what policy kept out of a batch; nil: nothing. done gets it.
	refused *telemetry.Refused
	began   time.Time
	holds   atomic.Int32 // commit's and finish's
}

func newWork(in *Ingest) *work {
	w := &work{in: in, batch: in.store.NewBatch()}
	w.finished = w.finish
	return w
}

func (in *Ingest) work(done func(error)) *work {
	w := in.spare.Get().(*work)
	w.done, w.began = done, time.Now()
	return w
}

// add puts a message's record into the batch.
func (w *work) add(stream string, shard int, key string, m *Message) {
	w.record = m.AppendRecord(w.record[:0])
	w.batch.Append(stream, shard, streams.Record{Time: m.Time, Key: key, Data: w.record})
}

// stage adds what is to be durable with m.
func (w *work) stage(m *Message) {
	if m.Stage != nil {
		m.Stage(w.batch)
		m.Stage = nil
	}
}

// deliver hands m to subscribers.
func (w *work) deliver(m *Message) {
	if w.in.opts.Deliver == nil {
		return
	}
	if later := w.in.opts.Deliver(m, w.batch); later != nil {
		w.later = append(w.later, later)
	}
}

// commit queues the batch, or ends the work if there is nothing to store.
func (w *work) commit() {
	if w.batch.Bytes() == 0 {
		w.holds.Store(1)
		w.sendLater()
		w.end(nil)
		return
	}
	w.holds.Store(2)
	w.in.store.CommitAsync(w.batch, w.finished)
	w.release()
}

// finish is called with the outcome of the commit.
func (w *work) finish(err error) {
	c := &w.in.counts
	if err != nil {
		c.failed.Add(1)
	} else {
		c.durable.Add(1)
		c.durableTime.Add(int64(time.Since(w.began)))
		w.sendLater()
	}
	w.end(err)
}

func (w *work) sendLater() {
	for _, later := range w.later {
		later()
	}
}

// end tells who waits.
func (w *work) end(err error) {
	var copies []func(error)
	if w.lane != nil {
		copies = w.lane.land(w.flight, err)
		w.in.lanes.put(w.lane)
	}
	if err == nil && w.refused != nil {
		err = w.refused
	}
	w.done(err)
	for _, done := range copies {
		done(err)
	}
	w.release()
}

// maxKept is the scratch memory that a work keeps for its next use.
const maxKept = 256 << 10

func (w *work) release() {
	if w.holds.Add(-1) > 0 {
		return
	}
	if w.batch.Bytes() > maxKept || cap(w.record) > maxKept {
		return // the garbage collector's
	}
	w.batch.Reset()
	clear(w.later)
	w.done, w.later, w.lane, w.flight, w.refused = nil, w.later[:0], nil, nil, nil
	w.in.spare.Put(w)
}
