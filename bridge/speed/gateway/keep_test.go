package gateway

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// A gate is a disk whose syncs can be held up.
type gate struct {
	mu    sync.Mutex
	shut  chan struct{} // closed when syncs go on; nil: they do
	tried int           // syncs that were held up
}

func (g *gate) disk(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData && op.Kind != errorfs.OpFileSyncTo {
			return nil
		}
		g.mu.Lock()
		shut := g.shut
		if shut != nil {
			g.tried++
		}
		g.mu.Unlock()
		if shut != nil {
			<-shut
		}
		return nil
	}))
}

// hold holds syncs up until the function that it returns is called.
func (g *gate) hold() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut, g.tried = shut, 0
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.shut = nil
		g.mu.Unlock()
		close(shut)
	})
}

func (g *gate) waiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tried > 0
}

// Who publishes a retained message does not wait for the disk because somebody
// subscribes, and who subscribes does not get what was retained before it after
// it.
func TestRetainedDoesNotWaitForSubscribe(t *testing.T) {
	var g gate
	f := startDurable(t, Config{}, g.disk(vfs.NewMem()), start)
	f.Deliver(&message.Message{Topic: "r/1", Payload: []byte("old"), QoS: 1, Retain: true}, nil)
	f.Deliver(&message.Message{Topic: "r/2", Payload: []byte("kept"), QoS: 1, Retain: true}, nil)
	w := f.resume(t, "w", false)
	open := g.hold()
	defer open()
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{filter("r/#", 1)}})
	await.True(t, "SUBSCRIBE waits for the disk", g.waiting)
	done := make(chan struct{})
	go func() {
		f.Deliver(&message.Message{Topic: "r/1", Payload: []byte("new"), QoS: 0, Retain: true}, nil)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a retained publish waits for another client's sync")
	}
	open()
	w.want(pub("r/1", "new", 0, 0))
	w.want(&packet.Suback{ID: 1, Codes: []byte{1}})
	kept := pub("r/2", "kept", 1, 1)
	kept.Retain = true
	w.want(kept)
	w.ping()
	w.send(ackOf(packet.PUBACK, 1))
	w.ping()
	await.True(t, "nothing is queued", func() bool { return f.queued.Load() == 0 })
}

// What Stage adds to a batch is on disk when the batch is, and goes out to nobody
// before done is called, whatever the session.
func TestStage(t *testing.T) {
	f := startDurable(t, Config{}, vfs.NewMem(), start)
	all := []*wire{f.resume(t, "kept", false), f.clean5(t, "live"), f.clean5(t, "sharing")}
	all[0].subscribe("a", 1)
	all[1].subscribe5("a", 1)
	all[2].subscribe5("$share/g/a", 1)
	b := f.store.NewBatch()
	done := f.Stage(&message.Message{Topic: "a", Payload: []byte("x"), QoS: 1}, b)
	if err := f.store.CommitWait(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	for _, w := range all { // pings are answered behind what went out before
		w.ping()
	}
	stored := 0
	if err := f.conf.Store.Scan([]byte("gw/q/kept\x00"), func(_, _ []byte) bool {
		stored++
		return true
	}); err != nil || stored != 1 {
		t.Fatalf("%d stored, %v", stored, err)
	}
	done(nil)
	for _, w := range all {
		w.want(pub("a", "x", 1, 1))
	}
	if f.Stage(&message.Message{Topic: "b", QoS: 1}, b) != nil {
		t.Error("there is something to do for nobody")
	}
}

// What was staged in a batch that failed takes no room, however often it is tried
// again, and goes out as a new message.
func TestStageFails(t *testing.T) {
	f := startDurable(t, Config{OutBytes: 300}, vfs.NewMem(), start)
	w := f.resume(t, "kept", false)
	w.subscribe("a", 1)
	for range 10 {
		f.Stage(&message.Message{Topic: "a", Payload: make([]byte, 100), QoS: 1},
			f.store.NewBatch())(errors.New("a failure"))
	}
	if n := f.queued.Load(); n != 0 {
		t.Errorf("%d bytes are queued", n)
	}
	b := f.store.NewBatch()
	done := f.Stage(&message.Message{Topic: "a", Payload: []byte("x"), QoS: 1}, b)
	if done == nil {
		t.Fatal("there is no room")
	}
	if err := f.store.CommitWait(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	done(nil)
	w.want(pub("a", "x", 1, 1))
}

// Who leaves and ends its session is gone only when that is durable: until then
// nobody takes its client id.
func TestLeavingWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		f := startDurable(t, Config{}, g.disk(vfs.NewMem()), startPipes)
		w := f.resume(t, "w", false)
		w.subscribe("t", 1)
		f.leaves(t, w, "w")
		f.mu.Lock()
		s := f.sessions["w"]
		f.mu.Unlock()
		open := g.hold()
		defer open()
		left := make(chan struct{})
		go func() {
			defer close(left)
			f.left(s, 0)
		}()
		over := func() bool {
			synctest.Wait()
			select {
			case <-left:
				return true
			default:
				return false
			}
		}
		if over() {
			t.Error("it is over before its end is durable")
		}
		open()
		if !over() {
			t.Error("its end is durable, and it waits")
		}
		f.stop()
	})
}

