// Package broker joins an MQTT broker or a cluster of them as clients, in
// place of a listener of our own. Several bridges side by side share the load:
// they are members of one group of shared subscriptions ($share/GROUP/FILTER),
// so that each message is taken by exactly one. Mosquitto 2.0.11 gives nothing
// on topics that begin with $ to shared subscriptions; what only one bridge may
// take anyway, as requests to shadows, it subscribes to by itself.
//
// # In
//
// Each of Options.Connections is a client of MQTT 3.1.1 with a session that
// stays. A message is acknowledged to the broker when its Handler says that it
// is done, which is when it is durable, and in the order of arrival. If it
// could not be taken the connection is given up, and the broker sends it again.
// What is not acknowledged is at most what the broker sends without an
// acknowledgement, and never more than Options.MaxInflight: then the connection
// is not read. A message may come twice, as QoS 1 allows: after a lost
// connection the broker sends again what it had no acknowledgement for.
//
// A broker keeps messages for a session whose client is away, those of a shared
// subscription too. So a bridge that was killed takes its share when it is back
// under the same client ids, and one that is to go for good must leave the
// group first: with Connections 0 it unsubscribes, and takes what is still kept
// for it.
//
// # Out
//
// What the bridge publishes (answers of shadows, what rules republish) goes to
// the broker and nowhere else. It comes in like everybody's messages, by the
// subscriptions, to one bridge of the group, and that bridge's rules see it:
// once in all, whatever the number of bridges. What no subscription covers no
// rule sees. It is sent with QoS 1 and again after each lost connection until
// the broker has acknowledged it, from a queue that is bounded; the queue is in
// memory, so the caller of Publish has to keep what may not be lost.
//
// # Loops
//
// Rules that republish into themselves are ended by a count of hops, which
// MQTT 3.1.1 has no place for. So a bridge remembers the hops of what it
// republished, by a hash of topic and payload, and tells the others of its
// group on the topic $tidemill/hops/GROUP before it publishes, if the broker
// lets it subscribe there. It holds for the last 32,768 of them at least, and
// for five minutes.
//
// # Trust
//
// Who may publish what is for the broker to say, and a bridge believes it: the
// thing of $aws/things/THING/shadow/… and dt/THING/… is whoever may publish
// there. Only bridges should be allowed to publish on $tidemill/hops/# and on
// $aws/things/+/shadow/+/accepted, rejected, delta and documents.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/notice"
)

// Options of a Broker.
type Options struct {
	URL      string // tcp://, ssl://, ws:// or wss://, host:port
	ClientID string // the clients are ClientID-0, ClientID-1, … and ClientID-out
	Username string
	Password string
	TLS      *tls.Config // of ssl and wss; nil: the system's roots

	Group       string   // of the shared subscriptions
	Filters     []string // what to subscribe to in it
	Own         []string // what the first client subscribes to by itself
	Connections int      // clients that take messages; 0: leave the group

	// Former subscriptions, as Subscriptions gave them, and number of
	// connections, which the broker may still have messages for.
	Former            []string
	FormerConnections int

	MaxInflight int // messages of one connection without an acknowledgement, each way; default 1000
	MaxPayload  int // larger messages are acknowledged, counted and dropped; default 128 KiB
	MaxQueued   int // messages that wait to be published; default 10,000
	MaxBytes    int // and their bytes; default 16 MiB

	KeepAlive      time.Duration // default 30 s
	ConnectTimeout time.Duration // default 20 s
	AckTimeout     time.Duration // for one answer of the broker; default 30 s
	BackoffMin     time.Duration // default 200 ms
	BackoffMax     time.Duration // default 30 s
	Drain          time.Duration // at the end, for what is under way; default 5 s

	Log *slog.Logger // nil: nothing is logged
}

// Errors of Publish and Queue.
var (
	ErrFull   = errors.New("broker: too many messages wait to be published")
	errClosed = errors.New("broker: closed")
)

// Stats are counts since the start, but for those that say now.
type Stats struct {
	Connected  int    // clients now
	Wanted     int    // clients there should be
	Connects   uint64 // connections the broker accepted
	Failures   uint64 // that failed or were lost
	Received   uint64
	Acked      uint64 // received and acknowledged
	TooLarge   uint64 // received, acknowledged and dropped
	Copies     uint64 // of retained messages, which came to a new subscription: acknowledged and dropped
	NotTaken   uint64 // received and not taken; they come again
	Unacked    int64  // received and not acknowledged now
	Published  uint64 // and acknowledged by the broker
	Overflowed uint64 // not published since too many waited
	Queued     int    // to be published now
	QueueBytes int
}

// A Broker is the bridge's end of the connections. Consume and Send run it.
type Broker struct {
	o    Options
	out  queue
	hops hops

	connects, failures, received, acked, tooLarge, copies, notTaken, published, overflowed atomic.Uint64
	unacked                                                                                atomic.Int64

	notices notice.Log // of what is dropped

	alone atomic.Bool // the broker does not let bridges tell each other of hops

	mu   sync.Mutex
	up   map[string]bool  // clients by id
	last map[string]error // why they are not
}

