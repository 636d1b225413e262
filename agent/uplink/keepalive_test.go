package uplink

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Behind a NAT that forgets a link after some minutes of silence, the device finds that
// out by one loss, and sends a third of the pings from then on; without one it comes to
// the most that is allowed. CONNECT announces that from the start.
func TestKeepAliveIsStretched(t *testing.T) {
	for _, c := range []struct {
		nat, most, want time.Duration
		lost, pings     int64 // of a day
	}{
		{5 * time.Minute, 20 * time.Minute, 202500 * time.Millisecond, 1, 440},
		{24 * time.Hour, 20 * time.Minute, 20 * time.Minute, 0, 85},
		{24 * time.Hour, 0, time.Minute, 0, 1440},
	} {
		t.Run(fmt.Sprintf("%v of %v", c.nat, c.most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var pings, lost, wrong atomic.Int64
				b, ca := newBroker(t, func(k *conn) {
					if k.connect.Keepalive != uint16(max(c.most, time.Minute)/time.Second) {
						wrong.Add(1)
					}
					k.accept(0)
					for forgot := false; ; {
						before := time.Now()
						p, err := packets.ReadPacket(k)
						if err != nil {
							return
						}
						if !forgot && time.Since(before) > c.nat {
							forgot = true
							lost.Add(1)
						}
						if _, ok := p.(*packets.PingreqPacket); ok && !forgot {
							pings.Add(1)
							k.write(packets.NewControlPacket(packets.Pingresp))
						}
					}
				})
				o := b.options(t, ca)
				o.KeepAliveMax = c.most
				u, stop := start(t, b, newFifo(0), o)
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				st := u.Status()
				stop()
				if st.KeepAlive != c.want || lost.Load() != c.lost || wrong.Load() > 0 || pings.Load() > c.pings ||
					st.State != Online {
					t.Errorf("%+v: keep alive %v, %d links lost, %d pings, %d CONNECTs announce something else; %s", c,
						st.KeepAlive, lost.Load(), pings.Load(), wrong.Load(), st.State)
				}
			})
		})
	}
}

func TestStretch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStretch(time.Minute, 4*time.Minute)
		want := func(d time.Duration) {
			t.Helper()
			if got := s.now(); got != d {
				t.Fatalf("%v of silence, want %v", got, d)
			}
		}
		s.held(time.Second) // says nothing
		s.lost(61 * time.Second)
		want(time.Minute)
		s.held(time.Minute)
		want(90 * time.Second)
		s.lost(30 * time.Second) // the link broke for another cause
		want(90 * time.Second)
		s.lost(90 * time.Second)
		want(time.Minute)
		s.held(time.Minute)
		want(time.Minute)
		time.Sleep(forgetAfter + time.Second)
		for range 9 {
			s.held(s.now())
		}
		want(4 * time.Minute)
		s.lost(4 * time.Minute) // what was good no longer is
		want(time.Minute)
		for range 9 {
			s.held(s.now())
		}
		want(202500 * time.Millisecond)
	})
}
