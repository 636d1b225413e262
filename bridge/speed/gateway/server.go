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
)

// A Server is an MQTT server: the connections of clients, and by its Subscribers
// what they get. Its methods may be called from several goroutines.
type Server struct {
	*Subscribers
	hooks   Hooks
	limiter *admission.Limiter

	// Subscribers.mu guards what follows.
	conns       map[*Client]bool   // every open connection
	clients     map[string]*Client // the latest to claim each client id
	disconnects uint64             // calls of Disconnect

	moved atomic.Pointer[string] // set by Move
}

// Move has the server say to clients of version 5 that the bridge is at another address
// now, host:port: to those that come, which it takes no more, and to those that are
// there when Serve's context ends. Version 3.1.1 has no words for it: its clients are
// refused as by a server that is unavailable.
func (s *Server) Move(to string) { s.moved.Store(&to) }

// movedTo is that address, "" for none.
func (s *Server) movedTo() string {
	if to := s.moved.Load(); to != nil {
		return *to
	}
	return ""
}

// errMoved refuses clients of a bridge that is being moved.
var errMoved = errors.New("the bridge is being moved")

// Hooks are those who judge what clients ask for, take what they publish and hear
// of them. Authorizer and Router there must be.
type Hooks struct {
	Authorizer Authorizer
	Router     Router
	// Adopts says whether a client may have the session of its client id that was
	// stored before sessions had owners; else its CONNECT is refused, so that what
	// waits there stays. Nil: the first that comes may. It must not block for long.
	Adopts func(s Session, clientID string) bool
	// Wait, if set, says before each publish for how long it is not taken yet,
	// by a rate that does not end with the connection. It must be quick.
	Wait func(Session) time.Duration
	// Room, if set, is nil while there is room for new messages, else it says why
	// there is none. It must be quick. Publishes are refused then: those of quality of
	// service 0 are dropped; a client of version 5 is told 0x97, Quota exceeded; the
	// connection of others is closed, and of those that send batches, whose order counts.
	Room func() error
	// Events, if set, hears of connections.
	Events func(Event)
	// Denied, if set, hears why a connection did not become a client's, and of
	// what a client may not publish or subscribe to. clientID is "" if it has not
	// been said. It is called from the connection's goroutine, as often as clients
	// like, and must be quick.
	Denied func(remote net.Addr, clientID string, err error)
}

// New returns a server of those clients; nothing runs before Serve and Run.
func New(s *Subscribers, h Hooks) *Server {
	c := &s.conf
	return &Server{
		Subscribers: s, hooks: h,
		conns:   make(map[*Client]bool),
		clients: make(map[string]*Client),
		// A quarter of MaxUnauthenticated is left to others than one address.
		limiter: admission.NewLimiter(admission.Limits{Open: c.MaxConnections, PerAddress: c.MaxPerAddress,
			Unauthenticated:           c.MaxUnauthenticated,
			UnauthenticatedPerAddress: c.MaxUnauthenticated - c.MaxUnauthenticated/4}),
	}
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
