package gateway

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// Whatever a client sends, before or after its CONNECT, its connection ends when
// its bytes do, nothing panics, and nothing stays behind that the client did not ask
// to be kept.
func FuzzConnection(f *testing.F) {
	connect := (&packet.Connect{Version: packet.V311, Clean: true, ClientID: "f"}).Append(nil, packet.V311)
	var talk []byte
	for _, p := range []packet.Packet{
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "a/#", Options: 2}, {Filter: "+", Options: 1}}},
		pub("a/b", "x", 0, 0), pub("a", "y", 1, 1), pub("a/c", "z", 2, 2), ackOf(packet.PUBREL, 2),
		ackOf(packet.PUBACK, 1),
		ackOf(packet.PUBREC, 2), ackOf(packet.PUBCOMP, 2),
		&packet.Publish{Topic: []byte("a"), Retain: true, Payload: []byte("r")},
		&packet.Unsubscribe{ID: 2, Filters: []string{"+"}}, &packet.Ping{Kind: packet.PINGREQ},
		&packet.Disconnect{Kind: packet.DISCONNECT},
	} {
		talk = p.Append(talk, packet.V311)
	}
	f.Add(talk, true)
	five := (&packet.Connect{Version: packet.V5, ClientID: "f",
		Properties: join(number(packet.SessionExpiry, 60), number(packet.TopicAliasMaximum, 2),
			number(packet.ReceiveMaximum, 3), number(packet.MaximumPacketSize, 200)), HasWill: true, WillTopic: "a/w",
		WillProperties: number(packet.WillDelay, 1)}).Append(nil, packet.V5)
	for _, p := range []packet.Packet{
		&packet.Subscribe{ID: 1, Properties: number(packet.SubscriptionID, 7),
			Filters: []packet.Filter{{Filter: "a/#", Options: 2 | 8}, {Filter: "$share/g/+", Options: 1}}},
		&packet.Publish{Topic: []byte("a/b"), Properties: join(number(packet.TopicAlias, 1),
			number(packet.MessageExpiry, 1), packet.AppendUser(nil, "k", "v"))},
		&packet.Publish{QoS: 2, ID: 3, Properties: number(packet.TopicAlias, 1)},
		&packet.Ack{Kind: packet.PUBREL, ID: 3, Reason: 0x92},
		&packet.Ack{Kind: packet.PUBREC, ID: 1, Reason: 0x97, Properties: text(packet.ReasonString, "x")},
		&packet.Unsubscribe{ID: 2, Filters: []string{"a/#", "$share/g/+"}},
		&packet.Disconnect{Kind: packet.DISCONNECT, Reason: 4, Properties: number(packet.SessionExpiry, 1)},
	} {
		five = p.Append(five, packet.V5)
	}
	f.Add(five, false)
	f.Add(append(connect, talk...), false)
	f.Add([]byte("\x82\x05\x00\x01\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, in []byte, greet bool) {
		s := newServer(Config{Log: quiet(), DrainTimeout: time.Millisecond}, &policy{}, nil)
		a, b := net.Pipe()
		c := s.open(b, Via{})
		go c.serve(context.Background())
		var out int
		read := make(chan struct{})
		go func() {
			n, _ := io.Copy(io.Discard, a)
			out = int(n)
			close(read)
		}()
		if greet {
			a.Write(connect)
		}
		a.Write(in)
		a.Close()
		<-read
		<-c.done
		st := s.Stats()
		if st.Panics != 0 || st.Connections != 0 || st.UnackedBytes != 0 {
			t.Fatalf("%+v", st)
		}
		if st.Sessions == 0 && (st.Subscriptions != 0 || len(s.groups) != 0 || len(s.due) != 0) {
			t.Fatalf("subscriptions without a session: %+v", st)
		}
		if uint64(out) > st.BytesOut+8 { // a refusal is not counted
			t.Fatalf("%d bytes came, %d were counted", out, st.BytesOut)
		}
	})
}
