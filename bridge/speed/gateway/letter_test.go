package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// The standard to the letter, where it was not.

// A PUBLISH of exactly the size that a client takes is sent, and none that is
// larger by a byte [MQTT-3.1.2-24].
func TestExactPacketSize(t *testing.T) {
	for _, size := range []uint32{30, 127, 128, 129, 130, 131, 132, 200, 16383 + 4, 16384 + 4} {
		for _, qos := range []byte{0, 1, 2} {
			t.Run(fmt.Sprintf("%d bytes, QoS %d", size, qos), func(t *testing.T) {
				f := start(t, Config{}, nil)
				s := f.clean5(t, "s", number(packet.MaximumPacketSize, size))
				s.subscribe5("a", qos)
				p := f.clean5(t, "p")
				fits := func(n int) *packet.Publish { // the largest of n bytes or less, and whether it has n
					for l := n; ; l-- {
						if m := pub("a", strings.Repeat("x", max(l, 0)), qos,
							uint16(min(qos, 1))); len(m.Append(nil, packet.V5)) <= n {
							return m
						}
					}
				}
				m := fits(int(size))
				if left := int(size) - len(m.Append(nil, packet.V5)); left > 1 { // at a step of the length's own length
					t.Fatalf("%d bytes short", left)
				}
				over := pub("a", string(m.Payload)+"x", qos, 2*uint16(min(qos, 1)))
				p.send(over, &packet.Ping{Kind: packet.PINGREQ})
				p.until(packet.PINGRESP)
				p.send(m)
				s.want(m)
				if n := f.Stats().DroppedTooLarge; n != 1 {
					t.Errorf("%d messages were too large, want 1", n)
				}
			})
		}
	}
}

// A topic alias is used where the packet still fits with it, and makes one fit
// that would not without.
func TestExactPacketSizeOfAliases(t *testing.T) {
	f := start(t, Config{}, nil)
	const name = "topic/of/a/length"
	s := f.clean5(t, "s", number(packet.MaximumPacketSize, 60), number(packet.TopicAliasMaximum, 4))
	s.subscribe5(name, 0)
	p := f.clean5(t, "p")
	fill := func(n int) string { return strings.Repeat("x", n) }
	full := pub(name, fill(60-5-len(name)), 0, 0)
	p.send(full)
	s.want(full) // no room for the three bytes of an alias
	p.send(pub(name, "y", 0, 0))
	first := pub(name, "y", 0, 0)
	first.Properties = number(packet.TopicAlias, 1)
	s.want(first)
	longer := pub("", fill(60-5-3), 0, 0)
	longer.Properties = number(packet.TopicAlias, 1)
	p.send(pub(name, fill(60-5-3), 0, 0), pub(name, fill(60-5-2), 0, 0))
	s.want(longer)
	p.send(pub(name, "z", 0, 0))
	last := pub("", "z", 0, 0)
	last.Properties = number(packet.TopicAlias, 1)
	s.want(last)
	if n := f.Stats().DroppedTooLarge; n != 1 {
		t.Errorf("%d messages were too large, want 1", n)
	}
}

// What waits is judged by the connection that it is sent on, not by the one
// before.
func TestPacketSizeOfTheNextConnection(t *testing.T) {
	f := start(t, Config{}, nil)
	s, _ := f.connect5(t, &packet.Connect{ClientID: "s", Properties: number(packet.SessionExpiry, 60)})
	s.subscribe5("a", 1)
	f.leaves(t, s, "s")
	p := f.clean5(t, "p")
	p.send(pub("a", strings.Repeat("x", 50), 1, 1), pub("a", "y", 1, 2))
	p.ping5(t)
	s, _ = f.connect5(t, &packet.Connect{ClientID: "s",
		Properties: join(number(packet.SessionExpiry, 60), number(packet.MaximumPacketSize, 20))})
	s.want(pub("a", "y", 1, 1))
}

// The Maximum Packet Size that the server tells is what it takes, to the byte.
func TestAnnouncedPacketSize(t *testing.T) {
	f := start(t, Config{MaxPayload: 100}, nil)
	w, ack := f.connect5(t, &packet.Connect{Clean: true, ClientID: "x"})
	most := int(parsed(t, packet.CONNACK, ack.Properties).Number(packet.MaximumPacketSize, 0))
	m := pub("a", "", 1, 1)
	m.Payload = make([]byte, most-m.SizeWith(1, packet.V5)-2) // the length takes two bytes more
	if n := len(m.Append(nil, packet.V5)); n != most {
		t.Fatalf("%d bytes, want %d", n, most)
	}
	w.send(m)
	w.want(ackOf(packet.PUBACK, 1))
	m.Payload = append(m.Payload, 'x')
	w.send(m)
	w.want(disconnect(0x95))
	w.wantEnd()
}

