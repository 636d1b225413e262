package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
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

// publish takes a PUBLISH from the client.
func (c *Client) publish(first byte, body []byte, owned bool) string {
	var p packet.Publish
	if err := p.Decode(first, body, c.version); err != nil {
		return c.refused(codeOf(err), err)
	}
	conf, s := &c.srv.conf, c.s
	switch {
	case int(p.QoS) > conf.MaxQoS:
		return c.refused(codeQoS, over("MaxQoS", conf.MaxQoS, "QoS %d", p.QoS))
	case len(p.Payload) > conf.MaxPayload && (c.version == packet.V311 || conf.StrictPayload):
		return c.refused(codeTooLarge, over("MaxPayload", conf.MaxPayload, "a payload of %d bytes", len(p.Payload)))
	}
	props, err := c.properties(packet.PUBLISH, p.Properties)
	if err != nil {
		return c.refused(codeOf(err), err)
	}
	if reason := c.throttle(len(body)); reason != "" {
		return reason
	}
	t, code, err := c.topicOf(&p, &props)
	if err != nil {
		return c.refused(code, err)
	}
	// lastPacket is when this packet was waited for, or a little before it came;
	// a verdict may so live a little longer, never more than the packets of
	// one read.
	if !t.mayPublish(c.session, p.Retain, c.lastPacket, conf.PermissionCache) && !c.repeated(&p) {
		c.notAllowed(t, p.Retain)
		if c.version == packet.V5 && p.QoS > 0 {
			return c.refusePublish(&p, codeNotAuthorized)
		}
		return ReasonAuth
	}
	if p.Retain && p.QoS > 0 && c.version == packet.V5 && !c.repeated(&p) &&
		!c.srv.roomToRetain(&message.Message{Topic: t.name, Payload: p.Payload, Retain: true, Properties: props.Forward,
			Owner: c.owner}) {
		c.denied(errRetained(c.owner))
		return c.refusePublish(&p, codeQuota)
	}
	a := ack{id: p.ID, size: len(t.name) + len(p.Payload) + len(props.Forward) + overhead}
	switch p.QoS {
	case 1:
		a.kind = packet.PUBACK
	case 2:
		a.kind = packet.PUBREC
	}

	s.mu.Lock()
	if p.QoS == 2 {
		switch x := s.qos2[p.ID]; {
		case x != nil && x.durable: // sent again, and only PUBREC was lost
			a.size, a.done = 0, true
			c.acks.push(a)
			c.release()
			s.mu.Unlock()
			return ""
		case x != nil:
			a.size = 0
			x.echoes = append(x.echoes, echo{c, c.acks.push(a)})
			s.mu.Unlock()
			return c.awaitRoom()
		case len(s.qos2) >= conf.MaxUnreleased:
			s.mu.Unlock()
			return c.refused(codeReceiveMaximum,
				over("MaxUnreleased", conf.MaxUnreleased, "another QoS 2 message without PUBREL"))
		case c.version == packet.V5 && c.exchanges >= conf.InFlight: // more than CONNACK allowed
			s.mu.Unlock()
			return c.refused(codeReceiveMaximum, over("InFlight", conf.InFlight, "another QoS 2 message in flight"))
		}
		if s.qos2 == nil {
			s.qos2 = make(map[uint16]*exchange)
		}
		s.qos2[p.ID] = &exchange{by: c}
		c.exchanges++
	}
	seq := c.acks.push(a)
	c.routing = seq
	full := c.acksFull()
	s.mu.Unlock()

	m := &message.Message{Topic: t.name, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Properties: props.Forward}
	c.sign(m)
	out := Publish{Message: m, Client: c, Done: func(err error) { c.routed(seq, err) }}
	if p.QoS == 2 && s.durable.Load() {
		out.packetID = p.ID
	}
	if props.Has(packet.MessageExpiry) {
		m.Expires = time.Now().Add(time.Duration(props.Number(packet.MessageExpiry, 0)) * time.Second)
	}
	if !owned {
		n := len(m.Payload)
		b := append(append(make([]byte, 0, n+len(m.Properties)), m.Payload...), m.Properties...)
		m.Payload = b[:n:n]
		if len(m.Properties) > 0 {
			m.Properties = b[n:]
		}
	}
	c.srv.hooks.Router.Route(out)
	if full {
		return c.awaitRoom()
	}
	return ""
}

