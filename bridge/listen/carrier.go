package listen

import (
	"context"
	"maps"
	"net"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A connServer serves MQTT connections, as the gateway does.
type connServer interface {
	// ServeConn returns when the connection has ended, which it does with ctx.
	ServeConn(ctx context.Context, nc net.Conn, via gateway.Via)
}

// A carrier owns the MQTT connections that came by the HTTPS listener: those
// chosen in the TLS handshake, and WebSockets, of which net/http does not know
// any more.
type carrier struct {
	gateway connServer
	calls   chan call
	ended   chan struct{} // closed when run ends

	websockets, direct atomic.Int64 // open now
	mu                 sync.Mutex   // guards refused
	refused            map[int]uint64
}

type call struct {
	nc  net.Conn
	via gateway.Via
}

func newCarrier(g connServer) *carrier {
	return &carrier{gateway: g, calls: make(chan call), ended: make(chan struct{}), refused: map[int]uint64{}}
}

// refuse counts a WebSocket that was refused with an HTTP status.
func (c *carrier) refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[status]++
}

// refusals is how many were, by HTTP status.
func (c *carrier) refusals() map[int]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.refused)
}

// carry hands nc over. When the bridge stops, it is closed.
func (c *carrier) carry(nc net.Conn, via gateway.Via) {
	leavePlace(nc)
	select {
	case c.calls <- call{nc, via}:
	case <-c.ended:
		nc.Close()
	}
}

// run serves what is handed over until ctx ends, and then waits for the end of
// all.
func (c *carrier) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(c.ended)
	for {
		select {
		case x := <-c.calls:
			n := &c.direct
			if x.via.Protocol == "wss" {
				n = &c.websockets
			}
			n.Add(1)
			wg.Go(func() {
				defer n.Add(-1)
				c.gateway.ServeConn(ctx, x.nc, x.via)
			})
		case <-ctx.Done():
			return
		}
	}
}
