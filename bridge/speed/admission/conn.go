package admission

import (
	"net"
	"sync/atomic"
)

// A Conn tells the place of a connection when its client says something. One of
// a Listener gets its place later, by Take.
type Conn struct {
	net.Conn
	place atomic.Pointer[Place] // nil: none yet, or it was told
}

// Listening returns c with its place.
func Listening(c net.Conn, p *Place) *Conn {
	x := &Conn{Conn: c}
	x.Take(p)
	return x
}

// Take sets the place, before anything is read.
func (c *Conn) Take(p *Place) { c.place.Store(p) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.place.Load() != nil {
		if p := c.place.Swap(nil); p != nil {
			p.Spoke()
		}
	}
	return n, err
}

// A Listener accepts connections as *Conn.
type Listener struct{ net.Listener }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c}, nil
}
