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

// alpnConns tracks the MQTT connections that were taken over from the HTTPS
// listener (ALPN or WebSocket), which net/http no longer closes.
type alpnConns struct {
	gateway   connServer
	handovers chan handover
	ended     chan struct{} // closed when run ends

	websockets, direct atomic.Int64 // open now
	mu                 sync.Mutex   // guards refused
	refused            map[int]uint64
}

// A handover is a connection that run is to serve.
type handover struct {
	nc  net.Conn
	via gateway.Via
}

func newALPNConns(g connServer) *alpnConns {
	return &alpnConns{gateway: g, handovers: make(chan handover), ended: make(chan struct{}), refused: map[int]uint64{}}
}

// countRefused counts a WebSocket that was refused with an HTTP status.
func (c *alpnConns) countRefused(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[status]++
}

// refusedByStatus is how many WebSockets were refused, by HTTP status.
func (c *alpnConns) refusedByStatus() map[int]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.refused)
}

// take has run serve nc. Once run has ended, nc is closed.
func (c *alpnConns) take(nc net.Conn, via gateway.Via) {
	releaseSlot(nc)
	select {
	case c.handovers <- handover{nc, via}:
	case <-c.ended:
		nc.Close()
	}
}

// run serves the connections until ctx ends, and then waits until all have ended.
func (c *alpnConns) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(c.ended)
	for {
		select {
		case x := <-c.handovers:
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
