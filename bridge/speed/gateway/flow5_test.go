package gateway

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// A client that comes back and takes fewer messages at a time is not sent more
// of those that it did not acknowledge either [MQTT-3.3.4-9].
func TestReceiveMaximumOfResumed(t *testing.T) {
	f := start(t, Config{}, nil)
	connect := func(most uint32) *wire {
		w, _ := f.connect5(t, &packet.Connect{ClientID: "s",
			Properties: join(number(packet.SessionExpiry, 60), number(packet.ReceiveMaximum, most))})
		return w
	}
	dup := func(payload string, id uint16) *packet.Publish {
		m := pub("a", payload, 1, id)
		m.Dup = true
		return m
	}
	s := connect(6)
	s.subscribe5("#", 2)
	p := f.connect(t, "p")
	for i := range 8 {
		p.send(pub("a", fmt.Sprint(i), 1, uint16(i+1)))
	}
	p.ping5(t)
	for i := range 6 {
		s.want(pub("a", fmt.Sprint(i), 1, uint16(i+1)))
	}
	f.leaves(t, s, "s")
	s = connect(2)
	s.want(dup("0", 1))
	s.want(dup("1", 2))
	s.ping()
	p.send(pub("a", "8", 1, 9))
	p.ping5(t)
	s.ping()                        // the new one waits behind
	s.send(ackOf(packet.PUBACK, 4)) // of the one before, which was not sent again
	s.ping()                        // and makes no room
	s.send(ackOf(packet.PUBACK, 1))
	s.want(dup("2", 3))
	s.send(ackOf(packet.PUBACK, 2), ackOf(packet.PUBACK, 3))
	s.want(dup("4", 5))
	s.want(dup("5", 6))
	s.send(ackOf(packet.PUBACK, 5), ackOf(packet.PUBACK, 6))
	for i := 6; i < 8; i++ {
		got, err := s.next()
		m, ok := got.(*packet.Publish)
		if err != nil || !ok || string(m.Payload) != fmt.Sprint(i) || m.Dup {
			t.Fatalf("%+v %v", got, err)
		}
		s.send(ackOf(packet.PUBACK, m.ID))
	}
	if got, err := s.next(); err != nil || string(got.(*packet.Publish).Payload) != "8" {
		t.Fatal(got, err)
	}
	s.ping()
}

// PUBRELs are not held back by messages that are.
func TestReleasesOfResumed(t *testing.T) {
	f := start(t, Config{}, nil)
	s, _ := f.connect5(t, &packet.Connect{ClientID: "s", Properties: number(packet.SessionExpiry, 60)})
	s.subscribe5("#", 2)
	p := f.connect(t, "p")
	for i := range 3 {
		p.send(pub("a", fmt.Sprint(i), 2, uint16(i+1)))
	}
	p.ping5(t)
	for i := range 3 {
		s.want(pub("a", fmt.Sprint(i), 2, uint16(i+1)))
	}
	s.send(ackOf(packet.PUBREC, 3))
	s.want(ackOf(packet.PUBREL, 3))
	f.leaves(t, s, "s")
	s, _ = f.connect5(t, &packet.Connect{ClientID: "s",
		Properties: join(number(packet.SessionExpiry, 60), number(packet.ReceiveMaximum, 1))})
	s.want(ackOf(packet.PUBREL, 3))
	s.ping()
	s.send(ackOf(packet.PUBCOMP, 3))
	first := pub("a", "0", 2, 1)
	first.Dup = true
	s.want(first)
	s.send(ackOf(packet.PUBREC, 2)) // of what waits to be sent again
	s.want(ackOf(packet.PUBREL, 2))
	s.send(ackOf(packet.PUBREC, 1), ackOf(packet.PUBCOMP, 2), ackOf(packet.PUBCOMP, 1))
	s.want(ackOf(packet.PUBREL, 1))
	s.ping()
	if n := f.queued.Load(); n != 0 {
		t.Errorf("%d bytes are queued", n)
	}
}

// More QoS 2 messages than CONNACK allowed, without a PUBREL.
func TestReceiveMaximumOfServer(t *testing.T) {
	f := start(t, Config{InFlight: 3}, nil)
	three, five := f.connect(t, "three"), f.clean5(t, "five")
	for i := range uint16(3) {
		five.send(pub("a", "", 2, i+1))
		five.want(ackOf(packet.PUBREC, i+1))
	}
	five.send(ackOf(packet.PUBREL, 1))
	five.want(ackOf(packet.PUBCOMP, 1))
	five.send(pub("a", "", 2, 4))
	five.want(ackOf(packet.PUBREC, 4))
	five.send(pub("a", "", 2, 4)) // again
	five.want(ackOf(packet.PUBREC, 4))
	five.send(pub("a", "", 2, 5))
	five.want(disconnect(0x93))
	five.wantEnd()
	for i := range uint16(9) { // 3.1.1 was not told of any limit
		three.send(pub("a", "", 2, i+1))
		three.want(ackOf(packet.PUBREC, i+1))
	}
}

