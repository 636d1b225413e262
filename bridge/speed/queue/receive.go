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
		got, next, err := q.take(ctx, n, visibility)
		if err != nil || len(got) > 0 {
			return got, err
		}
		left := end.Sub(q.now())
		if left <= 0 {
			return nil, nil
		}
		if err := q.await(ctx, min(left, next)); err != nil {
			return nil, err
		}
	}
}

// await returns after d, when a message is sent, or when one may be visible again.
func (q *Queue) await(ctx context.Context, d time.Duration) error {
	q.mu.Lock()
	wake, cursor := q.wake, q.cursor
	q.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- q.log.Wait(ctx, q.stream, 0, cursor) }()
	select {
	case <-wake:
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

// take receives what is visible. next is how long it takes at most until a known
// message is.
func (q *Queue) take(ctx context.Context, n int, visibility time.Duration) (got []Received, next time.Duration,
	err error) {
	if err := q.look(n); err != nil {
		return nil, 0, err
	}
	chosen, next := q.choose(n, visibility)
	var dead []Received
	for _, e := range chosen {
		m, ok, err := q.read(e.offset)
		if err != nil {
			return nil, 0, err
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
		if err := q.bury(ctx, dead); err != nil {
			return nil, 0, err
		}
	}
	if len(chosen) > 0 && len(got) == 0 {
		next = 0 // look again at once
	}
	return got, next, nil
}

// look makes further messages known, so many that n may be received.
func (q *Queue) look(n int) error {
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
		switch wait := e.visible.Sub(now); {
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

// choose hides the first n messages that may be received and returns copies of them.
func (q *Queue) choose(n int, visibility time.Duration) (chosen []entry, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	next, _ = q.visible(n, func(e *entry) {
		if e.times++; e.times == 1 {
			e.first = now
		}
		e.visible, e.receipt = now.Add(visibility), rand.Uint64()
		chosen = append(chosen, *e)
	})
	return chosen, next
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

// bury moves messages that were received too often to the dead-letter queue, in
// one commit. Where that is not there they stay.
func (q *Queue) bury(ctx context.Context, dead []Received) error {
	to, err := q.get(q.Config().DeadLetter)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	b := q.log.NewBatch()
	for _, r := range dead {
		m := *r.Message
		m.Delay = 0
		b.Append(to.stream, 0, streams.Record{Data: m.encode()})
		q.forget(r.Sequence)
	}
	if err := q.save(ctx, b); err != nil {
		return err
	}
	to.mu.Lock()
	to.stir()
	to.mu.Unlock()
	return nil
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
