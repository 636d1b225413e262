package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// subscribeAt is how many filters go into one packet: AWS IoT takes no more.
const subscribeAt = 8

// A consumer takes messages by one client id.
type consumer struct {
	b       *Broker
	id      string
	filters []string // as subscribed to; none: it leaves the group
	to      Handler
}

// An intake is the messages of one connection that are not acknowledged.
type intake struct {
	b     *Broker
	to    Handler
	conn  *conn
	slots chan struct{} // one for each
	stop  chan struct{} // closed: nothing more is taken
	wake  chan struct{}
	ready chan struct{} // closed when conn is set

	mu    sync.Mutex // guards queue
	queue []*arrival // in the order they came
}

type arrival struct {
	m    mqtt.Message
	done bool
}

func (c *consumer) session(ctx context.Context) (accepted time.Time, err error) {
	b := c.b
	in := &intake{b: b, to: c.to, slots: make(chan struct{}, b.o.MaxInflight), stop: make(chan struct{}),
		wake: make(chan struct{}, 1), ready: make(chan struct{})}
	// Messages of the session may come before SUBSCRIBE.
	conn, err := b.connect(ctx, c.id, false, in.receive)
	if err != nil {
		close(in.stop)
		close(in.ready)
		return time.Time{}, err
	}
	in.conn = conn
	close(in.ready)
	accepted = time.Now()
	b.connects.Add(1)
	var wg sync.WaitGroup
	wg.Go(in.acknowledge)
	defer func() {
		wg.Wait()
		b.unacked.Add(-int64(in.forget()))
	}()

	if err = c.subscribe(ctx, conn); err == nil {
		b.o.Log.Info("joined the broker", "broker", b.o.URL, "client_id", c.id, "filters", c.filters)
		b.set(c.id, true, nil)
		select {
		case <-conn.wire.down:
			err = conn.wire.why()
		case <-ctx.Done():
		}
	}
	close(in.stop)
	if ctx.Err() != nil {
		in.drain()
		// The client does not call back after its own disconnect.
		conn.Disconnect(uint(b.o.Drain / time.Millisecond))
		conn.wire.fail(errEnded)
		return accepted, ctx.Err()
	}
	conn.end(err)
	return accepted, err
}

// subscribe makes the session's subscriptions what they should be.
func (c *consumer) subscribe(ctx context.Context, conn *conn) error {
	b := c.b
	var old []string
	for _, f := range slices.Concat(b.o.Former, b.Subscriptions()) {
		if !slices.Contains(c.filters, f) {
			old = append(old, f)
		}
	}
	for part := range slices.Chunk(old, subscribeAt) {
		if err := conn.wait(ctx, conn.Unsubscribe(part...), "UNSUBSCRIBE"); err != nil {
			return err
		}
	}
	if len(c.filters) == 0 {
		return nil
	}
	// First, so that the hops of a message are here before it is.
	hops := map[string]byte{hopsTopic(b.o.Group): 0}
	sets := []map[string]byte{hops}
	for part := range slices.Chunk(c.filters, subscribeAt) {
		set := make(map[string]byte, len(part))
		for _, f := range part {
			set[f] = 1
		}
		sets = append(sets, set)
	}
	for _, set := range sets {
		conn.wire.asked.Store(int64(len(set)))
		tok := conn.SubscribeMultiple(set, nil)
		if err := conn.wait(ctx, tok, "SUBSCRIBE"); err != nil {
			return err
		}
		st, ok := tok.(*mqtt.SubscribeToken)
		if !ok {
			continue
		}
		if n := len(st.Result()); n < len(set) {
			return badSuback(n, len(set))
		}
		for _, f := range slices.Sorted(maps.Keys(st.Result())) {
			if code := st.Result()[f]; code <= 2 {
				continue
			} else if f == hopsTopic(b.o.Group) {
				b.alone.Store(true)
				b.o.Log.Warn("the broker refused a subscription: rules that republish into themselves over "+
					"several bridges are not ended",
					"filter", f)
				continue
			}
			return fmt.Errorf(
				"the broker refused the subscription %s: its access rules, or it has no shared subscriptions", f)
		}
	}
	return nil
}

// receive is called by the client for one message after the other.
func (in *intake) receive(m mqtt.Message) {
	b := in.b
	if m.Topic() == hopsTopic(b.o.Group) {
		b.hops.hear(m.Payload())
		return
	}
	<-in.ready
	select {
	case <-in.stop: // it comes again
		return
	default:
	}
	if in.conn == nil {
		return
	}
	select {
	case in.slots <- struct{}{}:
	case <-in.conn.wire.down:
		return
	case <-in.stop:
		return
	}
	b.received.Add(1)
	b.unacked.Add(1)
	a := &arrival{m: m}
	in.mu.Lock()
	in.queue = append(in.queue, a)
	in.mu.Unlock()
	if m.Retained() {
		// RETAIN is set on the copy that a new subscription gets [MQTT-3.3.1-8],
		// and not on the message itself [MQTT-3.3.1-9]. So it is no new data, and
		// comes at each reconnect: also to shared subscriptions, of Mosquitto 2.0.11.
		b.copies.Add(1)
		in.settle(a, nil)
		return
	}
	if n := len(m.Payload()); n > b.o.MaxPayload {
		b.tooLarge.Add(1)
		name := m.Topic()
		b.notices.Happened("too large", func(count uint64) {
			b.o.Log.Warn("messages are too large and dropped", "count", count, "topic", name, "bytes", n, "max",
				b.o.MaxPayload)
		})
		in.settle(a, nil)
		return
	}
	in.to(&message.Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(),
		Hops: b.hops.of(m.Topic(), m.Payload()), Protocol: "mqtt"},
		func(err error) { in.settle(a, err) })
}

// settle is called when a message is dealt with; it does not block.
func (in *intake) settle(a *arrival, err error) {
	if err != nil {
		in.b.notTaken.Add(1)
		in.conn.wire.fail(fmt.Errorf("a message could not be taken: %w", err))
		return
	}
	in.mu.Lock()
	a.done = true
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// acknowledge sends PUBACKs in the order of the messages, until the connection
// ends.
func (in *intake) acknowledge() {
	for {
		select {
		case <-in.wake:
		case <-in.conn.wire.down:
			return
		}
		for {
			in.mu.Lock()
			if len(in.queue) == 0 || !in.queue[0].done {
				in.mu.Unlock()
				break
			}
			a := in.queue[0]
			in.mu.Unlock()
			a.m.Ack()
			in.mu.Lock()
			in.queue[0] = nil
			in.queue = in.queue[1:]
			in.mu.Unlock()
			in.b.acked.Add(1)
			in.b.unacked.Add(-1)
			<-in.slots
		}
	}
}

// drain waits until everything taken is acknowledged.
func (in *intake) drain() {
	timer := time.NewTimer(in.b.o.Drain)
	defer timer.Stop()
	for range cap(in.slots) { // none is free when all are held here
		select {
		case in.slots <- struct{}{}:
		case <-in.conn.wire.down:
			return
		case <-timer.C:
			return
		}
	}
}

// forget returns how many messages were not acknowledged.
func (in *intake) forget() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue)
}
