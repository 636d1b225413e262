package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// number and text are property lists of one property.
func number(id packet.Property, n uint32) []byte { return packet.AppendNumber(nil, id, n) }
func text(id packet.Property, s string) []byte   { return packet.AppendText(nil, id, s) }
func join(lists ...[]byte) []byte                { return bytes.Join(lists, nil) }
func disconnect(code byte) *packet.Disconnect {
	return &packet.Disconnect{Kind: packet.DISCONNECT, Reason: code}
}
func filter(name string, options byte) packet.Filter {
	return packet.Filter{Filter: name, Options: options}
}

// five dials a connection that speaks version 5.
func (f *fixture) five(t *testing.T) *wire {
	w := f.dial(t)
	w.v = packet.V5
	return w
}

// connect5 connects with version 5; p's Version is set.
func (f *fixture) connect5(t *testing.T, p *packet.Connect) (*wire, *packet.Connack) {
	t.Helper()
	w := f.five(t)
	p.Version = packet.V5
	w.send(p)
	got, err := w.next()
	if err != nil {
		t.Fatal(err)
	}
	ack, ok := got.(*packet.Connack)
	if !ok || ack.Code != 0 {
		t.Fatalf("%s %+v", got.Type(), got)
	}
	return w, ack
}

// clean5 connects with a session that ends with the connection.
func (f *fixture) clean5(t *testing.T, id string, props ...[]byte) *wire {
	t.Helper()
	w, _ := f.connect5(t, &packet.Connect{Clean: true, ClientID: id, Properties: join(props...)})
	return w
}

// subscribe5 subscribes with options.
func (w *wire) subscribe5(name string, options byte, props ...[]byte) {
	w.t.Helper()
	w.send(&packet.Subscribe{ID: 99, Properties: join(props...), Filters: []packet.Filter{filter(name, options)}})
	w.want(&packet.Suback{ID: 99, Codes: []byte{options & 3}})
}

