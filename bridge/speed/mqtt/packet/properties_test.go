package packet

import (
	"bytes"
	"errors"
	"testing"
)

func TestProperties(t *testing.T) {
	user := AppendUser(nil, "k", "v")
	for _, c := range []struct {
		name    string
		kind    Type
		in      []byte
		err     error
		forward []byte
	}{
		{name: "none", kind: PUBLISH},
		{name: "all forwarded", kind: PUBLISH, in: user, forward: user},
		{name: "alias first", kind: PUBLISH, in: append(AppendNumber(nil, TopicAlias, 3), user...), forward: user},
		{name: "expiry between", kind: PUBLISH,
			in:      append(AppendNumber(append([]byte(nil), user...), MessageExpiry, 3), user...),
			forward: append(append([]byte(nil), user...), user...)},
		{name: "alias alone", kind: PUBLISH, in: AppendNumber(nil, TopicAlias, 3)},
		{name: "two subscription ids", kind: PUBLISH,
			in: AppendNumber(AppendNumber(nil, SubscriptionID, 3), SubscriptionID, 300)},
		{name: "two subscription ids to a server", kind: SUBSCRIBE,
			in: AppendNumber(AppendNumber(nil, SubscriptionID, 3), SubscriptionID, 300), err: ErrProtocol},
		{name: "subscription id 0", kind: SUBSCRIBE, in: AppendNumber(nil, SubscriptionID, 0), err: ErrProtocol},
		{name: "subscription id in too many bytes", kind: SUBSCRIBE, in: []byte{byte(SubscriptionID), 0x81, 0},
			err: ErrMalformed},
		{name: "twice", kind: PUBLISH, in: AppendNumber(AppendNumber(nil, TopicAlias, 3), TopicAlias, 3),
			err: ErrProtocol},
		{name: "wrong packet", kind: PUBLISH, in: AppendNumber(nil, SessionExpiry, 3), err: ErrMalformed},
		{name: "will delay in a PUBLISH", kind: PUBLISH, in: AppendNumber(nil, WillDelay, 3), err: ErrMalformed},
		{name: "will delay", kind: Will, in: AppendNumber(nil, WillDelay, 3)},
		{name: "unknown", kind: PUBLISH, in: []byte{0x7f, 1}, err: ErrMalformed},
		{name: "unassigned", kind: PUBLISH, in: []byte{0x04, 1}, err: ErrMalformed},
		{name: "cut", kind: CONNECT, in: []byte{byte(SessionExpiry), 0, 0}, err: ErrMalformed},
		{name: "receive maximum 0", kind: CONNECT, in: AppendNumber(nil, ReceiveMaximum, 0), err: ErrProtocol},
		{name: "packet size 0", kind: CONNECT, in: AppendNumber(nil, MaximumPacketSize, 0), err: ErrProtocol},
		{name: "flag 2", kind: CONNECT, in: AppendNumber(nil, RequestProblemInfo, 2), err: ErrProtocol},
		{name: "payload format 2", kind: PUBLISH, in: AppendNumber(nil, PayloadFormat, 2), err: ErrProtocol},
		{name: "not UTF-8", kind: PUBLISH, in: AppendText(nil, ContentType, "\xff"), err: ErrMalformed},
		{name: "NUL", kind: PUBLISH, in: AppendUser(nil, "a", "\x00"), err: ErrMalformed},
	} {
		var p Properties
		err := p.Parse(c.kind, c.in)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if err == nil && !bytes.Equal(p.Forward, c.forward) {
			t.Errorf("%s: forwards %x, want %x", c.name, p.Forward, c.forward)
		}
	}
	var p Properties
	in := AppendText(AppendNumber(AppendNumber(nil, SessionExpiry, 77), ReceiveMaximum, 9), AuthMethod, "x")
	if err := p.Parse(CONNECT, in); err != nil {
		t.Fatal(err)
	}
	if p.Number(SessionExpiry, 0) != 77 || p.Number(ReceiveMaximum, 65535) != 9 ||
		p.Number(MaximumPacketSize, 5) != 5 || string(p.AuthMethod) != "x" {
		t.Errorf("%+v", p)
	}
}

func FuzzProperties(f *testing.F) {
	f.Add(byte(PUBLISH), AppendUser(AppendNumber(nil, TopicAlias, 3), "a", "b"))
	f.Add(byte(CONNECT), AppendText(AppendNumber(nil, SessionExpiry, 3), AuthMethod, "x"))
	f.Add(byte(Will), AppendText(AppendNumber(nil, WillDelay, 3), CorrelationData, "\x00"))
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		var p, again Properties
		if err := p.Parse(Type(kind%16), b); err != nil {
			return
		}
		// What is forwarded is valid in a PUBLISH and forwarded as it is.
		if err := again.Parse(PUBLISH, p.Forward); err != nil || !bytes.Equal(again.Forward, p.Forward) {
			t.Fatalf("forward %x: %v, then %x", p.Forward, err, again.Forward)
		}
		n := 0
		Each(p.Forward, func(id Property, _, _ []byte) bool {
			if !forwarded(id) {
				t.Fatalf("0x%02x is forwarded", byte(id))
			}
			n++
			return true
		})
		if (n > 0) != (len(p.Forward) > 0) {
			t.Fatalf("%d properties in %d bytes", n, len(p.Forward))
		}
	})
}

func BenchmarkProperties(b *testing.B) {
	in := AppendUser(AppendText(nil, ContentType, "application/json"), "trace", "0123456789abcdef")
	b.ReportAllocs()
	for b.Loop() {
		var p Properties
		if err := p.Parse(PUBLISH, in); err != nil {
			b.Fatal(err)
		}
	}
}