// A CONNECT over the limit is answered, and what is none is not.
func TestConnectTooLarge(t *testing.T) {
	f := start(t, Config{MaxConnect: 1000}, nil)
	for name, c := range map[string]struct {
		v    packet.Version
		want *packet.Connack
	}{
		"version 5":     {packet.V5, &packet.Connack{Code: 0x95}},
		"version 3.1.1": {packet.V311, &packet.Connack{Code: packet.Unavailable}},
		"version 3.1":   {3, &packet.Connack{Code: packet.BadVersion}},
	} {
		w := f.dial(t)
		if w.v = c.v; c.v == 3 {
			w.v = packet.V311
		}
		b := (&packet.Connect{Version: c.v, Clean: true, ClientID: "x", HasUsername: true,
			Username: strings.Repeat("u", 60000), HasPassword: true, Password: make([]byte, 60000)}).Append(nil, c.v)
		if c.v == packet.V5 { // byte by byte, and never all
			for _, x := range b[:20] {
				w.bytes([]byte{x})
			}
		} else {
			w.bytes(b)
		}
		got, err := w.next()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a, b := got.Append(nil, w.v), c.want.Append(nil, w.v); string(a) != string(b) {
			t.Errorf("%s: %x, want %x", name, a, b)
		}
		w.wantEnd()
	}
	for name, b := range map[string][]byte{
		"PUBLISH":     packet.AppendHeader(nil, 0x30, 5000),
		"flags":       packet.AppendHeader(nil, 0x11, 5000),
		"other":       append(packet.AppendHeader(nil, 0x10, 5000), "\x00\x06MQIsdp\x03"...),
		"no protocol": packet.AppendHeader(nil, 0x10, 5000),
	} {
		w := f.dial(t)
		w.bytes(append(b, make([]byte, 20)...))
		if p, err := w.next(); err == nil {
			t.Errorf("%s is answered with %s", name, p.Type())
		}
	}
}

// A client that is thrown out as soon as it is let in hears nothing before its
// CONNACK [MQTT-3.14.0-1].
func TestNoGoodbyeBeforeConnack(t *testing.T) {
	var f *fixture
	var once sync.Once
	f = start(t, Config{PermissionCache: -1}, nil)
	for i := range 30 {
		id := fmt.Sprint("x", i)
		s, _ := f.connect5(t, &packet.Connect{ClientID: id, Properties: number(packet.SessionExpiry, 60)})
		s.subscribe5("a", 1)
		f.leaves(t, s, id)
		p := f.clean5(t, "p")
		p.send(pub("a", "waits", 1, 1))
		p.ping5(t)
		once = sync.Once{}
		f.policy.mu.Lock()
		f.policy.hook = func(what string) {
			if what == "receive a" { // asked while the session is attached, CONNACK being in the buffer
				once.Do(func() { f.Disconnect(func(c *Client) bool { return c.ID() == id }, ReasonDuplicate) })
			}
		}
		f.policy.mu.Unlock()
		w := f.five(t)
		w.send(&packet.Connect{Version: packet.V5, ClientID: id, Properties: number(packet.SessionExpiry, 60)})
		if got, err := w.next(); err == nil && got.Type() != packet.CONNACK {
			t.Fatalf("%s comes before CONNACK", got.Type())
		}
		f.policy.mu.Lock()
		f.policy.hook = nil
		f.policy.mu.Unlock()
	}
}

// A client id that connects from several places at once: each of them hears
// CONNACK first, or nothing.
func TestStormHearsConnackFirst(t *testing.T) {
	f := start(t, Config{}, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				w := f.five(t)
				w.send(&packet.Connect{Version: packet.V5, Clean: true, ClientID: "one"})
				if got, err := w.next(); err == nil && got.Type() != packet.CONNACK {
					t.Errorf("%s comes before CONNACK", got.Type())
				}
				w.nc.Close()
			}
		})
	}
	wg.Wait()
}

// until reads on to a packet of this type.
func (w *wire) until(kind packet.Type) {
	w.t.Helper()
	for {
		p, err := w.next()
		if err != nil {
			w.t.Fatalf("want %s: %v", kind, err)
		}
		if p.Type() == kind {
			return
		}
	}
}
