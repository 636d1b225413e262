package gateway

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// publish takes a PUBLISH from the client. body is owned if it is not the read
// buffer's. It returns why the connection ends, or "".
func (c *Client) publish(first byte, body []byte, owned bool) string {
	var p packet.Publish
	if err := p.Decode(first, body, c.version); err != nil {
		return c.refused(codeOf(err), err)
	}
	if code, err := c.withinMax(&p); err != nil {
		return c.refused(code, err)
	}
	props, err := c.properties(packet.PUBLISH, p.Properties)
	if err != nil {
		return c.refused(codeOf(err), err)
	}
	c.arrived = time.Now()
	if reason := c.throttle(len(body)); reason != "" {
		return reason
	}
	t, code, err := c.topicOf(&p, &props)
	if err != nil {
		return c.refused(code, err)
	}
	if refused, reason := c.notTaken(&p, &props, t); refused {
		return reason
	}
	seq, full, reason := c.expectDone(&p, len(t.name)+len(p.Payload)+len(props.Forward)+overhead)
	if seq == 0 {
		return reason
	}
	out := Publish{Message: c.messageOf(&p, &props, t, owned), Client: c, Done: func(err error) { c.routed(seq, err) },
		awaited: c.prompt >= promptRow}
	if p.QoS == 2 && c.s.durable.Load() {
		out.packetID = p.ID
	}
	c.srv.hooks.Router.Route(out)
	if full {
		return c.awaitRoom()
	}
	return ""
}

// withinMax says why a PUBLISH is more than the server takes of anybody.
func (c *Client) withinMax(p *packet.Publish) (code byte, err error) {
	conf := &c.srv.conf
	switch {
	case int(p.QoS) > conf.MaxQoS:
		return codeQoS, over("MaxQoS", conf.MaxQoS, "QoS %d", p.QoS)
	case len(p.Payload) > conf.MaxPayload && (c.version == packet.V311 || conf.StrictPayload):
		return codeTooLarge, over("MaxPayload", conf.MaxPayload, "a payload of %d bytes", len(p.Payload))
	}
	return 0, nil
}

// notTaken refuses a PUBLISH to what the client may not publish to, and one whose
// message cannot be retained where the client can be told that.
func (c *Client) notTaken(p *packet.Publish, props *packet.Properties, t *published) (refused bool, reason string) {
	// lastPacket is when this packet was waited for, or a little before it came;
	// a verdict may so live a little longer, never more than the packets of
	// one read.
	if !t.mayPublish(c.session, p.Retain, c.lastPacket, c.srv.conf.PermissionCache) && !c.repeated(p) {
		c.notAllowed(t, p.Retain)
		if c.version == packet.V5 && p.QoS > 0 {
			return true, c.refusePublish(p, codeNotAuthorized)
		}
		return true, ReasonAuth
	}
	if room := c.srv.hooks.Room; room != nil {
		if err := room(); err != nil && !c.repeated(p) {
			if refused, reason := c.noRoom(p, t.name); refused {
				return true, reason
			}
		}
	}
	if p.Retain && p.QoS > 0 && c.version == packet.V5 && !c.repeated(p) &&
		!c.srv.roomToRetain(&message.Message{Topic: t.name, Payload: p.Payload, Retain: true, Properties: props.Forward,
			Owner: c.owner}) {
		c.denied(errRetained(c.owner))
		return true, c.refusePublish(p, codeQuota)
	}
	return false, ""
}

// noRoom refuses a PUBLISH for which there is no room. What concerns the client and
// the bridge alone is not stored, and is taken. Of a batch the next one may not be
// taken before it, since its sequence stands for it then: so the connection ends.
func (c *Client) noRoom(p *packet.Publish, name string) (refused bool, reason string) {
	of, _ := topic.Lookup(name)
	if of.Private {
		return false, ""
	}
	c.srv.count.noRoom.Add(1)
	switch {
	case p.QoS == 0:
		return true, ""
	case c.version == packet.V5 && of.Service != topic.Batches:
		return true, c.refusePublish(p, codeQuota)
	}
	c.code = codeQuota
	return true, ReasonServer
}

// promptly is how soon after its last acknowledgement a client publishes that had to
// wait for it, promptRow times in a row, since others do so by chance. It is about as
// long as a message waits for others (ingest.gather): who is slower than that is not
// held up much.
const (
	promptly  = 2 * time.Millisecond
	promptRow = 3
)

// expectDone puts a PUBLISH of so many bytes among those that are to be
// acknowledged in turn. seq is its number there, and full says that no more is to
// be read before some are done. seq 0: it is not to be routed, since it was sent
// before or is one too many; reason is why the connection ends then, or "".
func (c *Client) expectDone(p *packet.Publish, size int) (seq uint64, full bool, reason string) {
	a := ack{id: p.ID, size: size}
	switch p.QoS {
	case 1:
		a.kind = packet.PUBACK
	case 2:
		a.kind = packet.PUBREC
	}
	s := c.s
	s.mu.Lock()
	if p.QoS == 2 {
		if known, wait := c.echoed(p.ID, a); known {
			s.mu.Unlock()
			if wait {
				return 0, false, c.awaitRoom()
			}
			return 0, false, ""
		}
		if err := c.begin(p.ID); err != nil {
			s.mu.Unlock()
			return 0, false, c.refused(codeReceiveMaximum, err)
		}
	}
	alone := p.QoS > 0 && c.acks.len() == 0
	seq = c.acks.push(a)
	if alone && c.arrived.Sub(c.ackedAt) < promptly {
		c.prompt = min(c.prompt+1, promptRow)
	} else {
		c.prompt = 0
	}
	c.routing = seq
	full = c.acksFull()
	s.mu.Unlock()
	return seq, full, ""
}

// messageOf is what was published. Unless the packet's memory is owned, payload and
// properties are copied out of it.
func (c *Client) messageOf(p *packet.Publish, props *packet.Properties, t *published, owned bool) *message.Message {
	m := &message.Message{Topic: t.name, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Properties: props.Forward}
	c.sign(m, c.arrived)
	if props.Has(packet.MessageExpiry) {
		m.Expires = c.arrived.Add(time.Duration(props.Number(packet.MessageExpiry, 0)) * time.Second)
	}
	if !owned {
		n := len(m.Payload)
		b := append(append(make([]byte, 0, n+len(m.Properties)), m.Payload...), m.Properties...)
		m.Payload = b[:n:n]
		if len(m.Properties) > 0 {
			m.Properties = b[n:]
		}
	}
	return m
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
	now := c.arrived
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
	c.arrived = c.lastPacket
	return ""
}

// Charge is for the Router, within Route: it counts messages and bytes that were
// in a publish, beside the packet itself, against the client's rate.
func (c *Client) Charge(messages, bytes int) {
	now := time.Now()
	c.publishes.Take(now, messages, c.srv.conf.PublishRate)
	c.published.Take(now, bytes, c.srv.conf.PublishBytes)
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
