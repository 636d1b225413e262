// Package uplink takes batches from the spool to the broker: MQTT 3.1.1 over
// TLS with a client certificate, or as far as Options say otherwise. An Uplink keeps one connection, reconnects
// by itself, and acknowledges a batch to its Queue only when the broker's
// PUBACK for it has arrived, in the order of the queue.
//
// The MQTT client underneath (paho) lives for one connection only: with a
// clean session, nothing stored and no reconnect of its own, it can neither
// resend nor forget a message behind our back. After a reconnect the oldest
// unacknowledged batch goes first, so the wire always carries queue order,
// with repeats. A client's publish token ends without an error only on a
// PUBACK: paho 1.5.1 sets the error before it completes the tokens of a lost
// connection (messageids.go, cleanUp); a test here keeps watch over that.
//
// With MQTT 3.1.1 a broker cannot say why it closes a connection. That another
// client took over the id is therefore a guess, made when the broker closes
// young connections time and again.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A Queue is what the uplink needs of the spool.
type Queue interface {
	// Next returns the oldest durable, unacknowledged batch whose number is
	// greater than after. It blocks until there is one or ctx is done.
	Next(ctx context.Context, after uint64) (seq uint64, payload []byte, err error)
	// Ack says that the broker has the batch.
	Ack(seq uint64)
}

// A Publish sends one message with QoS 1, not retained, and returns when the
// broker has acknowledged it, when the connection is lost or ctx is done.
type Publish func(ctx context.Context, topic string, payload []byte) error

// A Peer talks over the same connection, such as the device's shadow.
type Peer interface {
	Topics() []string // to subscribe to on each connection
	Connected(Publish)
	Disconnected()
	Receive(topic string, payload []byte) // must not block
}

// A Timekeeper wants to know the bridge's time.
type Timekeeper interface {
	// Ask returns what to ask, nil for nothing, and when to call it again. first
	// says that it is the first call on a connection.
	Ask(first bool) (request []byte, next time.Duration)
	// Answer takes what was answered, by a server whose certificates are valid from and
	// until then. It must not block.
	Answer(payload []byte, from, until time.Time)
}

// Expand turns a batch into messages of their own, for brokers that do not
// know batches. It returns publish's error as it is; any other error means
// that the batch cannot be read and never will be.
type Expand func(batch []byte, publish func(topic string, payload []byte) error) error

// Options of an Uplink.
type Options struct {
	Endpoint   string // host:port
	ServerName string // to check the server's certificate for; default the endpoint's host
	ClientID   string

	// TLS is called for each connection, so that a renewed certificate is
	// taken up. The server name and the least version are set here if they
	// are not. nil without an error is plain TCP.
	TLS func() (*tls.Config, error)
	// User and what Password returns, which is called for each connection, are
	// sent in CONNECT. "" for brokers that know a device by its certificate.
	User     string
	Password func() (string, error)
	// Dial opens the TCP connection; default net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Topic  string // where batches go
	Expand Expand // if set, messages of its making go instead

	// NoticeTopic is where a bridge tells what it did not take of a batch, and
	// Notice hears of it. If it is set, batches go to no peer that is not known for
	// a bridge: see meetBridge. "" for a broker that Expand makes messages for.
	NoticeTopic string
	Notice      func(payload []byte)

	// TimeTopic is where a bridge is asked for the time, over TLS alone, and
	// TimeAnswerTopic where it answers; Time is who wants to know. "" with
	// NoticeTopic "".
	TimeTopic, TimeAnswerTopic string
	Time                       Timekeeper
	// Plain makes a batch that a bridge of before takes of one that it would not:
	// what is not granted TimeAnswerTopic is such a bridge. An error means that the
	// batch cannot be read and never will be.
	Plain func(batch []byte) ([]byte, error)
	// Retry is told why a TLS handshake failed, and says whether another one, at
	// once, may succeed. nil: none may.
	Retry func(error) bool

	PresenceTopic string                   // "" for none
	Presence      func(online bool) []byte // payload, retained; the last will when false

	Peer Peer // nil for none

	KeepAlive      time.Duration // default 60 s, whole seconds
	KeepAliveMax   time.Duration // up to which KeepAlive is stretched as far as the link holds; 0: it is not
	ConnectTimeout time.Duration // for dial, handshakes and CONNACK; default 20 s
	AckTimeout     time.Duration // without progress the connection is given up; default 30 s
	Inflight       int           // PUBLISH packets without PUBACK; default 16
	BackoffMin     time.Duration // first retry comes within it; default 1 s
	BackoffMax     time.Duration // cap; default 2 min
	StableAfter    time.Duration // a connection this old resets the backoff; default 1 min
	Drain          time.Duration // at the end, for what the queue still holds; default 5 s

	Log *slog.Logger
}

// State says what the uplink is doing.
type State string

// The states.
const (
	Waiting    State = "waiting" // for the next try
	Connecting State = "connecting"
	Online     State = "online"
	Stopped    State = "stopped"
)

