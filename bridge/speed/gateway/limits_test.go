package gateway

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

func TestLimits(t *testing.T) {
	f := start(t, Config{MaxConnections: 3, MaxSessions: 4, QueueBytes: 3 * (1 + 100 + overhead)}, nil)
	away := []string{"a", "b"}
	for _, id := range away {
		w := f.resume(t, id, false)
		w.subscribe("q", 1)
		w.send(&packet.Disconnect{Kind: packet.DISCONNECT})
		w.wantEnd()
	}
	await.True(t, "both are away", func() bool { return f.Stats().Connections == 0 })
	p := f.connect(t, "p")
	for i := range 10 {
		p.send(pub("q", string(make([]byte, 100)), 1, uint16(i+1)))
		p.want(ackOf(packet.PUBACK, uint16(i+1)))
	}
	st := f.Stats()
	if kept := st.QueueBytes / (1 + 100 + overhead); kept != 4 || st.DroppedQueue != 16 {
		t.Errorf("%d messages are kept for two clients, %d dropped; want 4 and 16", kept, st.DroppedQueue)
	}
	for _, id := range away { // a clean session gives the memory back
		w := f.connect(t, id)
		w.send(&packet.Disconnect{Kind: packet.DISCONNECT})
		w.wantEnd()
	}
	await.True(t, "nothing is queued", func() bool { return f.queued.Load() == 0 && f.Stats().Connections == 1 })

	f.connect(t, "q")
	f.connect(t, "r")
	f.dial(t).wantEnd() // the fourth connection
	if n := f.Stats().OverLimit; n != 1 {
		t.Errorf("%d connections were over the limit", n)
	}
	f.Disconnect(func(c *Client) bool { return c.ID() != "p" }, ReasonAPI)
	await.True(t, "two are gone", func() bool { return f.Stats().Connections == 1 })
	for i := range 4 {
		w := f.dial(t)
		w.send(&packet.Connect{Version: packet.V311, ClientID: fmt.Sprint("s", i)})
		if i < 3 {
			w.want(&packet.Connack{})
			w.send(&packet.Disconnect{Kind: packet.DISCONNECT})
		} else {
			w.want(&packet.Connack{Code: packet.Unavailable})
		}
		w.wantEnd()
		await.True(t, "it is gone", func() bool { return f.Stats().Connections == 1 })
	}
}

// Connections that say nothing are bounded apart from clients.
func TestPending(t *testing.T) {
	f := start(t, Config{MaxUnauthenticated: 2}, nil)
	a, b := f.connect(t, "a"), f.connect(t, "b") // they do not count
	idle := f.dial(t)
	f.dial(t)
	await.True(t, "both are there", func() bool { return f.Stats().Connections == 4 })
	f.dial(t).wantEnd()
	if n := f.Stats().OverLimit; n != 1 {
		t.Errorf("%d connections were over the limit", n)
	}
	idle.nc.Close()
	await.True(t, "one has gone", func() bool { return f.Stats().Connections == 3 })
	f.connect(t, "c")
	a.ping()
	b.ping()
}

// A permission that is withdrawn ends when the memory of it does.
func TestPermissionCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPipes(t, Config{PermissionCache: 3 * time.Second}, nil)
		p, s := f.connect(t, "p"), f.connect(t, "s")
		s.subscribe("a", 0)
		send := func() {
			p.send(pub("a", "x", 1, 1))
			p.want(ackOf(packet.PUBACK, 1))
		}
		for range 5 {
			send()
			s.want(pub("a", "x", 0, 0))
		}
		if n, m := f.policy.asked["publish a"], f.policy.asked["receive a"]; n != 1 || m != 1 {
			t.Errorf("policy was asked %d and %d times, want once", n, m)
		}
		f.policy.deny["receive a"] = true
		time.Sleep(3 * time.Second)
		send()
		s.ping()
		f.policy.deny["publish a"] = true
		time.Sleep(3 * time.Second)
		p.send(pub("a", "x", 1, 1))
		p.wantEnd()
		f.stop()
	})
}

// What was sent and not acknowledged is sent again only to who may receive it
// then: another principal may have the client id, or the right be withdrawn.
func TestResentByPolicy(t *testing.T) {
	f := start(t, Config{PermissionCache: -1}, nil)
	w := f.resume(t, "w", false)
	w.subscribe("#", 1)
	p := f.connect(t, "p")
	for i, topic := range []string{"a", "secret", "b"} {
		p.send(pub(topic, "x", 1, 1))
		p.want(ackOf(packet.PUBACK, 1))
		w.want(pub(topic, "x", 1, uint16(i+1)))
	}
	w.nc.Close()
	await.True(t, "it is away", func() bool { return f.Stats().Clients == 1 })
	f.policy.mu.Lock()
	f.policy.deny["receive secret"] = true
	f.policy.mu.Unlock()
	w = f.resume(t, "w", true)
	for _, again := range []*packet.Publish{pub("a", "x", 1, 1), pub("b", "x", 1, 3)} {
		again.Dup = true
		w.want(again)
		w.send(ackOf(packet.PUBACK, again.ID))
	}
	w.ping()
	if dropped, queued := f.Stats().DroppedPolicy, f.queued.Load(); dropped != 1 || queued != 0 {
		t.Errorf("%d dropped, %d bytes queued", dropped, queued)
	}
}

// BenchmarkDeliver measures matching and permission, with nobody connected.
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			s := newServer(Config{Log: quiet()}, &policy{}, nil)
			for i := range n {
				x := &session{srv: s.Subscribers, serial: uint64(i), policy: granted{&policy{}, "x", "x"},
					subs: make(map[string]*subscription)}
				sub := &subscription{s: x}
				s.subs.Add("dt/+/bme280", sub)
			}
			m := &message.Message{Topic: "dt/thing-17/bme280", Payload: make([]byte, 200)}
			b.ReportAllocs()
			for b.Loop() {
				s.Deliver(m, nil)
			}
		})
	}
}
