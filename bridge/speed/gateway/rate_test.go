package gateway

import (
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
