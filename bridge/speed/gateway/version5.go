package gateway

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// version5 is what a client and the server agreed on in CONNECT and CONNACK.
// Of a client of version 3.1.1 expiry alone is set.
type version5 struct {
	expiry     time.Duration // of the session after the connection; 0: it ends with it
	asked      time.Duration // expiry as the client asked
	sendMax    int           // QoS 1 and 2 messages that the client takes at a time; 0: any number
	maxPacket  int           // that the client takes; 0: any
	aliasMax   int           // topic aliases that the client takes
	willDelay  time.Duration
	willExpiry time.Duration // from the will's publishing; 0: none
	assigned   bool          // the client id
	keepAlive  bool          // is not what the client asked
}

// seconds is what version 5 says as a number of them; the highest stands for
// never.
func seconds(n uint32) time.Duration {
	if n == math.MaxUint32 {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Second
}

// expiry is how long a session is kept whose client asks for n seconds.
func (s *Subscribers) expiry(n uint32) time.Duration { return min(seconds(n), s.conf.MaxSessionExpiry) }

// negotiate takes over what the properties of CONNECT say.
func (c *Client) negotiate(p *packet.Connect) error {
	conf := &c.srv.conf
	if c.version == packet.V311 {
		if !p.Clean {
			c.v5.expiry = conf.SessionExpiry
		}
		return nil
	}
	props, err := c.properties(packet.CONNECT, p.Properties)
	switch {
	case err != nil:
		return refuse(codeOf(err), err)
	case props.Has(packet.AuthMethod): // 4.12: none is known here
		return refuse(codeAuthMethod, fmt.Errorf("authentication method %.40q", props.AuthMethod))
	case props.Has(packet.AuthData): // [MQTT-3.1.2-...]: data without a method
		return refuse(codeProtocol, fmt.Errorf("%w: authentication data without a method", packet.ErrProtocol))
	}
	c.v5 = version5{
		expiry:    c.srv.expiry(props.Number(packet.SessionExpiry, 0)),
		asked:     seconds(props.Number(packet.SessionExpiry, 0)),
		sendMax:   int(props.Number(packet.ReceiveMaximum, math.MaxUint16)),
		maxPacket: int(props.Number(packet.MaximumPacketSize, 0)),
		aliasMax:  min(int(props.Number(packet.TopicAliasMaximum, 0)), conf.TopicAliases),
	}
	return nil
}

// willProperties reads those of the will into w.
func (c *Client) willProperties(w *message.Message, b []byte) error {
	p, err := c.properties(packet.Will, b)
	if err != nil {
		return refuse(codeOf(err), err)
	}
	if p.Has(packet.ResponseTopic) && topic.ValidName(string(p.ResponseTopic)) != nil {
		return refuse(codeProtocol, fmt.Errorf("%w: the will's response topic %.64q", packet.ErrProtocol,
			p.ResponseTopic))
	}
	w.Properties = bytes.Clone(p.Forward)
	c.v5.willDelay = seconds(p.Number(packet.WillDelay, 0))
	c.v5.willExpiry = time.Duration(p.Number(packet.MessageExpiry, 0)) * time.Second
	return nil
}

// connack is the answer to a client that is let in.
func (c *Client) connack(present bool) *packet.Connack {
	ack := &packet.Connack{SessionPresent: present, Code: packet.Accepted}
	if c.version == packet.V311 {
		return ack
	}
	conf := &c.srv.conf
	var b []byte
	if c.v5.expiry != c.v5.asked {
		b = packet.AppendNumber(b, packet.SessionExpiry, uint32(c.v5.expiry/time.Second))
	}
	if conf.InFlight < math.MaxUint16 {
		b = packet.AppendNumber(b, packet.ReceiveMaximum, uint32(conf.InFlight))
	}
	if conf.MaxQoS < 2 {
		b = packet.AppendNumber(b, packet.MaximumQoS, uint32(conf.MaxQoS))
	}
	b = packet.AppendNumber(b, packet.MaximumPacketSize, uint32(conf.MaxPayload+packetRoom))
	if c.v5.assigned {
		b = packet.AppendText(b, packet.AssignedClientID, c.id)
	}
	if conf.TopicAliases > 0 {
		b = packet.AppendNumber(b, packet.TopicAliasMaximum, uint32(conf.TopicAliases))
	}
	if conf.NoSubscriptionIDs {
		b = packet.AppendNumber(b, packet.SubscriptionIDsAvail, 0)
	}
	if c.v5.keepAlive {
		b = packet.AppendNumber(b, packet.ServerKeepAlive, uint32(c.keepAlive/time.Second))
	}
	ack.Properties = b
	return ack
}

// goodbye is the code of the DISCONNECT that a connection ends with, 0 for none.
func (c *Client) goodbye(reason string) byte {
	switch {
	case c.version == packet.V311:
		return 0
	case (reason == ReasonProtocol || reason == ReasonServer) && c.code != 0:
		return c.code
	case reason == ReasonShutdown && c.srv.movedTo() != "":
		return codeMoved
	}
	return goodbyes[reason]
}

// reference is the property by which code tells where the bridge is now.
func (c *Client) reference(code byte) []byte {
	if code != codeMoved || c.srv.movedTo() == "" {
		return nil
	}
	return packet.AppendText(nil, packet.ServerReference, c.srv.movedTo())
}

// publishProperties appends those that a PUBLISH of o has for this client.
func (c *Client) publishProperties(b []byte, o *outbound, now time.Time) []byte {
	b = append(b, o.m.Properties...)
	if !o.m.Expires.IsZero() { // [MQTT-3.3.2-6]: less the time that it waited
		left := max(1, (o.m.Expires.Sub(now)+time.Second-1)/time.Second)
		b = packet.AppendNumber(b, packet.MessageExpiry, uint32(min(left, math.MaxUint32)))
	}
	for _, id := range o.ids {
		b = packet.AppendNumber(b, packet.SubscriptionID, id)
	}
	return b
}

// fits says whether o is no larger than what the client takes [MQTT-3.1.2-24], in
// one of the forms that it may be sent in now.
func (c *Client) fits(o *outbound) bool {
	most := c.v5.maxPacket
	if most == 0 || c.size(o, 0, false) <= most {
		return true
	}
	alias, known := c.outAliases[o.m.Topic]
	return known && c.size(o, alias, true) <= most
}

// size is that of the PUBLISH of o: with a topic alias unless that is 0, and then
// without the topic if the alias is known to the client.
func (c *Client) size(o *outbound, alias uint16, known bool) int {
	var few [128]byte
	p := packet.Publish{QoS: o.qos, Payload: o.m.Payload, Properties: few[:0]}
	if alias > 0 {
		p.Properties = packet.AppendNumber(p.Properties, packet.TopicAlias, uint32(alias))
	}
	p.Properties = c.publishProperties(p.Properties, o, time.Now())
	n := 0
	if !known {
		n = len(o.m.Topic)
	}
	return p.SizeWith(n, packet.V5)
}
