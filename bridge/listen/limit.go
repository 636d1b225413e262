package listen

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// A limitListener gives each connection a slot. It closes the connections beyond
// the limits of their address, and all when authenticated clients have every slot.
// Otherwise, when all slots are taken, the next connection waits for one, and
// those behind it in the kernel's queue: that of an unauthenticated client is soon
// free.
type limitListener struct {
	net.Listener
	full    func() // called for each closed because authenticated clients have every slot
	limiter *admission.Limiter
	idle    time.Duration // how long a client may be idle that is not authenticated
	closed  chan struct{}
	close   func() error
}

func newLimitListener(l net.Listener, limits admission.Limits, idle time.Duration, full func()) *limitListener {
	p := &limitListener{Listener: l, full: full, idle: idle, closed: make(chan struct{}),
		limiter: admission.NewLimiter(limits)}
	p.close = sync.OnceValue(func() error {
		close(p.closed)
		return l.Close()
	})
	return p
}

// Close implements net.Listener; it may be called again.
func (l *limitListener) Close() error { return l.close() }

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		slot, err := l.acquire(c)
		if err == nil {
			return &limitedConn{Conn: admission.NewConn(c, slot), slot: slot, idle: l.idle}, nil
		}
		if errors.Is(err, admission.ErrTaken) {
			l.full() // told before the client can know
		}
		c.Close()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
	}
}

// acquire takes a slot for c, and waits until there is one.
func (l *limitListener) acquire(c net.Conn) (*admission.Slot, error) {
	for {
		freed := l.limiter.Freed()
		slot, err := l.limiter.Acquire(admission.AddressOf(c.RemoteAddr()), c.Close)
		if !errors.Is(err, admission.ErrFull) {
			return slot, err
		}
		select {
		case <-freed:
		case <-time.After(admission.SilentGrace / 10): // the grace of another may be over
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// A limitedConn releases its slot when it is closed.
type limitedConn struct {
	net.Conn
	slot *admission.Slot
	idle time.Duration

	mu  sync.Mutex  // guards end
	end *time.Timer // of an idle client that is not authenticated; nil: none
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.slot.Release()
	c.endIdle()
	return c.Conn.Close()
}

// beginIdle ends the connection after c.idle, unless its client is authenticated
// or says something.
func (c *limitedConn) beginIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil && !c.slot.IsAuthenticated() {
		c.end = time.AfterFunc(c.idle, func() { c.Conn.Close() })
	}
}

// endIdle is called when the connection is not idle any more.
func (c *limitedConn) endIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		c.end.Stop()
		c.end = nil
	}
}

// limitedConnOf returns the connection below TLS, nil for one without a slot.
func limitedConnOf(c net.Conn) *limitedConn {
	for {
		switch x := c.(type) {
		case *limitedConn:
			return x
		case interface{ NetConn() net.Conn }:
			c = x.NetConn()
		default:
			return nil
		}
	}
}

// releaseSlot releases the slot of c while it is open: the gateway bounds its own
// connections, and devices that stay must not keep requests out.
func releaseSlot(c net.Conn) {
	if p := limitedConnOf(c); p != nil {
		p.endIdle()
		p.slot.Release()
	}
}

// idling is http.Server.ConnState. An HTTP/2 connection is idle when it has no
// requests.
func idling(c net.Conn, s http.ConnState) {
	p := limitedConnOf(c)
	switch {
	case p == nil:
	case s == http.StateIdle:
		p.beginIdle()
	default:
		p.endIdle()
	}
}

// slotKey is that of the slot of a request's connection in its context.
type slotKey struct{}

// SlotOf is the slot of a request's connection, nil for none.
func SlotOf(r *http.Request) *admission.Slot {
	p, _ := r.Context().Value(slotKey{}).(*admission.Slot)
	return p
}