// notAllowed counts a publish that is refused, and says why.
func (c *Client) notAllowed(t *published, retain bool) {
	c.srv.count.refusedPublish.Add(1)
	why := t.unfit(retain)
	if why != nil {
		c.srv.count.refusedReserved.Add(1)
	} else {
		why = fmt.Errorf("%w: no policy lets %s publish to %.256q, retained %t", ErrNotAuthorized, c.Principal(),
			t.name, retain)
	}
	c.denied(why)
	c.srv.conf.Log.LogAttrs(ctxBackground, levelDebug, "publish not allowed", attr("client", c.id),
		attr("topic", t.name), attr("err", why))
}

// throttle keeps a client whose publishes come too fast from being read for a
// while.
func (c *Client) throttle(bytes int) string {
	conf, rate := &c.srv.conf, c.srv.hooks.Wait
	if conf.PublishRate == 0 && conf.PublishBytes == 0 && rate == nil {
		return ""
	}
	now := time.Now()
	wait := max(c.publishes.Take(now, 1, conf.PublishRate), c.published.Take(now, bytes, conf.PublishBytes))
	if rate != nil {
		wait = max(wait, rate(c.session))
	}
	if wait <= 0 {
		return ""
	}
	c.flush()
	c.srv.count.throttled.Add(1)
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-c.gone:
		return ReasonShutdown // or what kick said
	}
	c.lastPacket = time.Now()
	return ""
}

// Charge is for the Router, within Route: it counts messages and bytes that were
// in a publish, beside the packet itself, against the client's rate.
func (c *Client) Charge(messages, bytes int) {
	now := time.Now()
	c.publishes.Take(now, messages, c.srv.conf.PublishRate)
	c.published.Take(now, bytes, c.srv.conf.PublishBytes)
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

// topicOf returns the topic of a PUBLISH, which an alias may stand for, or the
// reason code why there is none.
func (c *Client) topicOf(p *packet.Publish, props *packet.Properties) (t *published, code byte, err error) {
	conf := &c.srv.conf
	alias := uint16(props.Number(packet.TopicAlias, 0))
	switch {
	case props.Has(packet.TopicAlias) && (alias == 0 || int(alias) > conf.TopicAliases): // [MQTT-3.3.2-8, -9]
		return nil, codeAlias, fmt.Errorf("%w: topic alias %d, at most %d", packet.ErrProtocol, alias,
			conf.TopicAliases)
	case props.Has(packet.SubscriptionID): // [MQTT-3.3.4-6]
		return nil, codeProtocol, fmt.Errorf("%w: PUBLISH with a subscription identifier", packet.ErrProtocol)
	case props.Has(packet.ResponseTopic) && topic.ValidName(string(props.ResponseTopic)) != nil: // [MQTT-3.3.2-14]
		return nil, codeProtocol, fmt.Errorf("%w: response topic %.64q", packet.ErrProtocol, props.ResponseTopic)
	case alias > 0 && len(p.Topic) == 0:
		if t = c.aliases[alias]; t == nil {
			return nil, codeProtocol, fmt.Errorf("%w: topic alias %d stands for nothing", packet.ErrProtocol, alias)
		}
		return t, 0, nil
	}
	if len(p.Topic) == 0 { // MQTT 5, 3.3.2.1
		return nil, codeProtocol, fmt.Errorf("%w: PUBLISH without a topic", packet.ErrProtocol)
	}
	if t, err = c.topics.lookup(conf, p.Topic); err != nil {
		return nil, codeTopic, err
	}
	if alias > 0 {
		if c.aliases == nil {
			c.aliases = make(map[uint16]*published)
		}
		c.aliases[alias] = t
	}
	return t, 0, nil
}

// refusePublish answers a message that is not let through; with version 5 the
// connection goes on.
func (c *Client) refusePublish(p *packet.Publish, code byte) string {
	kind := packet.PUBACK
	if p.QoS == 2 {
		kind = packet.PUBREC
	}
	c.s.mu.Lock()
	c.acks.push(ack{kind: kind, id: p.ID, reason: code, done: true})
	c.release()
	c.s.mu.Unlock()
	return c.awaitRoom()
}

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

// release puts the acknowledgements that are due into the output buffer. s.mu
// is held.
func (c *Client) release() {
	r := &c.acks
	for ; r.head < r.tail && r.at(r.head).done; r.head++ {
		if a := r.at(r.head); a.kind != 0 && !c.closed {
			c.appendAck(a.kind, a.id, a.reason)
		}
	}
	if c.waiting && !c.acksFull() || c.draining && r.head == r.tail {
		c.wake()
	}
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
