package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A Server is an MQTT server. Its methods may be called from several goroutines.
//
// Locks are taken in the order retainMu, then mu or a session's, never both of
// the latter.
type Server struct {
	conf     Config
	auth     Authorizer
	router   Router
	count    counters
	limiter  *admission.Limiter
	subs     topic.Tree[*subscription]
	fans     sync.Pool    // of *fanout
	queued   atomic.Int64 // bytes of all sessions
	retained *Retained

	refusals notice.Log      // of what an owner has too much of
	store    *sessions.Store // nil without Config.Store
	swept    time.Time       // of Run: when expired retained messages were forgotten

	// retainMu makes a SUBSCRIBE and a retained message happen one after the
	// other, so that no subscriber sees an older retained message after a
	// newer live one. Deliver writes, SUBSCRIBE reads.
	retainMu sync.RWMutex

	groupMu sync.Mutex        // taken before a group's; guards what follows
	groups  map[string]*group // shared subscriptions by their whole filter

	mu          sync.Mutex          // guards what follows
	conns       map[*Client]bool    // every open connection
	clients     map[string]*Client  // the latest to claim each client id
	sessions    map[string]*session // by client id, of clients connected and away
	owned       map[string]int      // sessions that are counted, by owner
	due         dues                // sessions of clients that are away
	stopped     bool                // Run has ended
	serial      uint64              // of the latest session
	disconnects uint64              // calls of Disconnect
}

// New returns a server; nothing runs before Serve and Run.
func New(c Config, a Authorizer, r Router) *Server {
	conf := c.withDefaults()
	s := &Server{
		conf: conf, auth: a, router: r,
		conns:    make(map[*Client]bool),
		clients:  make(map[string]*Client),
		sessions: make(map[string]*session),
		owned:    make(map[string]int),
		groups:   make(map[string]*group),
		// A quarter of MaxUnauthenticated is left to others than one address.
		limiter: admission.NewLimiter(admission.Limits{Open: conf.MaxConnections, PerAddress: conf.MaxPerAddress,
			Unauthenticated:           conf.MaxUnauthenticated,
			UnauthenticatedPerAddress: conf.MaxUnauthenticated - conf.MaxUnauthenticated/4}),
	}
	s.retained = newRetained(usage{conf.MaxRetained, conf.MaxRetainedBytes},
		usage{conf.MaxRetainedPerOwner, conf.MaxRetainedBytesPerOwner})
	if s.conf.Store != nil {
		s.store = sessions.New(s.conf.Store, memory{s})
	}
	s.fans.New = func() any { return newFanout() }
	return s
}

// Serve accepts connections from l until ctx ends or l fails, and returns when
// every connection it accepted has ended. It closes l. TLS is the listener's
// (tls.NewListener); the handshake is done in the connection's own goroutine.
// It returns nil when ctx ended. A Server may serve several listeners at once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("gateway: accept: %w", err)
		case err != nil:
			// Out of file descriptors, most likely: wait for some to be closed.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.conf.Log.Warn("cannot accept connections, will retry", "err", err, "in", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		c := s.open(nc, Via{})
		if c == nil {
			continue
		}
		wg.Go(func() { c.serve(ctx) })
	}
}

// ServeConn serves one connection that was accepted elsewhere, such as a
// WebSocket, and returns when it has ended; when ctx ends it says goodbye. It
// closes nc.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, via Via) {
	c := s.open(nc, via)
	if c == nil {
		return
	}
	if !via.Ends.IsZero() {
		defer time.AfterFunc(time.Until(via.Ends), func() { c.kick(via.EndReason) }).Stop()
	}
	c.serve(ctx)
}