func parsed(t *testing.T, kind packet.Type, b []byte) *packet.Properties {
	t.Helper()
	p := new(packet.Properties)
	if err := p.Parse(kind, b); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConnack5(t *testing.T) {
	f := start(t, AWSConfig(), nil)
	_, ack := f.connect5(t, &packet.Connect{KeepAlive: 5, Properties: number(packet.SessionExpiry, 1<<31)})
	p := parsed(t, packet.CONNACK, ack.Properties)
	// [MQTT-3.2.2-16, -21]
	if string(p.AssignedClientID) == "" || p.Number(packet.MaximumQoS, 2) != 1 ||
		p.Number(packet.ServerKeepAlive, 0) != 30 ||
		p.Number(packet.ReceiveMaximum, 65535) != 100 || p.Number(packet.SubscriptionIDsAvail, 1) != 0 ||
		p.Number(packet.TopicAliasMaximum, 0) != 8 || p.Number(packet.SessionExpiry, 0) != 7*24*3600 ||
		p.Number(packet.MaximumPacketSize, 0) != 128<<10+packetRoom {
		t.Errorf("%x", ack.Properties)
	}
	f = start(t, Config{}, nil)
	_, ack = f.connect5(t, &packet.Connect{Clean: true, ClientID: "x", KeepAlive: 5})
	p = parsed(t, packet.CONNACK, ack.Properties)
	for _, id := range []packet.Property{packet.AssignedClientID, packet.MaximumQoS, packet.ServerKeepAlive,
		packet.SubscriptionIDsAvail, packet.SessionExpiry} {
		if p.Has(id) {
			t.Errorf("0x%02x was not needed", byte(id))
		}
	}
}

func TestConnectRefusals5(t *testing.T) {
	f := start(t, Config{MaxClientID: 8, MaxQoS: 1}, nil)
	f.policy.connect = func(c *Connect) error {
		return map[string]error{"bad": ErrBadCredentials, "no": ErrNotAuthorized, "id": ErrIdentifier,
			"busy": ErrUnavailable}[c.ClientID]
	}
	f.policy.deny["publish w"] = true
	for name, c := range map[string]struct {
		p    packet.Connect
		code byte
	}{
		"user":           {packet.Connect{ClientID: "bad"}, 0x86},
		"policy":         {packet.Connect{ClientID: "no"}, 0x87},
		"identifier":     {packet.Connect{ClientID: "id"}, 0x85},
		"long":           {packet.Connect{ClientID: "123456789"}, 0x85},
		"unavailable":    {packet.Connect{ClientID: "busy"}, 0x88},
		"authentication": {packet.Connect{ClientID: "a", Properties: text(packet.AuthMethod, "SCRAM-SHA-1")}, 0x8c},
		"data alone":     {packet.Connect{ClientID: "a", Properties: text(packet.AuthData, "x")}, 0x82},
		"twice": {packet.Connect{ClientID: "a",
			Properties: join(number(packet.ReceiveMaximum, 1), number(packet.ReceiveMaximum, 1))}, 0x82},
		"not its own":   {packet.Connect{ClientID: "a", Properties: number(packet.TopicAlias, 1)}, 0x81},
		"will's topic":  {packet.Connect{ClientID: "a", HasWill: true, WillTopic: "a/#"}, 0x90},
		"will's QoS":    {packet.Connect{ClientID: "a", HasWill: true, WillTopic: "a", WillQoS: 2}, 0x9b},
		"will's rights": {packet.Connect{ClientID: "a", HasWill: true, WillTopic: "w"}, 0x87},
		"will's answer": {packet.Connect{ClientID: "a", HasWill: true, WillTopic: "a",
			WillProperties: text(packet.ResponseTopic, "+")}, 0x82},
	} {
		w := f.five(t)
		c.p.Version, c.p.Clean = packet.V5, true
		w.send(&c.p)
		got, err := w.next()
		if ack, ok := got.(*packet.Connack); err != nil || !ok || ack.Code != c.code {
			t.Errorf("%s: %+v %v, want 0x%02x", name, got, err, c.code)
		}
		w.wantEnd()
	}
}

// What goes on to receivers, between versions.
func TestForwarding(t *testing.T) {
	f := start(t, Config{}, nil)
	five, three := f.clean5(t, "five"), f.connect(t, "three")
	five.subscribe5("a/#", 1)
	three.subscribe("a/#", 1)
	props := join(number(packet.PayloadFormat, 1), text(packet.ContentType, "c"), text(packet.ResponseTopic, "r"),
		text(packet.CorrelationData, "\x00\x01"), packet.AppendUser(nil, "k", "1"), packet.AppendUser(nil, "k", "2"))
	p := f.clean5(t, "p")
	m := pub("a/5", "x", 1, 7)
	m.Properties = join(number(packet.MessageExpiry, 60), props, number(packet.TopicAlias, 2))
	p.send(m)
	p.want(ackOf(packet.PUBACK, 7))
	got := pub("a/5", "x", 1, 1)
	got.Properties = join(props, number(packet.MessageExpiry, 60)) // [MQTT-3.3.2-4, -15, -16, -17, -20]
	five.want(got)
	three.want(pub("a/5", "x", 1, 1))

	// By its alias alone [MQTT-3.3.2-7].
	m = pub("", "y", 0, 0)
	m.Properties = number(packet.TopicAlias, 2)
	p.send(m)
	five.want(pub("a/5", "y", 0, 0))
	three.want(pub("a/5", "y", 0, 0))

	three.send(pub("a/3", "z", 0, 0))
	five.want(pub("a/3", "z", 0, 0))
	three.want(pub("a/3", "z", 0, 0))
}

func TestTopicAliases(t *testing.T) {
	f := start(t, Config{TopicAliases: 2}, nil)
	s := f.clean5(t, "s", number(packet.TopicAliasMaximum, 1)) // takes one
	s.subscribe5("#", 0)
	p := f.connect(t, "p")
	for _, name := range []string{"a", "a", "b", "a"} {
		p.send(pub(name, "", 0, 0))
	}
	alias := number(packet.TopicAlias, 1)
	s.want(&packet.Publish{Topic: []byte("a"), Properties: alias})
	s.want(&packet.Publish{Properties: alias})
	s.want(&packet.Publish{Topic: []byte("b")}) // [MQTT-3.1.2-26]
	s.want(&packet.Publish{Properties: alias})

	for name, c := range map[string]struct {
		topic string
		alias uint32
		code  byte
	}{"zero": {"a", 0, 0x94}, "beyond": {"a", 3, 0x94}, "unknown": {"", 1, 0x82}, "wildcard": {"+", 1, 0x90}} {
		w := f.clean5(t, "w")
		m := pub(c.topic, "", 0, 0)
		m.Properties = number(packet.TopicAlias, c.alias)
		w.send(m)
		t.Log(name)
		w.want(disconnect(c.code))
		w.wantEnd()
	}
	w := f.clean5(t, "w") // aliases end with the connection [MQTT-3.3.2-7]
	m := pub("k", "", 0, 0)
	m.Properties = number(packet.TopicAlias, 1)
	w.send(m)
	w.ping()
	w = f.clean5(t, "w")
	w.send(&packet.Publish{Properties: number(packet.TopicAlias, 1)})
	w.want(disconnect(0x82))
}

func TestOffences5(t *testing.T) {
	f := start(t, Config{MaxPayload: 100, MaxQoS: 1, NoSubscriptionIDs: true, StrictPayload: true}, nil)
	big := pub("a", strings.Repeat("x", 101), 0, 0)
	withID := pub("a", "", 0, 0)
	withID.Properties = number(packet.SubscriptionID, 1)
	wild := pub("a", "", 0, 0)
	wild.Properties = text(packet.ResponseTopic, "a/+")
	for name, c := range map[string]struct {
		p    packet.Packet
		code byte
	}{
		// [MQTT-3.1.0-2]
		"second CONNECT":  {&packet.Connect{Version: packet.V5, Clean: true, ClientID: "x"}, 0x82},
		"AUTH":            {&packet.Disconnect{Kind: packet.AUTH, Reason: 0x18}, 0x82},
		"CONNACK":         {&packet.Connack{}, 0x82},
		"payload":         {big, 0x95},
		"QoS":             {pub("a", "", 2, 1), 0x9b}, // [MQTT-3.2.2-11]
		"subscription id": {withID, 0x82},
		"response topic":  {wild, 0x82},
		"topic":           {pub("a/#", "", 0, 0), 0x90},
		"no identifiers": {&packet.Subscribe{ID: 1, Properties: number(packet.SubscriptionID, 1),
			Filters: []packet.Filter{filter("a", 0)}}, 0xa1},
		// [MQTT-3.8.3-4]
		"shared and no local": {&packet.Subscribe{ID: 1, Filters: []packet.Filter{filter("$share/g/a", 4)}}, 0x82},
		"property of another": {&packet.Subscribe{ID: 1, Properties: number(packet.TopicAlias, 1),
			Filters: []packet.Filter{filter("a", 0)}}, 0x81},
		// [MQTT-3.8.3-5]
		"reserved option": {&packet.Subscribe{ID: 1, Filters: []packet.Filter{filter("a", 0x40)}}, 0x81},
		"expiry at the end": {&packet.Disconnect{Kind: packet.DISCONNECT,
			Properties: number(packet.SessionExpiry, 1)}, 0x82},
		"packet over the limit": {pub("a", strings.Repeat("x", 100+packetRoom), 0, 0), 0x95},
		"reason of PUBACK":      {&packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: 0x01}, 0x82}, // [MQTT-3.4.2-1]
		"reason of PUBREC":      {&packet.Ack{Kind: packet.PUBREC, ID: 1, Reason: 0x92}, 0x82},
		"reason of PUBREL":      {&packet.Ack{Kind: packet.PUBREL, ID: 1, Reason: 0x10}, 0x82},
		"reason of PUBCOMP":     {&packet.Ack{Kind: packet.PUBCOMP, ID: 1, Reason: 0x80}, 0x82},
		"reason of DISCONNECT":  {&packet.Disconnect{Kind: packet.DISCONNECT, Reason: 0x05}, 0x82},
		"a property of DISCONNECT": {&packet.Disconnect{Kind: packet.DISCONNECT,
			Properties: number(packet.ReceiveMaximum, 1)}, 0x81},
	} {
		w := f.clean5(t, "x")
		w.send(c.p)
		got, err := w.next()
		if d, ok := got.(*packet.Disconnect); err != nil || !ok || d.Reason != c.code {
			t.Errorf("%s: %+v %v, want 0x%02x", name, got, err, c.code)
			continue
		}
		w.wantEnd()
	}
}

