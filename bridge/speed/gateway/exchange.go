package gateway

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// What becomes of a QoS 2 message that a client publishes, from its PUBLISH to its
// PUBREL. The entries of session.qos2 are these.

// echoed acknowledges a QoS 2 PUBLISH that was sent before, and says whether it
// was; wait says that its first copy is not done, so that there may be too much to
// read on. s.mu is held.
func (c *Client) echoed(id uint16, a ack) (known, wait bool) {
	x := c.s.qos2[id]
	if x == nil {
		return false, false
	}
	a.size = 0
	if x.durable { // only PUBREC was lost
		a.done = true
		c.acks.push(a)
		c.release()
		return true, false
	}
	x.echoes = append(x.echoes, echo{c, c.acks.push(a)})
	return true, true
}

// begin begins a QoS 2 exchange, if there may be one more. s.mu is held.
func (c *Client) begin(id uint16) error {
	s, conf := c.s, &c.srv.conf
	switch {
	case len(s.qos2) >= conf.MaxUnreleased:
		return over("MaxUnreleased", conf.MaxUnreleased, "another QoS 2 message without PUBREL")
	case c.version == packet.V5 && c.exchanges >= conf.InFlight: // more than CONNACK allowed
		return over("InFlight", conf.InFlight, "another QoS 2 message in flight")
	}
	if s.qos2 == nil {
		s.qos2 = make(map[uint16]*exchange)
	}
	s.qos2[id] = &exchange{by: c}
	c.exchanges++
	return nil
}

// repeated says whether p is a copy of a message that was accepted when policy
// still let it through: its exchange then goes on to its end, so that its packet
// id can be used again.
func (c *Client) repeated(p *packet.Publish) bool {
	if p.QoS != 2 {
		return false
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.qos2[p.ID] != nil
}

// routedQoS2 marks the exchange and answers copies of its PUBLISH. s.mu is held.
func (c *Client) routedQoS2(id uint16, err error) {
	x := c.s.qos2[id]
	if x == nil || x.durable {
		return
	}
	x.durable = true
	if err != nil {
		c.s.forgetExchange(id)
	}
	for _, e := range x.echoes {
		if err != nil {
			e.c.kick(ReasonServer)
			continue
		}
		e.c.acks.at(e.seq).done = true
		e.c.release()
		e.c.startWriter()
	}
	x.echoes = nil
}

// pubrel ends a QoS 2 exchange.
func (c *Client) pubrel(id uint16) string {
	s := c.s
	s.mu.Lock()
	x := s.qos2[id]
	if x != nil && !x.durable {
		s.mu.Unlock()
		return c.refused(codeProtocol, fmt.Errorf("%w: PUBREL before PUBREC", packet.ErrProtocol))
	}
	defer s.mu.Unlock()
	if x == nil {
		c.appendAck(packet.PUBCOMP, id, codeUnknownID)
		return ""
	}
	if s.durable.Load() {
		if !x.ending {
			x.ending = true
			c.endExchange(id)
		}
		return ""
	}
	s.forgetExchange(id)
	c.appendAck(packet.PUBCOMP, id, 0)
	return ""
}

// forgetExchange ends an exchange; of a session that was discarded meanwhile
// there may be none. s.mu is held.
func (s *session) forgetExchange(id uint16) {
	if x := s.qos2[id]; x != nil {
		delete(s.qos2, id)
		if x.by != nil {
			x.by.exchanges--
		}
	}
}

// endExchange forgets an exchange and then says PUBCOMP, after which the client
// may use its packet id for another message. s.mu is held.
func (c *Client) endExchange(id uint16) {
	s := c.s
	s.stored().Release(s.srv.store, id)
	s.srv.store.After(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forgetExchange(id)
		if s.c != nil { // perhaps a later connection, which has sent PUBREL again or will
			s.c.appendAck(packet.PUBCOMP, id, 0)
			s.c.startWriter()
		}
	})
}
