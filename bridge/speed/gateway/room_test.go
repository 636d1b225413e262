package gateway

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// While there is no room a publish is answered as its client understands, and nothing
// of it reaches the router; when there is room again the same connections go on.
func TestNoRoom(t *testing.T) {
	var full atomic.Bool
	var routed atomic.Int64
	f := start(t, Config{}, routerFunc(func(_ *Client, _ *message.Message, done func(error)) {
		routed.Add(1)
		done(nil)
	}), func(h *Hooks) {
		h.Room = func() error {
			if full.Load() {
				return errors.New("full")
			}
			return nil
		}
	})
	five, three, batches5, batches3 := f.clean5(t, "five"), f.connect(t, "three"), f.clean5(t, "b5"), f.connect(t, "b3")
	five.send(pub("a", "x", 1, 1))
	five.want(ackOf(packet.PUBACK, 1))
	routed.Store(0)

	full.Store(true)
	five.send(pub("a", "x", 0, 0), pub("a", "x", 1, 2))
	five.want(&packet.Ack{Kind: packet.PUBACK, ID: 2, Reason: codeQuota})
	five.send(pub("a", "x", 2, 3))
	five.want(&packet.Ack{Kind: packet.PUBREC, ID: 3, Reason: codeQuota})
	three.send(pub("a", "x", 0, 0))
	three.ping() // it has not been closed
	three.send(pub("a", "x", 1, 4), pub("a", "y", 1, 5))
	three.wantEnd()
	// A later batch must not be taken before this one.
	batches5.send(pub(telemetry.Topic, "x", 1, 1), pub(telemetry.Topic, "y", 1, 2))
	batches5.want(disconnect(codeQuota))
	batches3.send(pub(telemetry.Topic, "x", 1, 1), pub(telemetry.Topic, "y", 1, 2))
	batches3.wantEnd()
	if n := routed.Load(); n != 0 {
		t.Errorf("%d publishes reached the router", n)
	}
	if st := f.Stats(); st.RefusedNoRoom != 7 {
		t.Errorf("%d publishes are counted as refused, want 7", st.RefusedNoRoom)
	}

	full.Store(false)
	five.send(pub("a", "x", 1, 6))
	five.want(ackOf(packet.PUBACK, 6))
	five.send(pub("a", "x", 2, 3))
	five.want(ackOf(packet.PUBREC, 3))
	if n := routed.Load(); n != 2 {
		t.Errorf("%d publishes were routed, want 2", n)
	}
}
