package devices

import (
	"context"
	"errors"
	"net"
	"sync"
)

// errCut is what a device without a link is told.
var errCut = errors.New("the link is cut")

// A link is the network of one device: its dialer, which can be cut.
type link struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex // guards what follows
	down  bool
	conns map[*cutConn]struct{}
}

// Dial is for device.Deps.
func (l *link) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, errCut
	}
	c, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down { // meanwhile
		_ = c.Close()
		return nil, errCut
	}
	own := &cutConn{Conn: c, link: l}
	if l.conns == nil {
		l.conns = map[*cutConn]struct{}{}
	}
	l.conns[own] = struct{}{}
	return own, nil
}

// set cuts the link, with the connections there are, or mends it.
func (l *link) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for c := range l.conns {
			_ = c.Conn.Close()
		}
		clear(l.conns)
	}
}

// A cutConn is a connection that its link knows of until it is closed.
type cutConn struct {
	net.Conn
	link *link
}

func (c *cutConn) Close() error {
	c.link.mu.Lock()
	delete(c.link.conns, c)
	c.link.mu.Unlock()
	return c.Conn.Close()
}
