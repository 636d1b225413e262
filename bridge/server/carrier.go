package server

import (
	"context"
	"net"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A carrier owns the MQTT connections that came by the HTTPS listener: those
// chosen in the TLS handshake, and WebSockets, of which net/http does not know
// any more.
type carrier struct {
	gateway *gateway.Server
	calls   chan call
	ended   chan struct{} // closed when run ends
}

type call struct {
	nc  net.Conn
	via gateway.Via
}

func newCarrier(g *gateway.Server) *carrier {
	return &carrier{g, make(chan call), make(chan struct{})}
}

// carry hands nc over. When the bridge stops, it is closed.
func (c *carrier) carry(nc net.Conn, via gateway.Via) {
	unlimit(nc)
	select {
	case c.calls <- call{nc, via}:
	case <-c.ended:
		nc.Close()
	}
}

// run serves what is handed over until ctx ends, and then waits for the end of
// all.
func (c *carrier) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(c.ended)
	for {
		select {
		case x := <-c.calls:
			wg.Go(func() { c.gateway.ServeConn(ctx, x.nc, x.via) })
		case <-ctx.Done():
			return nil
		}
	}
}