// open registers a connection. When there are too many it closes nc and returns
// nil.
func (s *Server) open(nc net.Conn, via Via) *Client {
	c := newClient(s, nc, via)
	var err error
	if c.slot, err = s.limiter.Acquire(admission.AddressOf(nc.RemoteAddr()), raw(nc).Close); err != nil {
		if errors.Is(err, admission.ErrFull) {
			s.limiter.Refuse()
		}
		if errors.Is(err, admission.ErrTaken) {
			s.refusals.Happened("full", func(n uint64) {
				s.conf.Log.Warn("all connections are of known clients, newcomers are closed", "closed", n,
					"max_connections", s.conf.MaxConnections, "setting", "mqtt.max_connections")
			})
		}
		raw(nc).Close() // without a goodbye that could wait
		return nil
	}
	if l, ok := raw(nc).(*admission.Conn); ok {
		l.SetSlot(c.slot)
	} else {
		c.slot.Spoke() // or did below: TLS of the HTTPS listener, a WebSocket
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = true
	c.serial = s.count.accepted.Add(1)
	return c
}

// Disconnect ends the connections for which match returns true and returns how
// many they were. reason is one of the Reason constants and goes into their
// disconnected event. It does not wait for the connections to end; match must
// not call the Server.
func (s *Server) Disconnect(match func(*Client) bool, reason string) int {
	n := 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disconnects++
	for c := range s.conns {
		if c.authorized && match(c) && c.kick(reason) {
			n++
		}
	}
	return n
}

// Each calls f for every connected client. f must not call the Server.
func (s *Server) Each(f func(*Client)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.authorized {
			f(c)
		}
	}
}

// Deliver sends m to the clients with a matching subscription, if they may
// receive it, and keeps it if it is retained. A client whose subscriptions
// overlap gets it once, with the highest quality of service they grant. What is
// addressed to the bridge itself (Basic Ingest, batches, provisioning) reaches
// nobody.
//
// What has to be durable before the publisher of m is told is added to b, and
// goes out when the caller, having committed b, calls later; that is nil if
// nothing was added. Without b everything goes out at once.
//
// Deliver never waits for a client, nor does later. Calls from one goroutine
// reach each client in their order.
func (s *Server) Deliver(m *message.Message, b *streams.Batch) (later func()) {
	if waiting := s.deliver(m, b, false); waiting != nil {
		return waiting.send
	}
	return nil
}

// Stage is Deliver for a caller who has more to commit with the message, such as
// how far it has come: it adds to b what sessions and retained messages have to
// keep of m, and takes room for it in their queues. Nothing goes out to anybody
// before the caller, having committed b, calls done (nil: nobody gets m) with what
// came of it; after an error nothing does, and the room is given back.
func (s *Server) Stage(m *message.Message, b *streams.Batch) (done func(error)) {
	waiting := s.deliver(m, b, true)
	if waiting == nil {
		return nil
	}
	return func(err error) {
		if err != nil {
			waiting.giveBack()
		} else {
			waiting.send()
		}
	}
}

// deliver is Deliver, or Stage if all is put off.
func (s *Server) deliver(m *message.Message, b *streams.Batch, all bool) (waiting staged) {
	if !topic.ForSubscribers(m.Topic) {
		return nil
	}
	if m.Retain {
		s.retainMu.Lock()
		defer s.retainMu.Unlock()
		if !topic.IsReserved(m.Topic) {
			s.retain(m, b)
		}
	}
	f := s.fans.Get().(*fanout)
	if s.conf.StrictHash {
		s.subs.MatchRule(m.Topic, f.add)
	} else {
		s.subs.Match(m.Topic, f.add)
	}
	if len(f.to)+len(f.groups) > 0 {
		waiting = s.fan(m, f, b, all)
	}
	f.reset()
	s.fans.Put(f)
	return waiting
}

// retain keeps m, or forgets what its topic had, in b too if things are durable.
func (s *Server) retain(m *message.Message, b *streams.Batch) {
	now := time.Now()
	kept := s.retained.set(m, now)
	if !kept {
		s.count.droppedRetained.Add(1)
		s.refusedTo(m.Owner, "there is no room for retained messages, they are delivered and not kept")
	}
	switch {
	case s.store == nil:
	case b == nil:
		s.store.Retained(s.store, m.Topic, retainedSize(m))
	default:
		s.store.Retained(b, m.Topic, retainedSize(m))
	}
}

// Retained are the retained messages.
func (s *Server) Retained() *Retained { return s.retained }