// A copy of a QoS 2 message that was accepted is acknowledged even if policy has
// changed since, so that the packet id is free afterwards.
func TestCopyAfterPolicy(t *testing.T) {
	f := start(t, Config{PermissionCache: -1}, nil)
	watch := f.connect(t, "watch")
	watch.subscribe("#", 0)
	w := f.clean5(t, "w")
	w.send(pub("a", "1", 2, 1))
	w.want(ackOf(packet.PUBREC, 1))
	f.policy.mu.Lock()
	f.policy.deny["publish a"] = true
	f.policy.mu.Unlock()
	again := pub("a", "1", 2, 1)
	again.Dup = true
	w.send(again)
	w.want(ackOf(packet.PUBREC, 1))
	w.send(ackOf(packet.PUBREL, 1))
	w.want(ackOf(packet.PUBCOMP, 1))
	w.send(pub("a", "2", 2, 1))
	w.want(&packet.Ack{Kind: packet.PUBREC, ID: 1, Reason: 0x87})
	w.send(pub("b", "3", 2, 1))
	w.want(ackOf(packet.PUBREC, 1))
	watch.want(pub("a", "1", 0, 0))
	watch.want(pub("b", "3", 0, 0))
}

// A client gets no packet that is larger than it takes [MQTT-3.1.2-24], of
// whatever type.
func TestMaximumPacketSizeOfAnswers(t *testing.T) {
	f := start(t, Config{}, nil)
	w := f.five(t)
	w.send(&packet.Connect{Version: packet.V5, Clean: true, ClientID: "small",
		Properties: number(packet.MaximumPacketSize, 10)})
	w.wantEnd() // not even CONNACK fits
	w = f.clean5(t, "less", number(packet.MaximumPacketSize, 30))
	p := &packet.Subscribe{ID: 1, Filters: make([]packet.Filter, 26)}
	for i := range p.Filters {
		p.Filters[i].Filter = fmt.Sprint(i)
	}
	p.Filters = p.Filters[:25]
	w.send(p)
	w.want(&packet.Suback{ID: 1, Codes: make([]byte, 25)})
	p.Filters = p.Filters[:26]
	w.send(p)
	w.want(disconnect(0x95))
	w.wantEnd()
}

// CONNECTs that are not well formed are answered in version 5.
func TestMalformedConnect5(t *testing.T) {
	f := start(t, Config{}, nil)
	for name, c := range map[string]struct {
		in   string
		code byte
	}{
		"reserved flag":       {"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01a", 0x81}, // [MQTT-3.1.2-3]
		"properties cut":      {"\x10\x0c\x00\x04MQTT\x05\x02\x00\x00\x05\x00", 0x81},
		"client id not UTF-8": {"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01\xff", 0x81}, // [MQTT-3.1.3-4]
		"will QoS 3":          {"\x10\x13\x00\x04MQTT\x05\x1e\x00\x00\x00\x00\x01a\x00\x00\x01w\x00\x00", 0x81},
	} {
		w := f.five(t)
		w.bytes([]byte(c.in))
		got, err := w.next()
		if ack, ok := got.(*packet.Connack); err != nil || !ok || ack.Code != c.code {
			t.Errorf("%s: %+v %v", name, got, err)
		}
		w.wantEnd()
	}
	// Of another version, or another protocol: as 3.1.1 [MQTT-3.1.2-2].
	for _, in := range []string{"\x10\x0d\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00",
		"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00"} {
		w := f.dial(t)
		w.bytes([]byte(in))
		w.want(&packet.Connack{Code: packet.BadVersion})
		w.wantEnd()
	}
	w := f.clean5(t, "x")
	w.send(pub("", "no topic and no alias", 0, 0))
	w.want(disconnect(0x82))
}

// Properties count for what may be in flight.
func TestPropertiesCount(t *testing.T) {
	h := new(held)
	f := start(t, Config{InFlightBytes: 1000}, h)
	w := f.clean5(t, "x")
	m := pub("a", "", 1, 1)
	m.Properties = packet.AppendUser(nil, "k", strings.Repeat("x", 1000))
	w.send(m, pub("a", "", 1, 2))
	await.True(t, "the first", func() bool { return h.len() == 1 && f.Stats().Held > 0 })
	if st := f.Stats(); st.UnackedBytes < 1000 {
		t.Errorf("%+v", st)
	}
	h.finish(0, nil)
	w.want(ackOf(packet.PUBACK, 1))
	await.True(t, "the second", func() bool { return h.len() == 2 })
	h.finish(1, nil)
	w.want(ackOf(packet.PUBACK, 2))
}

// A client that is thrown out is told why, and gets none of the messages that
// had not been written yet.
func TestThrownOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{}, nil)
		w := f.clean5(t, "x")
		w.subscribe5("#", 1)
		for i := range 5 {
			f.Deliver(&message.Message{Topic: "a", Payload: fmt.Append(nil, i), QoS: 1}, nil)
			synctest.Wait() // the first is being written, and not read
		}
		if n := f.Disconnect(func(*Client) bool { return true }, ReasonForbidden); n != 1 {
			t.Errorf("%d were connected", n)
		}
		synctest.Wait()
		w.want(pub("a", "0", 1, 1))
		w.want(disconnect(0x87))
		w.wantEnd()
		f.stop()
	})
}

// A client of version 5 that is thrown out while it sends can go on for a
// moment, and so comes to read why.
func TestThrownOutWhileSending(t *testing.T) {
	f := start(t, Config{}, nil)
	w, _ := f.connect5(t, &packet.Connect{Clean: true, ClientID: "c"})
	w.send(&packet.Suback{ID: 1, Codes: []byte{0}}) // only servers send it
	await.True(t, "it is thrown out", func() bool { return f.Stats().PacketsOut[packet.DISCONNECT] == 1 })
	for range 3 {
		if _, err := w.nc.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // a reset takes its time
	}
	got, err := w.next()
	if d, ok := got.(*packet.Disconnect); err != nil || !ok || d.Reason != codeProtocol {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := w.next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
