package access

import (
	"context"
	"log/slog"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A connectable session says whether its client might still connect.
type connectable interface {
	gateway.Session
	mayConnect() bool
}

// connections are those of the gateway.
type connections interface {
	Each(f func(*gateway.Client))
	Disconnect(match func(*gateway.Client) bool, reason string) int
}

// A Revoker ends the connections of clients that may not be connected any more,
// such as those of a revoked certificate. All rights end with the update that ends
// them: the sessions look them up when they are used.
type Revoker struct {
	connections connections
	log         *slog.Logger
	changed     chan struct{} // of one: something has changed since Run looked
}

// NewRevoker returns a Revoker of the gateway's connections.
func NewRevoker(c connections, log *slog.Logger) *Revoker {
	return &Revoker{connections: c, log: log, changed: make(chan struct{}, 1)}
}

// Changed says that rights have changed. It does not wait.
func (r *Revoker) Changed() {
	select {
	case r.changed <- struct{}{}:
	default: // a look is due that will see this too
	}
}

// Run looks at all connections after changes, until ctx ends.
func (r *Revoker) Run(ctx context.Context) error {
	for {
		select {
		case <-r.changed:
			r.Revoke()
		case <-ctx.Done():
			return nil
		}
	}
}

// Revoke ends the connections of clients that may not be connected, at once.
func (r *Revoker) Revoke() {
	var sessions []connectable
	r.connections.Each(func(c *gateway.Client) { sessions = append(sessions, c.Session().(connectable)) })
	stay := make(map[connectable]bool, len(sessions))
	for _, x := range sessions { // outside of the gateway's lock: it may take a while
		stay[x] = x.mayConnect()
	}
	// Called even if all may stay, since it makes the gateway ask again about
	// connections that are just being set up.
	n := r.connections.Disconnect(func(c *gateway.Client) bool {
		x := c.Session().(connectable)
		ok, known := stay[x]
		return !ok && (known || !x.mayConnect())
	}, gateway.ReasonForbidden)
	if n > 0 {
		r.log.Info("clients may not be connected any more", "disconnected", n)
	}
}
