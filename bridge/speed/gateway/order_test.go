package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// held is a router whose messages are done when the test says so.
type held struct {
	mu   sync.Mutex
	got  []string
	done []func(error)
}

func (h *held) Route(p Publish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, string(p.Message.Payload))
	h.done = append(h.done, p.Done)
}

func (h *held) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.got)
}

// finish calls the i-th done.
func (h *held) finish(i int, err error) {
	h.mu.Lock()
	done := h.done[i]
	h.mu.Unlock()
	done(err)
}

// Acknowledgements leave in the order of the packets, whatever the router's is,
// and other packets do not wait for them.
func TestAckOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const n = 300
	var h held
	f := start(t, Config{InFlight: n + 1}, &h)
	w := f.connect(t, "w")
	var want []packet.Packet
	for i := range n {
		id := uint16(i + 1)
		switch qos := byte(r.IntN(3)); qos {
		case 1:
			want = append(want, ackOf(packet.PUBACK, id))
			w.send(pub("a", fmt.Sprint(i), qos, id))
		case 2:
			want = append(want, ackOf(packet.PUBREC, id))
			w.send(pub("a", fmt.Sprint(i), qos, id))
		default:
			w.send(pub("a", fmt.Sprint(i), 0, 0))
		}
	}
	w.ping() // answered, with nothing acknowledged
	if h.len() != n {
		t.Fatalf("the router has %d, want %d", h.len(), n)
	}
	var wg sync.WaitGroup
	for _, part := range [][]int{r.Perm(n)[:n/2], r.Perm(n)} { // some twice
		wg.Go(func() {
			for _, i := range part {
				h.finish(i, nil)
			}
		})
	}
	for _, p := range want {
		w.want(p)
	}
	wg.Wait()
	w.ping()
	if got := f.Stats().DoneTwice; got != n/2 {
		t.Errorf("%d were done twice, want %d", got, n/2)
	}
}

// An error acknowledges neither its packet nor one behind it.
func TestRouteError(t *testing.T) {
	var h held
	f := start(t, Config{}, &h)
	w := f.connect(t, "w")
	w.send(pub("a", "0", 1, 1), pub("a", "1", 1, 2), pub("a", "2", 1, 3))
	w.ping()
	h.finish(2, nil)
	h.finish(0, nil)
	w.want(ackOf(packet.PUBACK, 1))
	h.finish(1, errors.New("disk full"))
	w.wantEnd()
	await.True(t, "the end", func() bool { return f.Stats().Disconnects[ReasonServer] == 1 })
	// QoS 0 has nothing to acknowledge: the message is lost and counted.
	w = f.connect(t, "w")
	w.send(pub("a", "3", 0, 0))
	w.ping()
	h.finish(3, errors.New("disk full"))
	w.ping()
	if n := f.Stats().RouteErrors; n != 2 {
		t.Errorf("%d errors counted", n)
	}
}

// Too much that is not done stops the reading, by number and by bytes.
func TestBackpressure(t *testing.T) {
	for name, conf := range map[string]Config{
		"number": {InFlight: 5},
		"bytes":  {InFlightBytes: 5 * (1 + 100 + overhead)},
	} {
		t.Run(name, func(t *testing.T) {
			var h held
			f := start(t, conf, &h)
			w := f.connect(t, "w")
			for i := range 12 {
				w.send(pub("a", strings.Repeat("x", 100), byte(min(1, i%3)), uint16(min(1, i%3)*(i+1))))
			}
			await.True(t, "5 of 12 are taken", func() bool { return h.len() == 5 && f.Stats().Held > 0 })
			h.finish(1, nil) // the first is not: number stays, bytes go
			h.finish(0, nil)
			w.want(ackOf(packet.PUBACK, 2))
			await.True(t, "two more", func() bool { return h.len() == 7 })
			for i := 2; i < 12; i++ {
				await.True(t, "the next", func() bool { return h.len() > i })
				h.finish(i, nil)
				if i%3 != 0 {
					w.want(ackOf(packet.PUBACK, uint16(i+1)))
				}
			}
			// A client that is not read can be taken over.
			for i := range 12 {
				w.send(pub("a", strings.Repeat("x", 100), 1, uint16(i+1)))
			}
			await.True(t, "it is held", func() bool { return h.len() == 17 })
			f.connect(t, "w")
			w.wantEnd()
		})
	}
}

