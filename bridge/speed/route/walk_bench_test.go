package route

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// BenchmarkWalk is the way of a message of 200 bytes, from the bytes of its
// PUBLISH with QoS 1 to its PUBACK: gateway, router, the ingest log on a store in
// memory, and the subscribers. It has no network and no disk, so what it
// allocates is what the way itself takes, the log's share included.
//
//	go test ./bridge/speed/route -run '^$' -bench Walk -count 6
func BenchmarkWalk(b *testing.B) {
	for _, c := range []struct {
		name  string
		v     packet.Version
		props []byte
		qos   int // of the subscriber; -1: there is none
	}{
		{"3.1.1", packet.V311, nil, -1},
		{"3.1.1,to=QoS0", packet.V311, nil, 0},
		{"3.1.1,to=QoS1", packet.V311, nil, 1},
		{"5,properties", packet.V5, packet.AppendUser(nil, "trace", "0123456789abcdef"), -1},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkWalk(b, c.v, c.props, c.qos) })
	}
}

func benchmarkWalk(b *testing.B, v packet.Version, props []byte, qos int) {
	store, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() { _ = store.Run(ctx) })
	in, g := newWalk(b, store)
	defer func() {
		stop()
		ran.Wait()
		_ = store.Close()
	}()
	if err := store.Update(ingest.Stream, 0, 64<<20); err != nil { // memory holds so much
		b.Fatal(err)
	}
	if qos >= 0 {
		there, here := net.Pipe()
		defer there.Close()
		ran.Go(func() { g.ServeConn(ctx, here, gateway.Via{}) })
		there.Write((&packet.Connect{Version: packet.V311, Clean: true, ClientID: "s"}).Append(nil, packet.V311))
		rd := packet.NewReader(there, 4096, 1<<20)
		rd.Next()
		there.Write((&packet.Subscribe{ID: 1,
			Filters: []packet.Filter{{Filter: "dt/#", Options: byte(qos)}}}).Append(nil, packet.V311))
		rd.Next()
		ran.Go(func() { acknowledgeAll(there, rd) })
	}
	const names = 50
	var again [names][]byte
	for i := range again {
		m := &packet.Publish{Topic: fmt.Appendf(nil, "dt/thing-17/sensor-%d", i), Payload: make([]byte, 200), QoS: 1,
			ID: 7, Properties: props}
		again[i] = m.Append(nil, v)
	}
	nc := &spring{first: (&packet.Connect{Version: v, Clean: true, ClientID: "thing-17"}).Append(nil, v),
		again: again[:], left: b.N}
	b.ReportAllocs()
	b.ResetTimer()
	g.ServeConn(ctx, nc, gateway.Via{})
	b.StopTimer()
	if n := in.Stats().Messages; n < uint64(b.N) {
		b.Fatalf("%d messages, want %d", n, b.N)
	}
}

// acknowledgeAll reads what a subscriber gets and answers it.
func acknowledgeAll(nc net.Conn, rd *packet.Reader) {
	acks := make(chan uint16, 1<<16)
	go func() { // a pipe has no room: who does not read while it writes stands still
		for id := range acks {
			if _, err := nc.Write([]byte{0x40, 2, byte(id >> 8), byte(id)}); err != nil {
				return
			}
		}
	}()
	defer close(acks)
	for {
		first, body, _, err := rd.Next()
		if err != nil {
			return
		}
		var p packet.Publish
		if p.Decode(first, body, packet.V311) == nil && p.QoS > 0 {
			acks <- p.ID
		}
	}
}

// A spring is a connection from which so many packets run.
type spring struct {
	first []byte
	again [][]byte
	next  int
	rest  []byte
	left  int
}

func (c *spring) Read(b []byte) (n int, err error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	for n < len(b) {
		if len(c.rest) == 0 {
			if c.left == 0 {
				break
			}
			c.left--
			c.rest = c.again[c.next]
			c.next = (c.next + 1) % len(c.again)
		}
		m := copy(b[n:], c.rest)
		c.rest, n = c.rest[m:], n+m
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
func (c *spring) Write(b []byte) (int, error) { return len(b), nil }
func (c *spring) Close() error                { return nil }
func (c *spring) LocalAddr() net.Addr         { return &net.TCPAddr{} }
func (c *spring) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 168, 1, 77), Port: 50123}
}
func (c *spring) SetDeadline(time.Time) error      { return nil }
func (c *spring) SetReadDeadline(time.Time) error  { return nil }
func (c *spring) SetWriteDeadline(time.Time) error { return nil }

// everything is allowed to everybody.
type everything struct{ thing string }

func (everything) Connect(_ context.Context, c *gateway.Connect) (gateway.Session, error) {
	return everything{c.ClientID}, nil
}
func (e everything) Principal() string {
	return "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"
}
func (e everything) Thing() string              { return e.thing }
func (everything) MayPublish(string, bool) bool { return true }
func (everything) MaySubscribe(string) bool     { return true }
func (everything) MayReceive(string) bool       { return true }

// newWalk makes what a message meets on its way.
func newWalk(b *testing.B, store *pebble.Store) (*ingest.Ingest, *gateway.Server) {
	subscribers := gateway.NewSubscribers(gateway.Config{Log: slog.New(slog.DiscardHandler), OutBytes: 1 << 30,
		InFlight: 1000, PermissionCache: time.Minute})
	in, err := ingest.New(store, ingest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := New(Options{Publisher: NewPublisher(in, subscribers, nil, nobody{}, func() error { return nil }), Log: store})
	return in, gateway.New(subscribers, gateway.Hooks{Authorizer: everything{}, Router: r})
}

// nobody watches.
type nobody struct{}

func (nobody) Show(*message.Message) {}
