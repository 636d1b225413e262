package gateway

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/packet"
)

// Publishes beyond the rate are read more slowly, and lose nothing.
func TestPublishRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{PublishRate: 10}, nil)
		w := f.connect(t, "x")
		begin := time.Now()
		for i := range 30 {
			w.send(pub("a", "x", 1, uint16(i+1)))
			w.want(ackOf(packet.PUBACK, uint16(i+1)))
		}
		if took := time.Since(begin); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("30 messages at 10 a second, of which 10 at once, took %v", took)
		}
		if st := f.Stats(); st.Throttled == 0 {
			t.Errorf("%+v", st)
		}
		f.stop()

		f = startPipes(t, Config{PublishBytes: 1000}, nil)
		w = f.connect(t, "x")
		begin = time.Now()
		for i := range 30 {
			w.send(pub("a", string(make([]byte, 95)), 1, uint16(i+1))) // 100 bytes of body
			w.want(ackOf(packet.PUBACK, uint16(i+1)))
		}
		if took := time.Since(begin); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("3,000 bytes at 1,000 a second, of which 1,000 at once, took %v", took)
		}
		f.stop()
	})
}

// One address cannot take all connections.
func TestMaxPerAddress(t *testing.T) {
	f := start(t, Config{MaxPerAddress: 2}, nil)
	a := f.connect(t, "a")
	f.connect(t, "b")
	f.dial(t).wantEnd()
	a.send(&packet.Disconnect{Kind: packet.DISCONNECT})
	a.wantEnd()
	eventually(t, "room", func() bool { return f.Stats().Connections == 1 })
	f.connect(t, "c")
	if st := f.Stats(); st.OverLimit != 1 {
		t.Errorf("%+v", st)
	}
}

// Nor all places of those that say nothing: others still come in.
func TestPendingOfAddress(t *testing.T) {
	f := start(t, Config{MaxPending: 4}, nil)
	var silent []*wire
	for range 3 {
		silent = append(silent, f.dial(t))
	}
	eventually(t, "three are there", func() bool { return f.Stats().Connections == 3 })
	f.dial(t).wantEnd()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	nc, err := d.Dial("tcp", f.addr)
	if err != nil {
		t.Skip("there is no second address: ", err)
	}
	t.Cleanup(func() { nc.Close() })
	w := &wire{t, nc, packet.NewReader(nc, 4096, 1<<20), packet.V311}
	w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: "other"})
	w.want(&packet.Connack{})
	for _, w := range silent {
		w.nc.Close()
	}
	eventually(t, "they are gone", func() bool { return f.Stats().Connections == 1 })
	f.connect(t, "one")
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.addresses) != 2 || f.pending != 0 {
		t.Errorf("%v, %d pending", f.addresses, f.pending)
	}
}

func TestAddressOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::", "[fe80::1%eth0]:5": "fe80::",
	} {
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(in))
		if got := addressOf(remote{a}); got.String() != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if addressOf(a).IsValid() {
		t.Error("a pipe has an address")
	}
}

// remote is a connection of which only the address is known.
type remote struct{ a net.Addr }

func (r remote) RemoteAddr() net.Addr             { return r.a }
func (r remote) LocalAddr() net.Addr              { return r.a }
func (r remote) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (r remote) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (r remote) Close() error                     { return nil }
func (r remote) SetDeadline(time.Time) error      { return nil }
func (r remote) SetReadDeadline(time.Time) error  { return nil }
func (r remote) SetWriteDeadline(time.Time) error { return nil }
