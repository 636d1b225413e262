package gateway

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// A tap is a connection from which packets run for as long as they are wanted.
type tap struct {
	first, again []byte // what is read at first, and then over and over
	at           int
	left         int // how often again is read
	wrote        atomic.Int64
}

func (c *tap) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(b) && c.left > 0 {
		m := copy(b[n:], c.again[c.at:])
		n += m
		if c.at += m; c.at == len(c.again) {
			c.at = 0
			c.left--
		}
	}
	return n, nil
}
func (c *tap) Write(b []byte) (int, error)      { c.wrote.Add(int64(len(b))); return len(b), nil }
func (c *tap) Close() error                     { return nil }
func (c *tap) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tap) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tap) SetDeadline(time.Time) error      { return nil }
func (c *tap) SetReadDeadline(time.Time) error  { return nil }
func (c *tap) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkPath measures what the gateway itself spends on a publish of 200
// bytes with QoS 1, from the connection's bytes to PUBACK, and on its delivery
// to a subscriber with QoS 0, without network and disk.
//
//	go test ./bridge/speed/gateway -run '^$' -bench Path -count 6
func BenchmarkPath(b *testing.B) {
	full := join(packet.AppendText(nil, packet.ContentType, "application/json"),
		packet.AppendUser(nil, "trace", "0123456789abcdef"))
	alias := number(packet.TopicAlias, 1)
	for _, c := range []struct {
		name          string
		v             packet.Version
		props         []byte // of the publish
		subscriber    packet.Version
		subscribed    []byte // properties of its CONNECT
		byAlias, none bool
	}{
		{name: "3.1.1", v: packet.V311, none: true},
		{name: "5", v: packet.V5, none: true},
		{name: "5,properties", v: packet.V5, props: full, none: true},
		{name: "5,alias", v: packet.V5, props: alias, byAlias: true, none: true},
		{name: "3.1.1,to=3.1.1", v: packet.V311, subscriber: packet.V311},
		{name: "5,properties,to=5", v: packet.V5, props: full, subscriber: packet.V5},
		{name: "5,properties,to=5,alias", v: packet.V5, props: full, subscriber: packet.V5,
			subscribed: number(packet.TopicAliasMaximum, 8)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newServer(Config{Log: quiet(), OutBytes: 1 << 30}, &policy{}, nil)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			if !c.none {
				there, hold := net.Pipe()
				defer there.Close()
				sub := s.open(hold, Via{})
				go sub.serve(ctx)
				there.Write((&packet.Connect{Version: c.subscriber, Clean: true, ClientID: "s",
					Properties: c.subscribed}).Append(nil, c.subscriber))
				rd := packet.NewReader(there, 4096, 1<<20)
				rd.Next()
				there.Write((&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "dt/#"}}}).Append(nil,
					c.subscriber))
				rd.Next()
				go io.Copy(io.Discard, there)
			}
			first := (&packet.Connect{Version: c.v, Clean: true, ClientID: "p"}).Append(nil, c.v)
			m := &packet.Publish{Topic: []byte("dt/thing-17/bme280"), Payload: make([]byte, 200), QoS: 1, ID: 7,
				Properties: c.props}
			if c.byAlias {
				first = m.Append(first, c.v)
				m.Topic = nil
			}
			nc := &tap{first: first, again: m.Append(nil, c.v), left: b.N}
			p := s.open(nc, Via{})
			b.ReportAllocs()
			b.ResetTimer()
			p.serve(ctx)
			b.StopTimer()
			if st := s.Stats(); int(st.PacketsIn[packet.PUBLISH]) < b.N {
				b.Fatalf("%+v", st)
			}
		})
	}
}
