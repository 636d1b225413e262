package gateway

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
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
	await.True(t, "room", func() bool { return f.Stats().Connections == 1 })
	f.connect(t, "c")
	if st := f.Stats(); st.OverLimit != 1 {
		t.Errorf("%+v", st)
	}
}

// Nor all places of those that say nothing: others still come in.
func TestPendingOfAddress(t *testing.T) {
	f := start(t, Config{MaxUnauthenticated: 4}, nil)
	var silent []*wire
	for range 3 {
		silent = append(silent, f.dial(t))
	}
	await.True(t, "three are there", func() bool { return f.Stats().Connections == 3 })
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
	await.True(t, "they are gone", func() bool { return f.Stats().Connections == 1 })
	f.connect(t, "one")
	await.True(t, "all who are there are known", func() bool {
		st := f.Stats()
		return st.Connections == 2 && st.Unauthenticated == 0
	})
}

// When all are taken by those that say nothing, they make room.
func TestSilentOnesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{MaxUnauthenticated: 2, MaxConnections: 3}, nil)
		f.connect(t, "first")
		silent := []*wire{f.dial(t), f.dial(t)}
		synctest.Wait()
		f.dial(t).wantEnd() // they have a moment
		time.Sleep(admission.Grace)
		f.connect(t, "second") // in the place of one
		silent[0].wantEnd()
		f.dial(t)
		synctest.Wait()
		if st := f.Stats(); st.OverLimit != 1 || st.Evicted != 2 || st.Clients != 2 {
			t.Errorf("%+v", st)
		}
		silent[1].wantEnd()
		f.stop()
	})
}