// A bridge that is moved tells clients of version 5 where to, those that come and those
// that are there; others are refused.
func TestMove(t *testing.T) {
	for _, to := range []string{"new.example.org:8883", ""} {
		f := start(t, Config{}, nil)
		five, three := f.clean5(t, "five"), f.connect(t, "three")
		f.Move(to)
		came, old := f.five(t), f.dial(t)
		came.send(&packet.Connect{Version: packet.V5, ClientID: "late", Clean: true})
		code, goodbye, reference := byte(0x88), disconnect(0x8b), []byte(nil)
		if to != "" {
			code, goodbye, reference = 0x9d, disconnect(0x9d), text(packet.ServerReference, to)
		}
		goodbye.Properties = reference
		came.want(&packet.Connack{Code: code, Properties: reference})
		came.wantEnd()
		old.send(&packet.Connect{Version: packet.V311, ClientID: "old", Clean: true})
		old.want(&packet.Connack{Code: packet.Unavailable})
		old.wantEnd()
		go f.stop()
		five.want(goodbye)
		five.wantEnd()
		three.wantEnd()
		f.stop()
	}
}

// Ends of the server's making are told.
func TestGoodbyes(t *testing.T) {
	f := start(t, Config{}, nil)
	w := f.clean5(t, "x")
	f.clean5(t, "x")
	w.want(disconnect(0x8e)) // [MQTT-3.1.4-3]
	w.wantEnd()
	w = f.clean5(t, "y")
	f.Disconnect(func(c *Client) bool { return c.ID() == "y" }, ReasonAPI)
	w.want(disconnect(0x98))
	w.wantEnd()
	f.policy.deny["publish no"] = true
	w = f.clean5(t, "z")
	w.send(pub("no", "", 0, 0))
	w.want(disconnect(0x87))
	w.wantEnd()
	w = f.clean5(t, "v")
	go f.stop()
	w.want(disconnect(0x8b))
	w.wantEnd()
	f.stop()

	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{}, nil)
		w := f.five(t)
		w.send(&packet.Connect{Version: packet.V5, Clean: true, ClientID: "k", KeepAlive: 10})
		w.next()
		begin := time.Now()
		w.want(disconnect(0x8d)) // [MQTT-3.1.2-22]
		if took := time.Since(begin); took != 15*time.Second {
			t.Errorf("after %v", took)
		}
		f.stop()
	})
}