// Of two principals with one client id neither gets anything of the other's
// session, unless that is wanted. A session without an owner is the first one's.
func TestSessionHasAnOwner(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared=", shared), func(t *testing.T) {
			fs := vfs.NewMem()
			f := startDurable(t, Config{SharedSessions: shared}, fs, start)
			who := func(principal string) { f.policy.principal = func(*Connect) string { return principal } }
			who("a")
			w := f.resume(t, "dev", false)
			w.subscribe("t", 1)
			w.nc.Close()
			f.store.CommitWait(t.Context(), f.store.NewBatch(), nil)
			p := f.connect(t, "p")
			p.send(pub("t", "secret", 1, 1))
			p.want(ackOf(packet.PUBACK, 1))
			f.stop()

			f = startDurable(t, Config{SharedSessions: shared}, fs, start)
			who("b")
			w = f.resume(t, "dev", shared)
			if shared {
				m := pub("t", "secret", 1, 1)
				m.Dup = true
				w.want(m)
			}
			w.ping()
			p = f.connect(t, "p")
			p.send(pub("t", "more", 1, 1))
			p.want(ackOf(packet.PUBACK, 1))
			if shared {
				w.want(pub("t", "more", 1, 2))
			}
			w.ping()
			f.leaves(t, w, "dev")
			who("a")
			w = f.resume(t, "dev", shared) // nor does the first one get it back
			f.leaves(t, w, "dev")

			f.mu.Lock()
			f.sessions["dev"].owner = "" // as an earlier release stored it
			f.mu.Unlock()
			f.hooks.Adopts = func(s Session, id string) bool { return id == "dev" && s.Principal() == "c" }
			if !shared { // what waits there is kept from others, who cannot end it either
				for _, clean := range []bool{false, true} {
					who("x")
					w := f.dial(t)
					w.send(&packet.Connect{Version: packet.V311, ClientID: "dev", Clean: clean})
					w.want(&packet.Connack{Code: packet.NotAuthorized})
				}
			}
			who("c")
			w = f.resume(t, "dev", true)
			f.leaves(t, w, "dev")
			who("d")
			f.resume(t, "dev", shared)
		})
	}
}

// A keyed session belongs to who it says, not to its principal.
type keyed struct{ granted }

func (keyed) Owner() string { return "certificate" }

func TestOwner(t *testing.T) {
	if got := ownerOf(keyed{granted{principal: "key"}}); got != "certificate" {
		t.Error(got)
	}
	if got := ownerOf(granted{principal: "key"}); got != "key" {
		t.Error(got)
	}
}

// A session whose time is over is not resumed, though nobody has looked yet.
func TestExpiredSessionIsNotResumed(t *testing.T) {
	f := start(t, Config{}, nil)
	w := f.resume(t, "w", false)
	f.leaves(t, w, "w")
	f.mu.Lock()
	f.sessions["w"].expiry = 0
	f.mu.Unlock()
	f.resume(t, "w", false)
}

