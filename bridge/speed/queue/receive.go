package queue

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Received is a message that was received.
type Received struct {
	*Message
	Receipt string    // deletes it
	Times   int       // received since the bridge started, this time too
	First   time.Time // received first since then
}

// Receive returns at most n messages that are visible, and hides them for as long
// as visibility says. It waits for one if there is none, until wait is over.
func (q *Queue) Receive(ctx context.Context, n int, visibility, wait time.Duration) ([]Received, error) {
	end := q.now().Add(wait)
	for {
		got, later, err := q.receive(ctx, n, visibility)
		if err != nil || len(got) > 0 {
			return got, err
		}
		left := end.Sub(q.now())
		if left <= 0 {
			return nil, nil
		}
		if err := q.await(ctx, later, left); err != nil {
			return nil, err
		}
	}
}

// A later is when it is worth to look again, as it was when there was nothing.
type later struct {
	wake   <-chan struct{} // closed when a message may have become visible
	cursor uint64          // messages from here on were not looked at
	full   bool            // as many as may be are known: no further ones are looked at
	next   time.Duration   // until a known message is visible
}

// leastWait is between two looks at a queue whose messages all hide at once.
const leastWait = 10 * time.Millisecond

// await returns after left, when a message is sent, or when one may be visible again.
func (q *Queue) await(ctx context.Context, l later, left time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, min(left, max(l.next, leastWait)))
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		if l.full {
			<-ctx.Done()
			sent <- ctx.Err()
			return
		}
		sent <- q.log.Wait(ctx, q.stream, 0, l.cursor)
	}()
	select {
	case <-l.wake:
		cancel()
		<-sent
		return nil
	case err := <-sent:
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
}

// receive hides and returns what is visible, and says when to look again.
func (q *Queue) receive(ctx context.Context, n int, visibility time.Duration) (got []Received, l later, err error) {
	if err := q.load(n); err != nil {
		return nil, l, err
	}
	hidden, l := q.hide(n, visibility)
	var dead []Received
	for _, e := range hidden {
		m, ok, err := q.read(e.offset)
		if err != nil {
			return nil, l, err
		}
		if !ok { // its retention ended
			q.forget(e.offset)
			continue
		}
		r := Received{Message: m, Times: e.times, First: e.first, Receipt: q.receipt(e)}
		if c := q.Config(); c.DeadLetter != "" && e.times > c.MaxReceives {
			dead = append(dead, r)
			continue
		}
		got = append(got, r)
	}
	if len(dead) > 0 {
		if err := q.moveDead(ctx, dead); err != nil {
			return nil, l, err
		}
	}
	if len(hidden) > 0 && len(got) == 0 {
		l.next = 0 // look again soon
	}
	return got, l, nil
}

// load makes further messages known, so many that n may be received.
func (q *Queue) load(n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, missing := q.visible(n, func(*entry) {}); missing == 0 || len(q.known) >= maxInFlight {
		return nil
	}
	// A read of the log takes microseconds, and nothing is waited for.
	recs, err := q.log.Read(q.stream, 0, q.cursor, max(n, 100), 1<<20)
	if err != nil {
		return err
	}
	for i := range recs {
		m, err := decode(recs[i].Data)
		if q.cursor = recs[i].Offset + 1; err != nil {
			q.damaged(recs[i].Offset)
			continue
		}
		m.Sent = time.UnixMilli(recs[i].Time)
		q.known = append(q.known, &entry{offset: recs[i].Offset, group: m.Group, visible: q.begins(m)})
	}
	return nil
}

// visible calls f for the first n messages that may be received: while one of a
// group of a FIFO queue is hidden, those behind it wait. It returns n less those,
// and how long it takes at most until there may be another. q.mu is held.
func (q *Queue) visible(n int, f func(*entry)) (next time.Duration, missing int) {
	now, next := q.now(), time.Hour
	held, fifo := map[string]bool{}, FIFO(q.name)
	for _, e := range q.known {
		if n == 0 {
			break
		}
		wait := e.visible.Sub(now)
		if e.moving {
			wait = max(wait, leastWait)
		}
		switch {
		case fifo && held[e.group]:
		case wait > 0:
			if fifo {
				held[e.group] = true
			}
			next = min(next, wait)
		default:
			n--
			f(e)
		}
	}
	return next, n
}

// hide hides the first n messages that may be received and returns copies of them.
func (q *Queue) hide(n int, visibility time.Duration) (hidden []entry, l later) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	l = later{wake: q.wake, cursor: q.cursor, full: len(q.known) >= maxInFlight}
	l.next, _ = q.visible(n, func(e *entry) {
		if e.times++; e.times == 1 {
			e.first = now
		}
		e.visible, e.receipt = now.Add(visibility), rand.Uint64()
		hidden = append(hidden, *e)
	})
	return hidden, l
}

