package async

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// A waiting is an event that is not dealt with. Its payload is in the log.
type waiting struct {
	offset  uint64
	due     time.Time
	backOff time.Duration
}

// byDue is a heap of those that are not being called.
type byDue []*waiting

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byDue) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byDue) Push(x any)        { *h = append(*h, x.(*waiting)) }
func (h *byDue) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	*h = (*h)[:last]
	return w
}

// A run is one Run of a queue.
type run struct {
	q       *Queue
	heap    byDue
	open    map[uint64]bool // offsets that are not dealt with
	next    uint64          // of what is read
	low     uint64          // of what is not dealt with: the position
	busy    int
	results chan *waiting // of workers; due is zero for one that is dealt with
	records chan []Record
	read    bool // a reader is under way
	workers sync.WaitGroup
}

// Run makes the calls until ctx ends, and waits for those under way.
func (q *Queue) Run(ctx context.Context) error {
	low, err := q.o.Log.Position()
	if err != nil {
		return err
	}
	r := &run{q: q, open: map[uint64]bool{}, next: low, low: low, results: make(chan *waiting),
		records: make(chan []Record)}
	defer r.workers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		r.start(ctx)
		timer := time.NewTimer(r.until())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case records := <-r.records:
			r.take(records)
		case w := <-r.results:
			if r.busy--; !w.due.IsZero() {
				heap.Push(&r.heap, w)
			} else if err := r.done(ctx, w.offset); err != nil && ctx.Err() == nil {
				return err
			}
		}
		timer.Stop()
	}
}

// until is how long nothing is to be done.
func (r *run) until() time.Duration {
	if len(r.heap) == 0 || r.busy >= maxWorkers {
		return time.Hour
	}
	return time.Until(r.heap[0].due)
}

// start starts workers for what is due, and the reader if there is room.
func (r *run) start(ctx context.Context) {
	for len(r.heap) > 0 && r.busy < maxWorkers && !r.heap[0].due.After(time.Now()) {
		w := heap.Pop(&r.heap).(*waiting)
		r.busy++
		r.workers.Go(func() { r.work(ctx, w) })
	}
	if r.read || len(r.open) >= maxWaiting {
		return
	}
	r.read = true
	from := r.next
	r.workers.Go(func() {
		for {
			records, err := r.q.o.Log.Read(ctx, from)
			if err == nil {
				select {
				case r.records <- records:
				case <-ctx.Done():
				}
				return
			}
			if ctx.Err() != nil {
				return
			}
			r.q.o.Slog.Warn("queued calls cannot be read, will try again", "err", err, "in", firstBackOff)
			if !wait(ctx, firstBackOff) {
				return
			}
		}
	})
}

// take puts records on the heap.
func (r *run) take(records []Record) {
	r.read = false
	for _, rec := range records {
		r.next = rec.Offset + 1
		e, err := decode(rec.Data)
		if err != nil {
			r.q.o.Slog.Error("a record of queued calls is damaged, and left out", "offset", rec.Offset, "err", err)
			continue
		}
		due := e.Due
		if due.IsZero() {
			due = e.Queued
		}
		r.open[rec.Offset] = true
		heap.Push(&r.heap, &waiting{rec.Offset, due, firstBackOff})
	}
}

// work makes one call.
func (r *run) work(ctx context.Context, w *waiting) {
	data, err := r.q.o.Log.At(w.offset)
	var e *event
	if err == nil {
		e, err = decode(data)
	}
	if err != nil {
		r.q.o.Slog.Error("a queued call cannot be read, and is left out", "offset", w.offset, "err", err)
		w.due = time.Time{}
	} else {
		again, ok := r.q.try(ctx, e, w.backOff)
		switch {
		case ok:
			w.due = time.Time{}
		case ctx.Err() != nil:
			return
		default:
			w.due, w.backOff = time.Now().Add(again), min(2*w.backOff, maxBackOff)
		}
	}
	select {
	case r.results <- w:
	case <-ctx.Done():
	}
}

// done moves the position over all that is dealt with.
func (r *run) done(ctx context.Context, offset uint64) error {
	delete(r.open, offset)
	low := r.next
	for o := range r.open {
		low = min(low, o)
	}
	if low == r.low {
		return nil
	}
	r.low = low
	return r.q.o.Log.Done(ctx, low)
}
