package gateway

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/await"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")
	powerCuts = flag.Int("powercuts", 12, "how many power cuts TestPowerCuts makes")
)

// startDurable runs a server over a store in fs, and stops both; on is start or
// startPipes.
func startDurable(t *testing.T, conf Config, fs vfs.FS,
	on func(*testing.T, Config, Router, ...func(*Hooks)) *fixture) *fixture {
	t.Helper()
	store, err := pebble.Open("", pebble.Options{FS: fs, MemTableSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- store.Run(ctx) }()
	var f *fixture
	conf.Store = store
	f = on(t, conf, publishFunc(func(p Publish) {
		b := store.NewBatch()
		p.Stage(b)
		later := f.Deliver(p.Message, b)
		if staged := f.staged.Load(); staged != nil {
			(*staged)()
		}
		store.CommitAsync(b, func(err error) {
			if err == nil && later != nil {
				later()
			}
			p.Done(err)
		})
	}))
	stop := f.stop
	f.stop = sync.OnceFunc(func() {
		stop()
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("store: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// An endpoint is a client that keeps its side of the session whatever happens to the
// server, as MQTT wants of both.
type endpoint struct {
	t   *testing.T
	id  string
	qos byte // of its subscription or publishes

	mu         sync.Mutex
	frozen     bool // the power is about to go: nothing is heard or said any more
	nc         net.Conn
	ready      bool // CONNACK came, and what was open has been sent again
	subscribed bool
	known      bool            // the server said that it has the session, or SUBACK
	last       int             // payloads sent
	out        map[uint16]sent // not yet acknowledged
	in         map[uint16]bool // QoS 2 ids received and not released
	got        []string
}

type sent struct {
	n        int
	released bool
}

func newEndpoint(t *testing.T, id string, qos byte) *endpoint {
	return &endpoint{t: t, id: id, qos: qos, out: make(map[uint16]sent), in: make(map[uint16]bool)}
}

func (p *endpoint) say(q packet.Packet) {
	if !p.frozen {
		p.nc.Write(q.Append(nil, packet.V311))
	}
}

func (p *endpoint) payload(n int) string { return fmt.Sprintf("%s %06d", p.id, n) }

func (p *endpoint) publish(id uint16, dup bool) {
	p.say(&packet.Publish{Topic: []byte("t/" + p.id), QoS: p.qos, ID: id, Dup: dup,
		Payload: []byte(p.payload(p.out[id].n)), Retain: p.out[id].n%5 == 0})
}

// connect opens a connection and handles what comes until it ends.
func (p *endpoint) connect(addr string, wg *sync.WaitGroup) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.mu.Lock()
	p.nc, p.frozen, p.ready = nc, false, false
	p.say(&packet.Connect{Version: packet.V311, ClientID: p.id})
	p.mu.Unlock()
	wg.Go(func() {
		rd := packet.NewReader(nc, 4096, 1<<20)
		for {
			first, body, _, err := rd.Next()
			if err != nil {
				return
			}
			q, err := packet.Decode(first, append([]byte(nil), body...), packet.V311)
			if err != nil {
				p.t.Error(err)
				return
			}
			p.mu.Lock()
			if !p.frozen {
				p.handle(q)
			}
			p.mu.Unlock()
		}
	})
}

func (p *endpoint) handle(q packet.Packet) {
	switch q := q.(type) {
	case *packet.Connack:
		if q.Code != 0 || p.known && !q.SessionPresent {
			p.t.Errorf("%s: %+v, session known: %v", p.id, q, p.known)
		}
		p.known = true
		if !q.SessionPresent {
			clear(p.in)
		}
		if !p.subscribed && strings.HasPrefix(p.id, "sub") {
			p.say(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "t/#", Options: p.qos}}})
		}
		var ids []uint16
		for id := range p.out {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(a, b uint16) int { return p.out[a].n - p.out[b].n })
		for _, id := range ids {
			if p.out[id].released {
				p.say(ackOf(packet.PUBREL, id))
			} else {
				p.publish(id, true)
			}
		}
		p.ready = true
	case *packet.Suback:
		p.subscribed = true
	case *packet.Publish:
		if q.QoS == 2 {
			if !p.in[q.ID] {
				p.got = append(p.got, string(q.Payload))
			}
			p.in[q.ID] = true
			p.say(ackOf(packet.PUBREC, q.ID))
			return
		}
		p.got = append(p.got, string(q.Payload))
		if q.QoS == 1 {
			p.say(ackOf(packet.PUBACK, q.ID))
		}
	case *packet.Ack:
		switch q.Kind {
		case packet.PUBACK, packet.PUBCOMP:
			delete(p.out, q.ID)
		case packet.PUBREC:
			if s, ok := p.out[q.ID]; ok {
				s.released = true
				p.out[q.ID] = s
			}
			p.say(ackOf(packet.PUBREL, q.ID))
		case packet.PUBREL:
			delete(p.in, q.ID)
			p.say(ackOf(packet.PUBCOMP, q.ID))
		}
	}
}

// more publishes up to n messages, with few packet ids, so that they are used
// again soon.
func (p *endpoint) more(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := uint16(1); id <= 8 && n > 0 && p.ready && !p.frozen; id++ {
		if _, busy := p.out[id]; !busy {
			p.last++
			n--
			p.out[id] = sent{n: p.last}
			p.publish(id, false)
		}
	}
}

func (p *endpoint) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.out) == 0
}