// A connection is taken over when what the old one sent, and its will, are with
// the router; not before.
func TestTakeoverOrder(t *testing.T) {
	var j journal
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	r := routerFunc(func(c *Client, m *message.Message, done func(error)) {
		if string(m.Payload) == "slow" {
			entered <- struct{}{}
			<-release
		}
		j.add("routed " + string(m.Payload))
		done(nil)
	})
	f := start(t, Config{}, r, withEvents(j.event))
	connect := func(i int) *wire {
		w := f.dial(t)
		w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: "dev", HasWill: true, WillTopic: "will",
			WillPayload: fmt.Appendf(nil, "will %d", i)},
			pub("a", fmt.Sprintf("hello %d", i), 1, 1))
		return w
	}
	a := connect(1)
	a.want(&packet.Connack{})
	a.want(ackOf(packet.PUBACK, 1))
	a.send(pub("a", "before", 1, 2), pub("a", "slow", 1, 3), pub("a", "after", 1, 4))
	<-entered
	b := connect(2) // is not answered yet
	await.True(t, "the second came", func() bool { return f.Stats().Takeovers == 1 })
	c := connect(3) // takes over from the one that waits
	await.True(t, "the third came", func() bool { return f.Stats().Takeovers == 2 })
	b.wantEnd()
	close(release)
	c.want(&packet.Connack{})
	c.want(ackOf(packet.PUBACK, 1))
	c.send(&packet.Disconnect{Kind: packet.DISCONNECT})
	c.wantEnd()
	f.stop()
	got := strings.ReplaceAll(j.String(), "routed after\n", "") // it may have been read or not
	want := "connected dev\nrouted hello 1\nrouted before\nrouted slow\nrouted will 1\ndisconnected dev DUPLICATE_CLIENTID\n" +
		"connected dev\nrouted hello 3\ndisconnected dev CLIENT_INITIATED_DISCONNECT\n"
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// Many connections fight for one id: there is one at a time, and the messages
// of each reach the router in one piece.
func TestTakeoverStorm(t *testing.T) {
	var mu sync.Mutex
	var got []string
	now := 0
	count := func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == Connected {
			now++
		} else {
			now--
		}
		if now < 0 || now > 1 {
			t.Errorf("%d connections of one client", now)
		}
	}
	f := start(t, Config{}, routerFunc(func(_ *Client, m *message.Message, done func(error)) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(m.Payload))
		go done(nil)
	}), withEvents(count))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			w := f.dial(t)
			b := (&packet.Connect{Version: packet.V311, Clean: i%2 == 0, ClientID: "one"}).Append(nil, packet.V311)
			for k := range 50 {
				b = pub("a", fmt.Sprintf("%d %d", i, k), byte(k%2), uint16((k+1)*(k%2))).Append(b, packet.V311)
			}
			w.nc.Write(b)
			w.nc.Read(make([]byte, 1))
		})
	}
	wg.Wait()
	f.stop()
	seen := make(map[string]bool)
	last, k := "", 0
	for _, s := range got {
		who, n, _ := strings.Cut(s, " ")
		if who != last {
			if seen[who] {
				t.Fatalf("messages of %s in two pieces", who)
			}
			seen[who], last, k = true, who, 0
		}
		if n != fmt.Sprint(k) {
			t.Fatalf("%s: got %s, want %d", who, n, k)
		}
		k++
	}
}

// What a persistent session keeps over connections.
func TestSessionResumed(t *testing.T) {
	f := start(t, Config{OutInFlight: 2}, nil)
	p := f.connect(t, "p")
	w := f.resume(t, "w", false)
	w.subscribe("a", 2)
	p.send(pub("a", "1", 1, 1), pub("a", "2", 2, 2), pub("a", "3", 1, 3), pub("a", "4", 1, 4))
	w.want(pub("a", "1", 1, 1))
	w.want(pub("a", "2", 2, 2))
	w.send(ackOf(packet.PUBREC, 2))
	w.want(ackOf(packet.PUBREL, 2))
	w.nc.Close()
	await.True(t, "w is away", func() bool { return f.Stats().Clients == 1 })
	p.send(pub("a", "lost", 0, 0), pub("a", "5", 1, 5))
	p.want(ackOf(packet.PUBACK, 1))
	p.want(ackOf(packet.PUBREC, 2))
	for _, id := range []uint16{3, 4, 5} {
		p.want(ackOf(packet.PUBACK, id))
	}

	w = f.resume(t, "w", true)
	again := pub("a", "1", 1, 1)
	again.Dup = true
	w.want(again)
	w.want(ackOf(packet.PUBREL, 2))
	w.send(ackOf(packet.PUBCOMP, 2))
	w.want(pub("a", "3", 1, 2))
	w.send(ackOf(packet.PUBACK, 1))
	w.want(pub("a", "4", 1, 1))
	w.send(ackOf(packet.PUBACK, 2), ackOf(packet.PUBACK, 1))
	w.want(pub("a", "5", 1, 2))
	w.send(ackOf(packet.PUBACK, 2))
	w.ping()
	await.True(t, "nothing is queued", func() bool { return f.Stats().QueueBytes == 0 })
	// A clean connection ends it.
	w = f.connect(t, "w")
	p.send(pub("a", "nobody", 1, 6))
	p.want(ackOf(packet.PUBACK, 6))
	w.ping()
	w.send(&packet.Disconnect{Kind: packet.DISCONNECT})
	w.wantEnd()
	await.True(t, "w is gone", func() bool { return f.Stats().Sessions == 1 })
	f.resume(t, "w", false)
}

