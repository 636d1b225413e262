package gateway

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/packet"
)

// Whatever a client sends, before or after its CONNECT, its connection ends when
// its bytes do, nothing panics, and nothing stays behind that the client did not ask
// to be kept.
func FuzzConnection(f *testing.F) {
	connect := (&packet.Connect{Version: packet.V311, Clean: true, ClientID: "f"}).Append(nil, packet.V311)
	var talk []byte
	for _, p := range []packet.Packet{
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "a/#", Options: 2}, {Filter: "+", Options: 1}}},
		pub("a/b", "x", 0, 0), pub("a", "y", 1, 1), pub("a/c", "z", 2, 2), ackOf(packet.PUBREL, 2), ackOf(packet.PUBACK, 1),
		ackOf(packet.PUBREC, 2), ackOf(packet.PUBCOMP, 2), &packet.Publish{Topic: []byte("a"), Retain: true, Payload: []byte("r")},
		&packet.Unsubscribe{ID: 2, Filters: []string{"+"}}, &packet.Ping{Kind: packet.PINGREQ}, &packet.Disconnect{Kind: packet.DISCONNECT},
	} {
		talk = p.Append(talk, packet.V311)
	}
	f.Add(talk, true)
	f.Add(append(connect, talk...), false)
	f.Add([]byte("\x82\x05\x00\x01\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, in []byte, greet bool) {
		var s *Server
		s = New(Config{Log: quiet(), DrainTimeout: time.Millisecond}, &policy{}, routerFunc(func(_ *Client, m *Message, done func(error)) {
			s.Deliver(m, nil)
			done(nil)
		}))
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
		if st.Sessions == 0 && st.Subscriptions != 0 {
			t.Fatalf("subscriptions without a session: %+v", st)
		}
		if uint64(out) > st.BytesOut+8 { // a refusal is not counted
			t.Fatalf("%d bytes came, %d were counted", out, st.BytesOut)
		}
	})
}
