package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A publish is awaited whose client sends each as soon as the one before is
// acknowledged; not one that comes later, or while others are under way, or with
// quality of service 0.
func TestAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		came := make(chan Publish, 8)
		f := startPipes(t, Config{}, publishFunc(func(p Publish) { came <- p }))
		w := f.connect(t, "a")
		is := func(what string, want bool) Publish {
			t.Helper()
			p := <-came
			var b streams.Batch
			if p.Keeps() {
				p.Stage(&b)
			}
			if b.Awaited != want {
				t.Errorf("%s: awaited %t, want %t", what, b.Awaited, want)
			}
			return p
		}
		done := func(p Publish, id uint16) {
			t.Helper()
			p.Done(nil)
			w.want(ackOf(packet.PUBACK, id))
		}
		id := uint16(0)
		publish := func() { id++; w.send(pub("a", "x", 1, id)) }
		atOnce := func(what string, last bool) {
			t.Helper()
			for i := range promptRow {
				publish()
				done(is(what, last && i == promptRow-1), id)
			}
		}
		publish()
		done(is("the first", false), 1)
		atOnce("at once", true)

		publish()
		one := is("at once again", true)
		publish()
		two := is("beside another", false)
		done(one, id-1)
		done(two, id)
		atOnce("after two at a time", true)

		w.send(pub("a", "x", 0, 0))
		is("without an acknowledgement", false).Done(nil)
		atOnce("after that", true)

		time.Sleep(promptly)
		publish()
		done(is("later", false), id)
		publish()
		done(is("at once, for the first time", false), id)
	})
}