// What a member of a group was not sent goes to another one when its session
// ends, of QoS 2 too, and what it was sent and did not acknowledge of QoS 1; all
// in the commit that ends the session. A message that is on its way to a member
// whose session ends, too.
func TestHandedOverIsDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	f := startDurable(t, Config{OutInFlight: 2}, fs, start)
	a := f.resume(t, "a", false)
	a.subscribe("$share/g/t", 2)
	p := f.connect(t, "p")
	for i, qos := range []byte{1, 2, 2, 1} {
		p.send(pub("t", fmt.Sprint(i), qos, uint16(i+1)))
	}
	p.ping5(t)
	a.want(pub("t", "0", 1, 1))
	a.want(pub("t", "1", 2, 2)) // sent, and may go to nobody else; the rest waits
	b := f.resume(t, "b", false)
	b.subscribe("$share/g/t", 2)
	f.leaves(t, b, "b")
	ended := func() {
		f.staged.Store(nil)
		f.connect(t, "a") // between the staging for a and the commit
	}
	f.staged.Store(&ended)
	p.send(pub("t", "4", 1, 9))
	p.ping5(t)
	await.True(t, "b has it all", func() bool {
		f.mu.Lock()
		b := f.sessions["b"]
		f.mu.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.pending) == 4
	})
	f.store.CommitWait(t.Context(), f.store.NewBatch(), nil)
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	f.stop()

	f = startDurable(t, Config{}, cut, start)
	b = f.resume(t, "b", true)
	got := make(map[string]bool)
	for range 4 {
		q, err := b.next()
		m, ok := q.(*packet.Publish)
		if err != nil || !ok {
			t.Fatal(q, err)
		}
		got[string(m.Payload)] = true
	}
	if got["1"] || len(got) != 4 {
		t.Errorf("b got %v", got)
	}
}

// The parts of a subscription's options.
func TestOptions(t *testing.T) {
	if o := newOptions(0x2f, 1, 1<<28-1); o.qos() != 1 || !o.noLocal() || !o.retainAsPublished() ||
		o.retainHandling() != 2 || o.id() != 1<<28-1 {
		t.Errorf("%x", uint64(o))
	}
	o := outbound{m: &message.Message{Topic: "t"}, qos: 1, group: "$share/g/t", ids: []uint32{1}}
	if q := o.stored(nil, 7); q.Group != o.group || q.PacketID != 7 || q.Released {
		t.Errorf("%+v", q)
	}
	if q := (&outbound{m: &released, qos: 2}).stored(nil, 7); !q.Released {
		t.Errorf("%+v", q)
	}
}

// members are sessions that share a subscription.
type members struct{}

func (members) Session(string) *sessions.Record {
	return &sessions.Record{Life: 1, Expiry: time.Hour, Subs: map[string]uint64{"$share/g/t": 1}}
}

func (members) Retained(string) *sessions.Retained { return nil }

// What a kill left of a session that had ended goes to another member of its
// group at the next start, and what has no group nowhere.
func TestOrphansAreHandedOver(t *testing.T) {
	fs := vfs.NewMem()
	f := startDurable(t, Config{}, fs, start)
	st := sessions.New(f.conf.Store, members{})
	b := st.NewBatch()
	st.Session(b, "b")
	gone := sessions.Life{ID: "a", Number: 9}
	gone.Queue(b, 1, &sessions.Queued{QoS: 1, Topic: "t", Group: "$share/g/t", Payload: []byte("shared")})
	gone.Queue(b, 2, &sessions.Queued{QoS: 1, Topic: "t", Payload: []byte("its own")})
	if err := st.CommitWait(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	f.stop()

	for range 2 { // it is where it belongs for good
		f = startDurable(t, Config{}, fs, start)
		if err := f.store.CommitWait(t.Context(), f.store.NewBatch(), nil); err != nil {
			t.Fatal(err)
		}
		left := 0
		if err := f.conf.Store.Scan([]byte("gw/q/a"), func(_, _ []byte) bool {
			left++
			return true
		}); err != nil || left != 0 {
			t.Errorf("%d left, %v", left, err)
		}
		w := f.resume(t, "b", true)
		m := pub("t", "shared", 1, 1)
		if got, err := w.next(); err != nil || got.Type() != packet.PUBLISH ||
			string(got.(*packet.Publish).Payload) != string(m.Payload) {
			t.Fatal(got, err)
		}
		w.ping()
		f.stop()
	}
}