func TestRefusedPublish5(t *testing.T) {
	f := start(t, Config{}, nil)
	f.policy.deny["publish no"] = true
	w := f.clean5(t, "x")
	w.send(pub("no", "", 1, 1), pub("no", "", 2, 2), pub("yes", "", 1, 3), pub("yes", "", 2, 4))
	w.want(&packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: 0x87})
	w.want(&packet.Ack{Kind: packet.PUBREC, ID: 2, Reason: 0x87})
	w.want(ackOf(packet.PUBACK, 3))
	w.want(ackOf(packet.PUBREC, 4))
	w.send(ackOf(packet.PUBREL, 4), ackOf(packet.PUBREL, 9))
	w.want(ackOf(packet.PUBCOMP, 4))
	w.want(&packet.Ack{Kind: packet.PUBCOMP, ID: 9, Reason: 0x92})
	if st := f.Stats(); st.RefusedPublish != 2 {
		t.Errorf("%+v", st)
	}
}

func TestReceiveMaximum(t *testing.T) {
	f := start(t, Config{}, nil)
	s := f.clean5(t, "s", number(packet.ReceiveMaximum, 2))
	s.subscribe5("#", 2)
	p := f.connect(t, "p")
	for i := range 4 {
		p.send(pub("a", fmt.Sprint(i), 1, uint16(i+1)))
	}
	s.want(pub("a", "0", 1, 1))
	s.want(pub("a", "1", 1, 2))
	s.ping() // nothing more [MQTT-3.3.4-9]
	s.send(ackOf(packet.PUBACK, 2))
	s.want(pub("a", "2", 1, 2))
	s.ping()

	// A refused QoS 2 message is done with [MQTT-4.3.3].
	s.send(ackOf(packet.PUBACK, 1), ackOf(packet.PUBACK, 2))
	s.want(pub("a", "3", 1, 1))
	s.send(ackOf(packet.PUBACK, 1))
	p.send(pub("b", "", 2, 9))
	got, err := s.next()
	m, ok := got.(*packet.Publish)
	if err != nil || !ok {
		t.Fatal(got, err)
	}
	s.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID, Reason: 0x97}, &packet.Ack{Kind: packet.PUBREC, ID: m.ID})
	s.want(&packet.Ack{Kind: packet.PUBREL, ID: m.ID, Reason: 0x92})
}