// Status is a snapshot for people and metrics.
type Status struct {
	State     State
	Since     time.Time // of State, but of the first failure for waiting and connecting
	Endpoint  string
	ErrorKind Kind      // of the last failure, also while online again
	Error     string    // its sentence
	ErrorAt   time.Time // when it came up last
	Attempts  uint64    // connections tried
	Connects  uint64    // ... and accepted by the broker
	Sent      uint64    // batches handed to a connection, repeats too
	Acked     uint64    // batches acknowledged by the broker
	Damaged   uint64    // batches that could not be expanded, acknowledged unsent
	Inflight  int       // PUBLISH packets without PUBACK
	LastAck   time.Time // last PUBACK for a batch
	// KeepAlive is how long the link may be silent until a ping.
	KeepAlive time.Duration
}

// An Uplink is made by New and works in Run.
type Uplink struct {
	o       Options
	queue   Queue
	log     *slog.Logger
	stretch *stretch

	unanswered int  // connections in a row that ended in place of an answer to meetBridge; of Run
	certified  bool // this device had a certificate to show at the last connection; of Run

	mu     sync.Mutex // guards status and logged
	status Status
	logged Kind // the failure that was logged last, "" after a connection
}

// New returns an Uplink; it starts nothing.
func New(q Queue, o Options) *Uplink {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.KeepAlive, time.Minute)
	def(&o.ConnectTimeout, 20*time.Second)
	def(&o.AckTimeout, 30*time.Second)
	def(&o.BackoffMin, time.Second)
	def(&o.BackoffMax, 2*time.Minute)
	def(&o.StableAfter, time.Minute)
	def(&o.Drain, 5*time.Second)
	if o.Inflight <= 0 {
		o.Inflight = 16
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.ServerName == "" {
		o.ServerName = o.Endpoint
		if host, _, err := net.SplitHostPort(o.Endpoint); err == nil {
			o.ServerName = host
		}
	}
	if o.Presence == nil {
		o.PresenceTopic = ""
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uplink{o: o, queue: q, log: o.Log, stretch: newStretch(o.KeepAlive, o.KeepAliveMax)}
	u.status = Status{State: Stopped, Since: time.Now(), Endpoint: o.Endpoint}
	return u
}

// Status may be called at any time from any goroutine.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.status
	st.KeepAlive = u.stretch.now()
	return st
}

func (u *Uplink) update(f func(*Status)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.status)
}

// Run connects, sends and reconnects until ctx is done; only an error of the
// queue itself ends it before. If there is a
// connection then, what the queue still holds is sent for at most
// Options.Drain, and the broker is told goodbye. Run returns when all its
// goroutines have ended.
func (u *Uplink) Run(ctx context.Context) error {
	pause := newBackoff(u.o.BackoffMin, u.o.BackoffMax)
	young := 0 // connections in a row that the broker closed young
	u.update(func(s *Status) { s.State, s.Since = Connecting, time.Now() })
	defer u.update(func(s *Status) { s.State, s.Since = Stopped, time.Now() })
	for {
		u.update(func(s *Status) { s.Attempts++ })
		start := time.Now()
		connected, err := u.session(ctx)
		var queue *queueError
		if ctx.Err() != nil {
			return nil
		} else if errors.As(err, &queue) {
			return fmt.Errorf("uplink: queue: %w", queue.err)
		}
		failure := classify(err, u.o.Endpoint, u.o.ServerName, u.certified)
		if !connected.IsZero() {
			if time.Since(connected) >= u.o.StableAfter {
				pause.Reset()
			}
			if failure.Kind == KindClosed && time.Since(connected) < max(u.o.StableAfter, u.o.BackoffMax)+
				u.o.BackoffMin {
				young++
			} else {
				young = 0
			}
		}
		if young >= 2 && failure.Kind == KindClosed {
			failure = &linkError{Kind: KindTakenOver, Text: failure.Text +
				", again: is another client using the client id " + u.o.ClientID + "?", Err: failure.Err}
		}
		wait := pause.NextBackOff()
		u.failed(failure, start, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		u.update(func(s *Status) { s.State = Connecting })
	}
}

// newBackoff gives waits with full jitter: anything from zero to a bound that
// doubles from least to most, so that a fleet does not come back in step.
func newBackoff(least, most time.Duration) *backoff.ExponentialBackOff {
	// The library's jitter of 1 means ± the whole interval, hence the halves.
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(max(least/2, 1)),
		backoff.WithMaxInterval(max(most/2, 1)),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxElapsedTime(0))
	b.Reset()
	return b
}

// failed notes a failure, and logs it once until the kind changes or a
// connection has come up in between.
func (u *Uplink) failed(e *linkError, since time.Time, wait time.Duration) {
	u.mu.Lock()
	again := u.logged == e.Kind
	u.logged = e.Kind
	s := &u.status
	if s.State == Online {
		s.Since = since
	}
	s.State, s.ErrorKind, s.Error, s.ErrorAt, s.Inflight = Waiting, e.Kind, e.Error(), time.Now(), 0
	u.mu.Unlock()
	level := slog.LevelWarn
	if again {
		level = slog.LevelDebug
	}
	u.log.Log(context.Background(), level, "no connection, will retry", "kind", string(e.Kind), "err", e, "in",
		wait.Round(time.Millisecond))
}

// A queueError ends the uplink: without a queue there is nothing to do.
type queueError struct{ err error }

func (e *queueError) Error() string { return e.err.Error() }

// errDrained ends a session that has nothing more to do.
var errDrained = errors.New("uplink: drained")