// QoS 2 reaches the router once, though the client sends it again on another
// connection, before and after it is durable.
func TestExactlyOnceIn(t *testing.T) {
	var h held
	f := start(t, Config{}, &h)
	w := f.resume(t, "w", false)
	w.send(pub("a", "0", 2, 7))
	w.ping()
	again := pub("a", "0", 2, 7)
	again.Dup = true
	w = f.resume(t, "w", true)
	w.send(again, pub("a", "1", 2, 8), ackOf(packet.PUBREL, 5))
	w.want(ackOf(packet.PUBCOMP, 5)) // unknown: released long ago
	w.ping()
	if h.len() != 2 {
		t.Fatalf("the router has %d messages, want 2", h.len())
	}
	h.finish(1, nil)
	w.ping()
	h.finish(0, nil) // on the connection that has ended
	w.want(ackOf(packet.PUBREC, 7))
	w.want(ackOf(packet.PUBREC, 8))
	w = f.resume(t, "w", true)
	w.send(again)
	w.want(ackOf(packet.PUBREC, 7))
	w.send(ackOf(packet.PUBREL, 7), ackOf(packet.PUBREL, 8))
	w.want(ackOf(packet.PUBCOMP, 7))
	w.want(ackOf(packet.PUBCOMP, 8))
	w.send(pub("a", "2", 2, 7)) // the id is free again
	w.ping()
	// What failed may be sent again.
	h.finish(2, errors.New("disk full"))
	w.wantEnd()
	w = f.resume(t, "w", true)
	w.send(pub("a", "2", 2, 7))
	w.ping()
	if h.len() != 4 {
		t.Fatalf("the router has %d messages, want 4", h.len())
	}
	w.send(ackOf(packet.PUBREL, 7)) // before PUBREC
	w.wantEnd()
	h.finish(3, nil)
}

// A server that stops acknowledges what it accepted.
func TestShutdownDrains(t *testing.T) {
	var h held
	f := start(t, Config{DrainTimeout: patience}, &h)
	w := f.connect(t, "w")
	w.send(pub("a", "0", 1, 1), pub("a", "1", 1, 2))
	w.ping()
	stopped := make(chan struct{})
	go func() { f.stop(); close(stopped) }()
	h.finish(1, nil)
	h.finish(0, nil)
	w.want(ackOf(packet.PUBACK, 1))
	w.want(ackOf(packet.PUBACK, 2))
	w.wantEnd()
	<-stopped
}

func TestDisconnectByServer(t *testing.T) {
	var j journal
	f := start(t, Config{}, nil, withEvents(j.event))
	a, b := f.connect(t, "a"), f.connect(t, "b")
	if n := f.Disconnect(func(c *Client) bool { return c.Session().Principal() == "cert/a" }, ReasonForbidden); n != 1 {
		t.Errorf("Disconnect ended %d", n)
	}
	a.wantEnd()
	b.ping()
	await.True(t, "the event", func() bool { return strings.Contains(j.String(), "disconnected a FORBIDDEN_ACCESS\n") })
	// A client whose certificate is revoked while policy decides is asked again.
	n := 0
	f.policy.connect = func(c *Connect) error {
		if n++; n == 1 {
			f.Disconnect(func(*Client) bool { return false }, ReasonForbidden)
			return nil
		}
		return ErrNotAuthorized
	}
	w := f.dial(t)
	w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: "c"})
	w.want(&packet.Connack{Code: 5})
}