func TestMaximumPacketSize(t *testing.T) {
	f := start(t, Config{}, nil)
	s, _ := f.connect5(t, &packet.Connect{ClientID: "s",
		Properties: join(number(packet.MaximumPacketSize, 100), number(packet.SessionExpiry, 60))})
	s.subscribe5("#", 1)
	p := f.clean5(t, "p")
	large := pub("a", "", 1, 1)
	large.Properties = packet.AppendUser(nil, "k", strings.Repeat("x", 90))
	p.send(pub("a", strings.Repeat("x", 96), 1, 1), large, pub("a", "y", 1, 2))
	s.want(pub("a", "y", 1, 1)) // [MQTT-3.1.2-24, -25]
	f.leaves(t, s, "s")
	p.send(pub("a", strings.Repeat("x", 96), 1, 3), pub("a", "z", 1, 4)) // while it is away
	p.ping5(t)
	s, _ = f.connect5(t, &packet.Connect{ClientID: "s",
		Properties: join(number(packet.MaximumPacketSize, 100), number(packet.SessionExpiry, 60))})
	again := pub("a", "y", 1, 1)
	again.Dup = true
	s.want(again)
	s.want(pub("a", "z", 1, 2))
	if st := f.Stats(); st.DroppedTooLarge != 3 || st.QueueBytes == 0 {
		t.Errorf("%+v", st)
	}
}

// leaves disconnects client id and waits until the server has seen to it.
func (f *fixture) leaves(t *testing.T, w *wire, id string) {
	t.Helper()
	w.send(disconnect(0))
	for _, err := w.next(); err == nil; _, err = w.next() { // what was on its way
	}
	await.True(t, id+" is away", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.clients[id] == nil
	})
}

