package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// A SUBSCRIBE of a few hundred bytes that asks for every retained message a
// hundred times neither takes memory without bound nor holds up the others.
func TestRetainedBomb(t *testing.T) {
	const limit = 1 << 20
	f := start(t, Config{OutBytes: limit}, nil)
	for i := range 2000 {
		f.Deliver(&message.Message{Topic: fmt.Sprintf("r/%d/x", i), Payload: []byte(strings.Repeat("x", 1000)), QoS: 1,
			Retain: true}, nil)
	}
	for _, qos := range []byte{0, 1} {
		w := f.clean5(t, "bomb")
		p := &packet.Subscribe{ID: 1}
		for range 100 {
			p.Filters = append(p.Filters, filter("#", qos))
		}
		before := f.Stats()
		w.send(p)
		w.nc.SetReadDeadline(time.Now().Add(patience))
		first, _, _, err := w.rd.Next()
		if err != nil || packet.Type(first>>4) != packet.SUBACK {
			t.Fatalf("QoS %d: 0x%x %v", qos, first, err)
		}
		if st := f.Stats(); st.QueueBytes > 2*limit ||
			st.PacketsOut[packet.PUBLISH]-before.PacketsOut[packet.PUBLISH] > 2*limit/1000 {
			t.Errorf("QoS %d: %d bytes wait, %d were sent", qos, st.QueueBytes,
				st.PacketsOut[packet.PUBLISH]-before.PacketsOut[packet.PUBLISH])
		}
		w.nc.Close()
		await.True(t, "the client is gone", func() bool { return f.Stats().Connections == 0 })
	}
	if st := f.Stats(); st.DroppedQoS0 == 0 || st.DroppedQueue == 0 || st.QueueBytes != 0 {
		t.Errorf("%+v", st)
	}
}
