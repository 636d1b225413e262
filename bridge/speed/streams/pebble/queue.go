package pebble

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A pending is a batch on its way to the disk.
type pending struct {
	b    *streams.Batch
	size int64
	done func(error) // nil: ch is used, and the committer is woken at once
	ch   chan error
	err  error // why this batch was not written, the others of its group were
}

// pendings are those of CommitAsync, which come with every message.
var pendings = sync.Pool{New: func() any { return new(pending) }}

// recycle gives p back, if it came from pendings; it is answered, and nobody else
// knows it.
func (p *pending) recycle() {
	if p.done != nil {
		*p = pending{}
		pendings.Put(p)
	}
}

func (p *pending) answer(err error) {
	if p.done != nil {
		p.done(err)
	} else {
		p.ch <- err
	}
}

// A queue holds the batches that wait for the committer, in the order they
// came, and those it is writing: together about limit bytes, after which
// callers wait for room, also in order.
//
// Batches with a done may be gathered: when they come so fast that more are
// expected within the time gather, the committer is woken when a goal of them
// is there, or when the first has waited for that time. A sync costs about as
// much processor time as ten messages, whatever it writes.
//
// Those who are awaited (streams.Batch.Awaited) come no faster for waiting: once
// all are here, nobody else comes. Where most are, half of all that are under way is the
// goal, if that is less, so that one half is prepared while the other is synced. 10
// clients with one message under way each so get 4 times the acknowledgements, 4 clients
// 6 times.
type queue struct {
	limit  int64
	gather time.Duration // 0: batches are not gathered
	wake   chan struct{} // cap 1: there is something to take
	timer  *time.Timer   // the first has waited for gather

	mu      sync.Mutex
	waiting []*pending
	bytes   int64 // of waiting and of what was taken and isn't released
	room    []*roomWaiter
	ended   bool
	armed   bool // timer runs, or has fired for those that wait
	pace    pace
	awaited int // of waiting
	taken   int // batches that were taken and are not released
	peak    peak
}

// gatherMost is how many batches share a sync, at the least, when they come
// fast. 50 clients with one message under way each get 1.25 to 1.4 times the
// acknowledgements that they got with 16 (BenchmarkDurablePublish); below
// 20,000 messages a second it is the pace that decides.
const gatherMost = 40

// maxBetween bounds what one silence tells about the pace.
const maxBetween = 100 * time.Millisecond

// A pace is how fast batches come.
type pace struct {
	last    time.Time
	between time.Duration // of one and the next, a moving mean
}

// take notes that one came now.
func (p *pace) take(now time.Time) {
	p.between += (min(now.Sub(p.last), maxBetween) - p.between) / 16
	p.last = now
}

// within is how many are expected to come in d.
func (p *pace) within(d time.Duration) int { return int(d / max(p.between, 1)) }

// A peak is the most that were under way at once, in the last tenth of a second or
// two.
type peak struct {
	most, before int
	since        time.Time
}

// take notes that n are under way now, and returns the peak.
func (p *peak) take(now time.Time, n int) int {
	if now.Sub(p.since) > 100*time.Millisecond {
		p.since, p.before, p.most = now, p.most, 0
	}
	p.most = max(p.most, n)
	return max(p.most, p.before)
}

type roomWaiter struct {
	p     *pending
	in    chan struct{} // closed when p is in the queue or refused
	ended bool
}

// put appends p, waiting for room. It returns ErrClosed when the queue has
// ended and ctx's error if that ends first; p is then not in the queue.
func (q *queue) put(ctx context.Context, p *pending) error {
	p.size = int64(p.b.Bytes()) + 64 // an empty batch isn't free
	q.mu.Lock()
	if q.ended {
		q.mu.Unlock()
		return streams.ErrClosed
	}
	if len(q.room) == 0 && q.bytes < q.limit {
		q.add(p)
		q.mu.Unlock()
		return nil
	}
	w := &roomWaiter{p: p, in: make(chan struct{})}
	q.room = append(q.room, w)
	q.mu.Unlock()
	select {
	case <-w.in:
	case <-ctx.Done():
		q.mu.Lock()
		if i := slices.Index(q.room, w); i >= 0 {
			q.room = slices.Delete(q.room, i, i+1)
			q.mu.Unlock()
			return ctx.Err()
		}
		q.mu.Unlock() // it came in just now
	}
	if w.ended {
		return streams.ErrClosed
	}
	return nil
}

// add puts p in the queue; mu is held.
func (q *queue) add(p *pending) {
	q.waiting = append(q.waiting, p)
	q.bytes += p.size
	if p.b.Awaited {
		q.awaited++
	}
	if p.done != nil && q.gather > 0 {
		if len(q.waiting) < q.goal(time.Now()) {
			if !q.armed {
				q.armed = true
				q.timer.Reset(q.gather)
			}
			return
		}
	}
	q.rouse()
}

// goal is how many are to wait before the committer is woken; one came now, and mu
// is held.
func (q *queue) goal(now time.Time) int {
	q.pace.take(now)
	all := q.peak.take(now, len(q.waiting)+q.taken)
	goal := min(q.pace.within(q.gather), gatherMost)
	if 2*q.awaited > len(q.waiting) {
		goal = min(goal, (all+1)/2)
	}
	return goal
}

// rouse wakes the committer.
func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw takes p out if the committer hasn't taken it yet.
func (q *queue) withdraw(p *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, p)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	if p.b.Awaited {
		q.awaited--
	}
	q.free(p.size)
	return true
}

// take moves batches of about maxBytes to dst, at least one if there is one.
func (q *queue) take(dst []*pending, maxBytes int64) []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.waiting) && (n == 0 || bytes+q.waiting[n].size <= maxBytes) {
		bytes += q.waiting[n].size
		n++
	}
	dst = append(dst, q.waiting[:n]...)
	for _, p := range dst {
		if p.b.Awaited {
			q.awaited--
		}
	}
	q.taken += n
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	if q.armed {
		q.armed = false
		q.timer.Stop()
	}
	if rest > 0 {
		q.rouse()
	}
	return dst
}

// release says that n batches, of so many bytes, are done with.
func (q *queue) release(n int, bytes int64) {
	q.mu.Lock()
	q.taken -= n
	q.free(bytes)
	q.mu.Unlock()
}

// free lets in those who wait for room; mu is held.
func (q *queue) free(bytes int64) {
	q.bytes -= bytes
	for len(q.room) > 0 && q.bytes < q.limit {
		w := q.room[0]
		q.room = slices.Delete(q.room, 0, 1)
		q.add(w.p)
		close(w.in)
	}
}

// shut refuses what isn't in the queue yet.
func (q *queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	for _, w := range q.room {
		w.ended = true
		close(w.in)
	}
	q.room = nil
}

// end shuts the queue and returns what nobody will write.
func (q *queue) end() []*pending {
	q.shut()
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.waiting
	q.waiting = nil
	return left
}