// ping5 reads past acknowledgements until the server has seen all.
func (w *wire) ping5(t *testing.T) {
	t.Helper()
	w.send(&packet.Ping{Kind: packet.PINGREQ})
	for {
		p, err := w.next()
		if err != nil {
			t.Fatal(err)
		}
		if p.Type() == packet.PINGRESP {
			return
		}
	}
}

func TestSubscriptionOptions(t *testing.T) {
	f := start(t, Config{}, nil)
	p := f.connect(t, "p")
	p.send(&packet.Publish{Topic: []byte("r"), Payload: []byte("kept"), Retain: true})
	p.ping()
	kept := &packet.Publish{Topic: []byte("r"), Payload: []byte("kept"), Retain: true}

	w := f.clean5(t, "w")
	w.subscribe5("r", 0x20) // none
	w.ping()
	w.subscribe5("r", 0x10) // known
	w.ping()
	w.subscribe5("r", 0x00)
	w.want(kept)
	w.send(&packet.Unsubscribe{ID: 1, Filters: []string{"r", "nothing"}})
	w.want(&packet.Unsuback{ID: 1, Codes: []byte{0, 0x11}})     // [MQTT-3.11.3]
	w.subscribe5("r", 0x10, number(packet.SubscriptionID, 300)) // new
	k := *kept
	k.Properties = number(packet.SubscriptionID, 300)
	w.want(&k)

	// No local, and retain as published.
	w.subscribe5("n", 4|8|1)
	w.send(&packet.Publish{Topic: []byte("n")})
	p.send(&packet.Publish{Topic: []byte("n"), Retain: true, Payload: []byte("x")})
	w.want(&packet.Publish{Topic: []byte("n"), Retain: true, Payload: []byte("x")})
	w.subscribe5("n", 1|0x20) // replaces the options
	w.send(&packet.Publish{Topic: []byte("n"), Retain: true, Payload: []byte("y")})
	w.want(&packet.Publish{Topic: []byte("n"), Payload: []byte("y")})

	// Overlapping ones: once, with the highest QoS and all identifiers.
	w.subscribe5("o/#", 0, number(packet.SubscriptionID, 1))
	w.subscribe5("o/+", 2, number(packet.SubscriptionID, 2))
	p.send(pub("o/x", "", 1, 5))
	m := pub("o/x", "", 1, 1)
	m.Properties = join(number(packet.SubscriptionID, 2), number(packet.SubscriptionID, 1))
	w.want(m)

	w.send(&packet.Subscribe{ID: 2, Filters: []packet.Filter{filter("a/#/b", 0), filter("$share/g", 0),
		filter("$share/+/x", 0), filter("$SYS/#", 0), filter("ok", 1)}})
	w.want(&packet.Suback{ID: 2, Codes: []byte{0x8f, 0x8f, 0x8f, 0x87, 1}})
}

func TestMessageExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{}, nil)
		resume := &packet.Connect{ClientID: "s", Properties: number(packet.SessionExpiry, 3600)}
		s, _ := f.connect5(t, resume)
		s.subscribe5("#", 1)
		f.leaves(t, s, "s")
		p := f.clean5(t, "p")
		for i, seconds := range []uint32{5, 30} {
			m := pub("a", fmt.Sprint(seconds), 1, uint16(i+1))
			m.Properties = number(packet.MessageExpiry, seconds)
			m.Retain = true
			p.send(m)
			p.want(ackOf(packet.PUBACK, uint16(i+1)))
		}
		time.Sleep(10 * time.Second)
		s, ack := f.connect5(t, resume)
		if !ack.SessionPresent {
			t.Error("no session")
		}
		m := pub("a", "30", 1, 1)
		m.Properties = number(packet.MessageExpiry, 20) // [MQTT-3.3.2-5, -6]
		s.want(m)
		s.send(ackOf(packet.PUBACK, 1))
		m.Retain = true
		s.subscribe5x("a", 1, m)
		time.Sleep(20 * time.Second)
		s.subscribe5("a", 1) // the retained one is of no more use
		s.ping()
		if st := f.Stats(); st.DroppedExpired != 1 || st.QueueBytes == 0 {
			t.Errorf("%+v", st)
		}
		f.stop()
	})
}

