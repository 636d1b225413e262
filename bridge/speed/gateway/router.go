package gateway

import (
	"cmp"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Router takes each message that policy allowed: publishes and wills.
//
// Route is called from the client's reading goroutine, so in the order of its
// packets, and from different goroutines for different clients; the next Route
// of a client id is called after the previous one returned, across takeovers
// too. Route may block, which stops reading from that client. It must see to it
// that p.Done is called exactly once.
type Router interface {
	Route(p Publish)
}

// A Publish is a message that a client published, and what the gateway has to be
// told of it.
type Publish struct {
	// Message is complete, but for its Trace. It is the Router's to hand on.
	Message *message.Message
	Client  *Client
	// Will: the client did not publish it itself, its connection has ended.
	Will bool
	// Done acknowledges the message. It may be called from any goroutine, maybe
	// before Route returns: with nil when the message is safe; with
	// ErrNotAuthorized when policy refused some of what is in it and the rest is
	// safe, which acknowledges it too, to a client of version 5 with that reason;
	// or with another error, which closes the connection without. It does not
	// block.
	Done func(error)

	packetID uint16 // to be stored as accepted; 0: none
	awaited  bool   // the client waits for Done, see streams.Batch.Awaited
}

// Keeps says whether the gateway has something to add to the batch that makes the
// message durable: what it has to remember, as of QoS 2, or that the client waits.
func (p Publish) Keeps() bool { return p.packetID != 0 || p.awaited }

// Stage adds that to b.
func (p Publish) Stage(b *streams.Batch) {
	b.Awaited = p.awaited
	if p.packetID != 0 {
		p.Client.s.stored().Accept(b, p.packetID)
	}
}

// sign says on m who published it, and that it came at the time at.
func (c *Client) sign(m *message.Message, at time.Time) {
	m.ClientID, m.Thing, m.Principal, m.Owner = c.id, c.session.Thing(), c.session.Principal(), c.owner
	m.SourceIP, m.Protocol, m.Time = c.address, cmp.Or(c.via.Protocol, "mqtt"), at.UnixMilli()
}