// Whenever the power goes: what was acknowledged to a publisher reaches the
// sessions that had subscribed, of QoS 2 exactly once, in order; and retained
// messages are those last acknowledged or later ones.
func TestPowerCuts(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	pubs := []*endpoint{newEndpoint(t, "pub1", 1), newEndpoint(t, "pub2", 2)}
	subs := []*endpoint{newEndpoint(t, "sub1", 1), newEndpoint(t, "sub2", 2)}
	all := append(slices.Clone(subs), pubs...)
	fs := vfs.NewCrashableMem()
	var f *fixture
	for cut := range *powerCuts + 1 {
		f = startDurable(t, Config{OutInFlight: 4}, fs, start)
		var wg sync.WaitGroup
		for _, s := range subs {
			s.connect(f.addr, &wg)
		}
		await.True(t, "subscriptions", func() bool { return f.Stats().Subscriptions == 2 })
		for _, s := range subs {
			await.True(t, "SUBACK", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.subscribed })
		}
		for _, p := range pubs {
			p.connect(f.addr, &wg)
		}
		if cut == *powerCuts {
			await.True(t, "all acknowledgements", func() bool { return pubs[0].idle() && pubs[1].idle() })
			await.True(t, "all deliveries", func() bool { return f.Stats().QueueBytes == 0 })
			for _, p := range all {
				p.nc.Close()
			}
			wg.Wait()
			break
		}
		for range 1 + r.IntN(30) {
			for _, p := range pubs {
				p.more(r.IntN(6))
			}
			if r.IntN(8) == 0 { // a connection is lost
				p := all[r.IntN(len(all))]
				p.mu.Lock()
				p.nc.Close()
				p.mu.Unlock()
				p.connect(f.addr, &wg)
			}
			time.Sleep(time.Duration(r.IntN(1000)) * time.Microsecond)
		}
		for _, p := range all {
			p.mu.Lock()
			p.frozen = true
			p.mu.Unlock()
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		cutFS := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		for _, p := range all {
			p.nc.Close()
		}
		wg.Wait()
		f.stop()
		fs = cutFS
	}
	for _, p := range pubs {
		kept, _, ok := f.Retained().Get("t/" + p.id)
		if n := p.last - p.last%5; n > 0 && (!ok || string(kept.Payload) != p.payload(n)) {
			t.Errorf("retained %+v, want %s", kept, p.payload(n))
		}
		for _, s := range subs {
			var firsts []string
			seen := make(map[string]int)
			for _, m := range s.got {
				if strings.HasPrefix(m, p.id+" ") {
					if seen[m]++; seen[m] == 1 {
						firsts = append(firsts, m)
					}
				}
			}
			if p.qos == 2 && !slices.IsSorted(firsts) {
				t.Errorf("%s from %s: order %.2000v", s.id, p.id, firsts)
			}
			twice := 0
			for n := 1; n <= p.last; n++ {
				switch k := seen[p.payload(n)]; {
				case k == 0:
					t.Errorf("%s: %s is missing", s.id, p.payload(n))
				case k > 1:
					twice++
				}
			}
			if p.qos == 2 && s.qos == 2 && twice > 0 {
				t.Errorf("%s: %d of %s came twice", s.id, twice, p.id)
			}
			t.Logf("%s from %s: %d messages, %d more than once", s.id, p.id, p.last, twice)
		}
	}
	f.stop()
	if st := f.Stats(); st.CorruptRecords != 0 || st.Panics != 0 {
		t.Errorf("%+v", st)
	}
	left := 0
	store, err := pebble.Open("", pebble.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, prefix := range []string{"gw/q/", "gw/x/"} {
		if err := store.Scan([]byte(prefix), func(key, _ []byte) bool {
			t.Logf("left: %q", key)
			left++
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if left > 0 {
		t.Errorf("%d keys are left of what is done with", left)
	}
}

// devices are sessions with a subscription each.
type devices struct{}

func (devices) id(i int) string { return fmt.Sprintf("device-%06d", i) }

func (devices) Session(id string) *sessions.Record {
	n, _ := strconv.Atoi(strings.TrimPrefix(id, "device-"))
	return &sessions.Record{Life: uint64(n), Expiry: time.Hour, Away: time.Now(),
		Subs: map[string]uint64{"cmd/" + id + "/#": 1}}
}

func (devices) Retained(string) *sessions.Retained { return nil }

// BenchmarkLoad starts a server that has 100,000 sessions with a subscription
// and a queued message each.
func BenchmarkLoad(b *testing.B) {
	const many = 100_000
	fs := vfs.NewMem()
	store, err := pebble.Open("", pebble.Options{FS: fs})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- store.Run(ctx) }()
	batch := store.NewBatch()
	var m devices
	st := sessions.New(store, m)
	for i := range many {
		id := m.id(i)
		st.Session(batch, id)
		o := outbound{m: &message.Message{Topic: "cmd/" + id + "/x", Payload: make([]byte, 200)}, qos: 1}
		sessions.Life{ID: id, Number: uint64(i)}.Queue(batch, 1, o.stored(nil, 0))
		if batch.Bytes() > 1<<20 || i == many-1 {
			if err := store.Commit(ctx, batch); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	cancel()
	if err := <-ran; err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := newServer(Config{Store: store, Log: quiet()}, &policy{}, nil)
		if err := s.Load(); err != nil {
			b.Fatal(err)
		}
		if st := s.Stats(); st.Sessions != many || st.Subscriptions != many || st.CorruptRecords != 0 {
			b.Fatalf("%+v", st)
		}
	}
}
