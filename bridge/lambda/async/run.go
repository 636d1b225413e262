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

// An outcome is what came of a try.
type outcome struct {
	*waiting
	done bool   // it is dealt with, else it is tried again when it is due
	next []byte // of one that is dealt with: the record that takes its place, or nil
}

// A run is one Run of a queue.
type run struct {
	q       *Queue
	heap    byDue
	next    uint64   // of what is read
	open    []uint64 // offsets that are not dealt with durably, ascending, at most maxWaiting
	busy    int
	results chan outcome // of workers, which wait until it is taken
	records chan []Record
	read    bool // a reader is under way
	save    saving
	workers sync.WaitGroup
}

// Run makes the calls until ctx ends. Those under way then have callGrace to end, and
// what is dealt with is durable when Run returns; the rest is for the next Run.
func (q *Queue) Run(ctx context.Context) error {
	p, err := q.o.Log.Position()
	if err != nil {
		return err
	}
	r := &run{q: q, next: p.Cursor, open: p.Open, results: make(chan outcome), records: make(chan []Record),
		save: saving{ended: make(chan error, 1)}}
	for _, o := range p.Open { // when they are due, a worker reads
		heap.Push(&r.heap, &waiting{o, time.Now(), firstBackOff})
	}
	defer r.workers.Wait()
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	for {
		r.start(ctx, calls)
		timer := time.NewTimer(r.until())
		select {
		case <-ctx.Done():
			timer.Stop()
			defer time.AfterFunc(callGrace, cut).Stop()
			r.end()
			return nil
		case <-timer.C:
		case records := <-r.records:
			r.take(records)
		case o := <-r.results:
			r.result(o)
		case err := <-r.save.ended:
			r.saved(err)
		}
		timer.Stop()
	}
}

// end takes what workers bring, and saves it.
func (r *run) end() {
	for r.busy > 0 {
		r.result(<-r.results)
	}
	if r.save.batch != nil {
		r.saved(<-r.save.ended)
	}
	for tries := 0; len(r.save.done) > 0; {
		time.Sleep(time.Until(r.save.after))
		r.startSave()
		err := <-r.save.ended
		if r.saved(err); err == nil {
			continue
		}
		if tries++; tries == endTries {
			r.q.o.Slog.Error("queued calls were made, and will be made again: that could not be kept",
				"calls", len(r.save.done), "err", err)
			return
		}
	}
}

// until is how long nothing is to be done.
func (r *run) until() time.Duration {
	d := time.Hour
	if len(r.heap) > 0 && r.room() {
		d = time.Until(r.heap[0].due)
	}
	if r.save.batch == nil && len(r.save.done) > 0 {
		d = min(d, time.Until(r.save.after))
	}
	return d
}

// room says whether a worker may start: not while much is done and cannot be saved.
func (r *run) room() bool {
	return r.busy < maxWorkers && r.busy+len(r.save.done)+len(r.save.batch) < 2*maxWorkers
}

// start starts what is due: workers until calls ends, the reader until ctx does if there
// is room, and to save what is done.
func (r *run) start(ctx, calls context.Context) {
	for len(r.heap) > 0 && r.room() && !r.heap[0].due.After(time.Now()) {
		w := heap.Pop(&r.heap).(*waiting)
		r.busy++
		r.workers.Go(func() { r.results <- r.q.work(calls, w) })
	}
	if r.save.batch == nil && len(r.save.done) > 0 && !r.save.after.After(time.Now()) {
		r.startSave()
	}
	if r.read || len(r.open) >= maxWaiting {
		return
	}
	r.read = true
	from := r.next
	r.workers.Go(func() { r.reader(ctx, from) })
}

// reader reads records, once.
func (r *run) reader(ctx context.Context, from uint64) {
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
}

// take puts records on the heap. Those beyond maxWaiting are read again later.
func (r *run) take(records []Record) {
	r.read = false
	for _, rec := range records {
		if len(r.open) >= maxWaiting {
			return
		}
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
		r.open = append(r.open, rec.Offset)
		heap.Push(&r.heap, &waiting{rec.Offset, due, firstBackOff})
	}
}

// result takes what a worker brings.
func (r *run) result(o outcome) {
	r.busy--
	if o.done {
		r.save.done = append(r.save.done, o)
	} else {
		heap.Push(&r.heap, o.waiting)
	}
}

// work makes one call, if it is due.
func (q *Queue) work(ctx context.Context, w *waiting) outcome {
	data, err := q.o.Log.At(w.offset)
	var e *event
	if err == nil {
		e, err = decode(data)
	}
	if err != nil {
		q.o.Slog.Error("a queued call cannot be read, and is left out", "offset", w.offset, "err", err)
		return outcome{w, true, nil}
	}
	if e.Due.After(time.Now()) {
		w.due = e.Due
		return outcome{waiting: w}
	}
	again, next, ok := q.try(ctx, e, w.backOff)
	if !ok {
		w.due, w.backOff = time.Now().Add(again), min(2*w.backOff, maxBackOff)
	}
	return outcome{w, ok, next}
}
