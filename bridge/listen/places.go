package listen

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// A places listener gives each connection a place. Those beyond the limits of
// their address, or their share when there is none, are closed, and so are all
// when known clients have every place. Otherwise those for whom there is none wait,
// behind the first in the kernel's queue: one of a stranger is soon to be had.
type places struct {
	net.Listener
	full   func() // told of each that is closed because known clients have every place
	door   *admission.Door
	idle   time.Duration // a client that is not known may be idle for so long
	closed chan struct{}
	close  func() error
}

func newPlaces(l net.Listener, limits admission.Limits, idle time.Duration, full func()) *places {
	p := &places{Listener: l, full: full, idle: idle, closed: make(chan struct{}), door: admission.NewDoor(limits)}
	p.close = sync.OnceValue(func() error {
		close(p.closed)
		return l.Close()
	})
	return p
}

// Close implements net.Listener; it may be called again.
func (l *places) Close() error { return l.close() }

// Accept implements net.Listener.
func (l *places) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		place, err := l.enter(c)
		if err == nil {
			return &placed{Conn: admission.Listening(c, place), place: place, idle: l.idle}, nil
		}
		c.Close()
		switch {
		case errors.Is(err, admission.ErrTaken):
			l.full()
		case errors.Is(err, net.ErrClosed):
			return nil, err
		}
	}
}

// enter takes a place for c, and waits until there is one.
func (l *places) enter(c net.Conn) (*admission.Place, error) {
	for {
		room := l.door.Room()
		place, err := l.door.Enter(admission.AddressOf(c.RemoteAddr()), c.Close)
		if !errors.Is(err, admission.ErrFull) {
			return place, err
		}
		select {
		case <-room:
		case <-time.After(admission.Moment / 10): // somebody's may be over
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// A placed connection gives its place back when it is closed.
type placed struct {
	net.Conn
	place *admission.Place
	idle  time.Duration

	mu  sync.Mutex  // guards end
	end *time.Timer // of an idle client that is not known; nil: none
}

// Close implements net.Conn.
func (c *placed) Close() error {
	c.place.Leave()
	c.rouse()
	return c.Conn.Close()
}

// rest ends the connection in a while, unless its client is known or says
// something.
func (c *placed) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil && !c.place.IsKnown() {
		c.end = time.AfterFunc(c.idle, func() { c.Conn.Close() })
	}
}

// rouse is for a connection that is not idle any more.
func (c *placed) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		c.end.Stop()
		c.end = nil
	}
}

// placedOf returns the connection below TLS, nil for one without a place.
func placedOf(c net.Conn) *placed {
	for {
		switch x := c.(type) {
		case *placed:
			return x
		case interface{ NetConn() net.Conn }:
			c = x.NetConn()
		default:
			return nil
		}
	}
}

// leavePlace gives the place of c back while it is open: the gateway bounds its
// own connections, and devices that stay must not keep requests out.
func leavePlace(c net.Conn) {
	if p := placedOf(c); p != nil {
		p.rouse()
		p.place.Leave()
	}
}

// idling is net/http's word of what a connection does. By HTTP/2 it is idle
// when it has no requests.
func idling(c net.Conn, s http.ConnState) {
	p := placedOf(c)
	switch {
	case p == nil:
	case s == http.StateIdle:
		p.rest()
	default:
		p.rouse()
	}
}

// placeKey is that of the place of a request's connection in its context.
type placeKey struct{}

// PlaceOf is the place of a request's connection, nil for none.
func PlaceOf(r *http.Request) *admission.Place {
	p, _ := r.Context().Value(placeKey{}).(*admission.Place)
	return p
}