// subscribe5x subscribes and wants a retained message.
func (w *wire) subscribe5x(name string, qos byte, m *packet.Publish) {
	w.t.Helper()
	w.subscribe5(name, qos)
	w.want(m)
}

func TestSessionExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{SessionExpiry: time.Hour}, nil)
		connect := func(expiry uint32, present bool) *wire {
			t.Helper()
			w, ack := f.connect5(t, &packet.Connect{ClientID: "s", Properties: number(packet.SessionExpiry, expiry)})
			if ack.SessionPresent != present {
				t.Fatalf("session present: %v", ack.SessionPresent)
			}
			return w
		}
		leave := func(w *wire, props []byte) {
			w.send(&packet.Disconnect{Kind: packet.DISCONNECT, Properties: props})
			w.wantEnd()
		}
		leave(connect(60, false), nil)
		time.Sleep(50 * time.Second)
		leave(connect(60, true), nil) // [MQTT-3.1.2-23]
		time.Sleep(50 * time.Second)
		leave(connect(60, true), number(packet.SessionExpiry, 120))
		time.Sleep(110 * time.Second)
		leave(connect(60, true), nil)
		time.Sleep(62 * time.Second)
		if st := f.Stats(); st.Sessions != 0 || st.ExpiredSessions != 1 {
			t.Errorf("%+v", st)
		}
		leave(connect(60, false), number(packet.SessionExpiry, 0))
		leave(connect(0, false), nil)
		leave(connect(1<<32-1, false), nil)
		time.Sleep(7*24*time.Hour + 2*time.Second)
		leave(connect(0, false), nil)

		w := f.resume(t, "three", false) // of version 3.1.1
		w.send(disconnect(0))
		w.wantEnd()
		time.Sleep(time.Hour - time.Second)
		w = f.resume(t, "three", true)
		w.send(disconnect(0))
		w.wantEnd()
		time.Sleep(time.Hour + 2*time.Second)
		f.resume(t, "three", false)
		f.stop()
	})
}