// receipt is a text that names a message and the time that it was received.
func (q *Queue) receipt(e entry) string {
	b := binary.BigEndian.AppendUint32(nil, q.id)
	b = binary.BigEndian.AppendUint64(b, e.offset)
	b = binary.BigEndian.AppendUint64(b, e.receipt)
	return base64.URLEncoding.EncodeToString(b)
}

func (q *Queue) parse(receipt string) (offset, time uint64, err error) {
	b, err := base64.URLEncoding.DecodeString(receipt)
	if err != nil || len(b) != 20 || binary.BigEndian.Uint32(b) != q.id {
		return 0, 0, fmt.Errorf("%w: it is none of queue %s", ErrHandle, q.name)
	}
	return binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:]), nil
}

// forget takes a message from the known.
func (q *Queue) forget(offset uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i, ok := q.find(offset); ok {
		q.known = append(q.known[:i], q.known[i+1:]...)
	}
}

// Delete deletes messages by their receipts, durably, with an error for each. One
// that is gone already is no error.
func (q *Queue) Delete(ctx context.Context, receipts []string) []error {
	errs := make([]error, len(receipts))
	any := false
	for i, r := range receipts {
		var offset uint64
		if offset, _, errs[i] = q.parse(r); errs[i] == nil {
			q.forget(offset)
			any = true
		}
	}
	if !any {
		return errs
	}
	err := q.save(ctx, q.log.NewBatch())
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	q.mu.Lock()
	q.stir() // others of a group may be received now
	q.mu.Unlock()
	return errs
}

// save makes the state durable with what is in b, and gives back room.
func (q *Queue) save(ctx context.Context, b *streams.Batch) error {
	ctx = context.WithoutCancel(ctx) // memory has changed, and the disk is to follow
	b.SetFrom(q.key, q, 64)
	q.mu.Lock()
	head := q.head()
	q.mu.Unlock()
	if err := q.log.Commit(ctx, b); err != nil {
		return err
	}
	return q.log.Trim(q.stream, 0, head)
}

// trim gives back room of what is durably gone.
func (q *Queue) trim() error {
	q.mu.Lock()
	head := q.head()
	q.mu.Unlock()
	return q.log.Trim(q.stream, 0, head)
}

// Hide has a message that was received come again after d from now.
func (q *Queue) Hide(receipt string, d time.Duration) error {
	offset, received, err := q.parse(receipt)
	if err != nil {
		return err
	}
	if d < 0 || d > 12*time.Hour {
		return fmt.Errorf("%w: VisibilityTimeout: %v, want 0 to 12 hours", ErrInvalid, d)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i, ok := q.find(offset)
	if !ok || q.known[i].receipt != received {
		return fmt.Errorf("%w: the message is deleted, or was received again", ErrHandle)
	}
	q.known[i].visible = q.now().Add(d)
	q.stir()
	return nil
}

// moveDead moves messages that were received too often to the dead-letter queue, in
// one commit. Where that is not there they stay. Until the commit is done they are
// hidden and known, so that no other commit stores that they are gone; the state
// that this one stores is without them.
func (q *Queue) moveDead(ctx context.Context, dead []Received) error {
	to, err := q.get(q.Config().DeadLetter)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	b := q.log.NewBatch()
	gone := map[uint64]bool{}
	for _, r := range dead {
		if !q.move(r.Sequence, true) {
			continue
		}
		m := *r.Message
		m.Delay = 0
		b.Append(to.stream, 0, streams.Record{Data: m.encode()})
		gone[r.Sequence] = true
	}
	b.SetFrom(q.key, without{q, gone}, 64)
	if err := q.log.Commit(context.WithoutCancel(ctx), b); err != nil {
		for offset := range gone {
			q.move(offset, false)
		}
		return err
	}
	for offset := range gone {
		q.forget(offset)
	}
	if err := q.trim(); err != nil {
		return err
	}
	to.mu.Lock()
	to.stir()
	to.mu.Unlock()
	return nil
}

// move says that a message is moved, or is not; false if it is already so, or gone.
func (q *Queue) move(offset uint64, moving bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i, ok := q.find(offset)
	if !ok || q.known[i].moving == moving {
		return false
	}
	q.known[i].moving = moving
	return true
}

// Purge deletes all messages.
func (q *Queue) Purge(ctx context.Context) error {
	_, tip, err := q.log.Bounds(q.stream, 0)
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.known, q.cursor = nil, max(q.cursor, tip)
	q.mu.Unlock()
	return q.save(ctx, q.log.NewBatch())
}