// New returns a Broker; it starts nothing.
func New(o Options) *Broker {
	number := func(n *int, def int) {
		if *n <= 0 {
			*n = def
		}
	}
	span := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	number(&o.MaxInflight, 1000)
	number(&o.MaxPayload, 128<<10)
	number(&o.MaxQueued, 10_000)
	number(&o.MaxBytes, 16<<20)
	span(&o.KeepAlive, 30*time.Second)
	span(&o.ConnectTimeout, 20*time.Second)
	span(&o.AckTimeout, 30*time.Second)
	span(&o.BackoffMin, 200*time.Millisecond)
	span(&o.BackoffMax, 30*time.Second)
	span(&o.Drain, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{o: o, up: make(map[string]bool), last: make(map[string]error)}
	b.out.init(o.MaxQueued, o.MaxBytes)
	return b
}

// Stats may be called at any time.
func (b *Broker) Stats() Stats {
	s := Stats{Connects: b.connects.Load(), Failures: b.failures.Load(), Received: b.received.Load(),
		Acked: b.acked.Load(), TooLarge: b.tooLarge.Load(), Copies: b.copies.Load(), NotTaken: b.notTaken.Load(),
		Unacked:   b.unacked.Load(),
		Published: b.published.Load(), Overflowed: b.overflowed.Load()}
	s.Queued, s.QueueBytes = b.out.size()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range b.clients() {
		s.Wanted++
		if b.up[id] {
			s.Connected++
		}
	}
	return s
}

// Ready is nil when every client is connected and has its subscriptions, else
// why one is not.
func (b *Broker) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range b.clients() {
		switch err := b.last[id]; {
		case b.up[id]:
		case err != nil:
			return fmt.Errorf("%s: %w", id, err)
		default:
			return fmt.Errorf("%s: not connected yet", id)
		}
	}
	return nil
}

func (b *Broker) consumer(i int) string { return fmt.Sprintf("%s-%d", b.o.ClientID, i) }
func (b *Broker) publisher() string     { return b.o.ClientID + "-out" }

// Subscriptions are those of all clients.
func (b *Broker) Subscriptions() []string { return b.subscriptions(0) }

// subscriptions are those of client i.
func (b *Broker) subscriptions(i int) (all []string) {
	if i == 0 {
		all = append(all, b.o.Own...)
	}
	for _, f := range b.o.Filters {
		all = append(all, "$share/"+b.o.Group+"/"+f)
	}
	return all
}

// clients are the ids of those that should be connected.
func (b *Broker) clients() []string {
	ids := []string{b.publisher()}
	for i := range b.o.Connections {
		ids = append(ids, b.consumer(i))
	}
	return ids
}

func (b *Broker) set(id string, up bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up[id], b.last[id] = up, err
}

// hopsTopic is where the bridges of a group tell each other of what they
// republish.
func hopsTopic(group string) string { return "$tidemill/hops/" + group }

// A Handler is called for each message, in order for each connection. m has its Hops
// as far as they are known, and nobody who published it. The Handler calls done once,
// from any goroutine, and done does not block; an error means that the message is
// to come again. A Handler may block while it has no room.
type Handler func(m *message.Message, done func(error))

// Consume has handle called for messages until ctx ends. Then what was handled is
// acknowledged, for at most Options.Drain.
func (b *Broker) Consume(ctx context.Context, handle Handler) error {
	var wg sync.WaitGroup
	for i := range max(b.o.Connections, b.o.FormerConnections) {
		c := &consumer{b: b, id: b.consumer(i), to: handle}
		if i < b.o.Connections {
			c.filters = b.subscriptions(i)
		}
		wg.Go(func() { b.keep(ctx, c.id, c.session) })
	}
	err := b.notices.Run(ctx)
	wg.Wait()
	return err
}

// Send publishes until ctx ends, then what waits, for at most Options.Drain.
// What is left after that fails with errClosed.
func (b *Broker) Send(ctx context.Context) error {
	b.keep(ctx, b.publisher(), b.send)
	for _, it := range b.out.close() {
		it.end(errClosed)
	}
	return nil
}

// keep holds a connection until ctx ends. session returns when it was accepted,
// zero if it was not, and what ended it.
func (b *Broker) keep(ctx context.Context, id string, session func(context.Context) (time.Time, error)) {
	log := b.o.Log.With("broker", b.o.URL, "client_id", id)
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(b.o.BackoffMin),
		backoff.WithMaxInterval(b.o.BackoffMax),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.5), backoff.WithMaxElapsedTime(0))
	said := "" // since the last connection
	for ctx.Err() == nil {
		accepted, err := session(ctx)
		b.set(id, false, err)
		if ctx.Err() != nil {
			return
		}
		if !accepted.IsZero() {
			said = ""
			if time.Since(accepted) > b.o.BackoffMax {
				pause.Reset()
			}
		}
		b.failures.Add(1)
		wait := pause.NextBackOff()
		level := slog.LevelWarn
		if said == err.Error() {
			level = slog.LevelDebug
		}
		said = err.Error()
		log.Log(ctx, level, "no connection to the broker, will retry", "err", err, "in", wait.Round(time.Millisecond))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}