func TestWills5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{}, nil)
		s := f.clean5(t, "watch")
		s.subscribe5("w", 1)
		will := func(expiry, delay uint32) *packet.Connect {
			return &packet.Connect{ClientID: "x", Properties: number(packet.SessionExpiry, expiry), HasWill: true,
				WillTopic:   "w",
				WillPayload: []byte("gone"), WillProperties: join(number(packet.WillDelay, delay),
					number(packet.MessageExpiry, 9), packet.AppendUser(nil, "k", "v"))}
		}
		gone := pub("w", "gone", 0, 0)
		gone.Properties = join(packet.AppendUser(nil, "k", "v"), number(packet.MessageExpiry, 9))
		after := func(want time.Duration) {
			t.Helper()
			begin := time.Now()
			s.want(gone)
			if took := time.Since(begin); took < want || took > want+time.Second {
				t.Errorf("after %v, want %v", took, want)
			}
		}
		lose := func(w *wire) { w.nc.Close(); synctest.Wait() }

		x, _ := f.connect5(t, will(0, 10)) // the session ends at once
		lose(x)
		after(0)
		x, _ = f.connect5(t, will(60, 10)) // [MQTT-3.1.3-9]
		lose(x)
		after(10 * time.Second)
		x, _ = f.connect5(t, will(5, 10)) // the session's end comes first
		lose(x)
		after(5 * time.Second)
		x, _ = f.connect5(t, will(60, 10))
		lose(x)
		time.Sleep(5 * time.Second)
		x, _ = f.connect5(t, will(60, 10)) // back in time
		time.Sleep(20 * time.Second)
		s.ping()
		x.send(disconnect(0)) // [MQTT-3.14.4-3]
		x.wantEnd()
		time.Sleep(20 * time.Second)
		s.ping()
		x, _ = f.connect5(t, will(60, 10))
		x.send(disconnect(4))
		x.wantEnd()
		after(10 * time.Second)
		x, _ = f.connect5(t, will(60, 10))
		lose(x)
		fresh := will(60, 10)
		fresh.Clean = true // ends the old session
		x, _ = f.connect5(t, fresh)
		after(0)
		lose(x)
		f.stop() // nobody would send it later
		if st := f.Stats(); st.PacketsIn[packet.PUBLISH] != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestSharedSubscriptions(t *testing.T) {
	f := start(t, Config{}, nil)
	a, b, alone := f.clean5(t, "a"), f.connect(t, "b"), f.clean5(t, "alone")
	a.subscribe5("$share/g/t/#", 1, number(packet.SubscriptionID, 5))
	b.subscribe("$share/g/t/#", 1)
	alone.subscribe5("t/+", 0)
	p := f.connect(t, "p")
	p.send(&packet.Publish{Topic: []byte("t/r"), Payload: []byte("0"), Retain: true})
	p.ping()
	for i := range 4 {
		p.send(pub("t/x", fmt.Sprint(i+1), 1, uint16(i+1)))
		p.want(ackOf(packet.PUBACK, uint16(i+1)))
	}
	seen := make(map[string]int)
	for _, w := range []*wire{a, b} {
		w.send(&packet.Ping{Kind: packet.PINGREQ})
		n := 0
		for {
			got, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			m, ok := got.(*packet.Publish)
			if !ok {
				break
			}
			n++
			seen[string(m.Payload)]++
			if w == a && parsed(t, packet.PUBLISH, m.Properties).Number(packet.SubscriptionID, 0) != 5 {
				t.Errorf("%+v", m)
			}
		}
		if n < 2 || n > 3 {
			t.Errorf("%d of 5 messages went to one of two", n)
		}
	}
	if len(seen) != 5 {
		t.Errorf("%v", seen)
	}
	for range 5 {
		if m, err := alone.next(); err != nil || m.Type() != packet.PUBLISH {
			t.Fatal(m, err)
		}
	}
	// No retained messages on a shared subscription [MQTT-3.3.1-... 4.8.2].
	c := f.clean5(t, "c")
	c.subscribe5("$share/g/t/#", 1)
	c.ping()

	// What a and c did not acknowledge goes to b when they end, and all new.
	f.leaves(t, a, "a")
	f.leaves(t, c, "c")
	p.send(pub("t/x", "6", 0, 0))
	p.ping()
	b.send(&packet.Ping{Kind: packet.PINGREQ})
	got := make(map[string]bool)
	for {
		q, err := b.next()
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := q.(*packet.Publish); ok {
			got[string(m.Payload)] = true
		} else {
			break
		}
	}
	if !got["6"] || len(got) < 2 {
		t.Errorf("b got %v", got)
	}
	b.send(&packet.Unsubscribe{ID: 3, Filters: []string{"$share/g/t/#"}})
	b.want(&packet.Unsuback{ID: 3})
	p.send(pub("t/x", "7", 0, 0))
	p.ping()
	b.ping()
	if st := f.Stats(); st.Subscriptions != 1 {
		t.Errorf("%+v", st)
	}

	// A member that is away gets it only if nobody is there.
	d := f.resume(t, "d", false)
	d.subscribe("$share/h/u", 1)
	f.leaves(t, d, "d")
	p.send(pub("u", "kept", 1, 9))
	p.want(ackOf(packet.PUBACK, 9))
	e := f.clean5(t, "e")
	e.subscribe5("$share/h/u", 1)
	p.send(pub("u", "there", 1, 9))
	e.want(pub("u", "there", 1, 1))
	d = f.resume(t, "d", true)
	d.want(pub("u", "kept", 1, 1))
}
