package gateway

import (
	"errors"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// ackRing holds the publishes of a connection that are not acknowledged, in the
// order in which they came. An entry is named by its number, which counts from
// 1 and is never used again, so a done that is called twice does no harm.
type ackRing struct {
	ring       []ack  // of a power of two
	head, tail uint64 // entries head to tail-1 are in use; both are 0 before the first
	bytes      int
}

type ack struct {
	kind   packet.Type // PUBACK, PUBREC, or 0 for QoS 0
	reason byte
	id     uint16
	done   bool
	size   int
}

func (r *ackRing) len() int { return int(r.tail - r.head) }

func (r *ackRing) push(a ack) (seq uint64) {
	if r.tail == 0 {
		r.head, r.tail = 1, 1
	}
	if r.len() == len(r.ring) {
		bigger := make([]ack, max(8, 2*len(r.ring)))
		for i := r.head; i < r.tail; i++ {
			bigger[i&uint64(len(bigger)-1)] = *r.at(i)
		}
		r.ring = bigger
	}
	seq = r.tail
	r.tail++
	*r.at(seq) = a
	r.bytes += a.size
	return seq
}

func (r *ackRing) at(seq uint64) *ack { return &r.ring[seq&uint64(len(r.ring)-1)] }

func (c *Client) acksFull() bool {
	return c.acks.len() >= c.srv.conf.InFlight || c.acks.bytes >= c.srv.conf.InFlightBytes
}

// awaitRoom keeps the client from being read while too much of it is not done.
func (c *Client) awaitRoom() string {
	for {
		c.s.mu.Lock()
		full := c.acksFull()
		c.waiting = full
		c.s.mu.Unlock()
		if !full {
			return ""
		}
		c.flush()
		c.srv.count.held.Add(1)
		select {
		case <-c.room4more:
		case <-c.gone:
			return ReasonShutdown // or what kick said
		}
		c.lastPacket = time.Now()
	}
}

// routed is the router's done for the publish with this number.
func (c *Client) routed(seq uint64, err error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq < c.acks.head || c.acks.at(seq).done {
		c.srv.count.doneTwice.Add(1)
		return
	}
	a := c.acks.at(seq)
	c.acks.bytes -= a.size
	a.size = 0
	if errors.Is(err, ErrNotAuthorized) {
		err = nil
		if a.kind == packet.PUBACK { // a PUBREC with a reason would end the exchange
			a.reason = codeNotAuthorized
		}
	}
	if a.kind == packet.PUBREC {
		c.routedQoS2(a.id, err)
	}
	if err != nil {
		c.srv.count.routeErrors.Add(1)
		if a.kind != 0 {
			// Neither this one nor those behind it may be acknowledged: an
			// entry that is never done holds them back.
			c.srv.conf.Log.LogAttrs(ctxBackground, levelDebug, "publish was not taken", attr("client", c.id),
				attr("err", err))
			c.kick(ReasonServer)
			return
		}
	}
	a.done = true
	c.release()
	if c.routing != seq {
		c.startWriter()
	} // else Route has not returned: the reading goroutine flushes
}

func (c *Client) wake() {
	select {
	case c.room4more <- struct{}{}:
	default:
	}
}

// release puts the acknowledgements that are due into the output buffer. s.mu
// is held.
func (c *Client) release() {
	r := &c.acks
	for ; r.head < r.tail && r.at(r.head).done; r.head++ {
		if a := r.at(r.head); a.kind != 0 && !c.closed {
			c.appendAck(a.kind, a.id, a.reason)
		}
	}
	if r.head == r.tail {
		c.allDone = true
	}
	if c.waiting && !c.acksFull() || c.draining && r.head == r.tail {
		c.wake()
	}
}
