package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// An item is a message that waits.
type item struct {
	*message.Message
	once sync.Once
	done func(error)
}

func (it *item) end(err error) { it.once.Do(func() { it.done(err) }) }

func (it *item) bytes() int { return len(it.Topic) + len(it.Payload) + 64 }

// Queue takes m to be published with QoS 1; of its rest Topic, Payload, Retain and
// Hops, this time included, count. done is called once, with nil when
// the broker has acknowledged it, and must not block. It returns at once; m's
// payload must not change after.
func (b *Broker) Queue(m *message.Message, done func(error)) {
	it := &item{Message: m, done: done}
	if err := b.out.put(it); err != nil {
		if errors.Is(err, ErrFull) {
			b.overflowed.Add(1)
			name := m.Topic // the payload is not kept for the log
			b.notices.Happened("full", func(count uint64) {
				b.o.Log.Error("messages are not published since too many wait for the broker", "count", count, "topic",
					name)
			})
		}
		it.end(err)
	}
}

// Publish is Queue that waits. When ctx ends first, m may still be published.
func (b *Broker) Publish(ctx context.Context, m *message.Message) error {
	answer := make(chan error, 1)
	b.Queue(m, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send publishes over one connection. What was not acknowledged stays in the
// queue.
func (b *Broker) send(ctx context.Context) (accepted time.Time, err error) {
	conn, err := b.connect(ctx, b.publisher(), true, func(mqtt.Message) {})
	if err != nil {
		return time.Time{}, err
	}
	accepted = time.Now()
	b.connects.Add(1)
	b.set(b.publisher(), true, nil)
	last, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(b.o.Drain):
			stop()
		case <-last.Done():
		}
	})()
	flights := make(chan mqtt.Token, b.o.MaxInflight)
	from := b.out.next()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(flights)
		b.fly(ctx, last, conn, from, flights)
	})
	for tok := range flights {
		if err = conn.wait(last, tok, "PUBLISH"); err != nil {
			break
		}
		b.published.Add(1)
		b.out.pop().end(nil)
	}
	if err == nil {
		if err = conn.wire.why(); err == nil { // the queue is empty and ctx has ended
			conn.Disconnect(1000)
			conn.wire.fail(errEnded)
			wg.Wait()
			return accepted, ctx.Err()
		}
	}
	stop()
	conn.wire.fail(err)
	for range flights { // makes room for fly, which then ends
	}
	wg.Wait()
	conn.end(err)
	return accepted, err
}

// fly hands the queue to the client until the connection or last ends, or ctx
// with nothing left.
func (b *Broker) fly(ctx, last context.Context, conn *conn, from uint64, flights chan<- mqtt.Token) {
	for n := from; ; n++ {
		it, news := b.out.at(n)
		for it == nil {
			if ctx.Err() != nil {
				return
			}
			select {
			case <-news:
			case <-conn.wire.down:
				return
			case <-ctx.Done():
			}
			it, news = b.out.at(n)
		}
		if it.Hops > 0 {
			m := markOf(it.Topic, it.Payload)
			b.hops.remember(m, it.Hops)
			if !b.alone.Load() { // some brokers end a connection that publishes what it may not
				conn.Client.Publish(hopsTopic(b.o.Group), 0, false, note(m, it.Hops))
			}
		}
		tok := conn.Client.Publish(it.Topic, 1, it.Retain, it.Payload)
		select {
		case flights <- tok:
		case <-conn.wire.down:
			return
		case <-last.Done():
			return
		}
	}
}

// A queue holds what is to be published, first in first out.
type queue struct {
	maxItems, maxBytes int

	mu     sync.Mutex
	items  []*item
	popped uint64 // since the start
	bytes  int
	closed bool
	news   chan struct{} // closed at the next put
}

func (q *queue) init(items, bytes int) {
	q.maxItems, q.maxBytes, q.news = items, bytes, make(chan struct{})
}

func (q *queue) size() (items, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.bytes
}

func (q *queue) put(it *item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosed
	}
	if len(q.items) >= q.maxItems || q.bytes+it.bytes() > q.maxBytes {
		return fmt.Errorf("%w (%d)", ErrFull, len(q.items))
	}
	q.items = append(q.items, it)
	q.bytes += it.bytes()
	close(q.news)
	q.news = make(chan struct{})
	return nil
}

// next is the number of the first item.
func (q *queue) next() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.popped
}

// at returns the item with number n, which is not popped. If there is none yet,
// news is closed when there may be.
func (q *queue) at(n uint64) (it *item, news <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := n - q.popped; i < uint64(len(q.items)) {
		return q.items[i], nil
	}
	return nil, q.news
}

// pop takes the first item out.
func (q *queue) pop() *item {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[0]
	q.items[0] = nil
	q.items = q.items[1:]
	q.popped++
	q.bytes -= it.bytes()
	return it
}

// close takes all out and lets nothing in.
func (q *queue) close() []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.items
	q.items, q.bytes, q.closed = nil, 0, true
	return left
}
