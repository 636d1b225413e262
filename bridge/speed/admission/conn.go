package admission

import (
	"net"
	"sync/atomic"
)

// A Conn tells the slot of a connection when its client says something. One of
// a Listener gets its slot later, by SetSlot.
type Conn struct {
	net.Conn
	slot atomic.Pointer[Slot] // nil: none yet, or it was told
}

// NewConn returns c with its slot.
func NewConn(c net.Conn, p *Slot) *Conn {
	x := &Conn{Conn: c}
	x.SetSlot(p)
	return x
}

// SetSlot sets the slot, before anything is read.
func (c *Conn) SetSlot(p *Slot) { c.slot.Store(p) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.slot.Load() != nil {
		if p := c.slot.Swap(nil); p != nil {
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
