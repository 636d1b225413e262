package gateway

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

var crashRounds = flag.Int("crashrounds", 150, "how many kills TestCrashModel makes")

// A vow is what the server has promised of one durable session.
type vow struct {
	owner  string // principal
	expiry time.Duration
	away   time.Time // since then; zero: the client is there
	subs   map[string]bool
	must   map[string]bool // payloads that its client has not acknowledged
	may    map[string]bool // those that it has, but the server may have forgotten that
}

// A kept vow is of a retained message.
type retainedVow struct {
	payload string // empty: none
	expires time.Time
}

// A ledger is the plain model. What is in doubt is what the server was asked for
// and has not acknowledged: it may be on disk or not.
type ledger struct {
	sessions      map[string]*vow // nil: there is none
	sessionDoubt  map[string][]*vow
	retained      map[string]retainedVow
	retainedDoubt map[string][]retainedVow
	shared        map[string]bool // payloads that some member of the group must have
}

func (v *vow) clone() *vow {
	if v == nil {
		return nil
	}
	w := *v
	w.subs, w.must, w.may = maps.Clone(v.subs), maps.Clone(v.must), maps.Clone(v.may)
	return &w
}

func (l *ledger) clone() *ledger {
	c := newLedger()
	for id, v := range l.sessions {
		c.sessions[id] = v.clone()
	}
	for id, all := range l.sessionDoubt {
		for _, v := range all {
			c.sessionDoubt[id] = append(c.sessionDoubt[id], v.clone())
		}
	}
	c.retained, c.shared = maps.Clone(l.retained), maps.Clone(l.shared)
	for t, all := range l.retainedDoubt {
		c.retainedDoubt[t] = slices.Clone(all)
	}
	return c
}

func newLedger() *ledger {
	return &ledger{
		sessions: make(map[string]*vow), sessionDoubt: make(map[string][]*vow),
		retained: make(map[string]retainedVow), retainedDoubt: make(map[string][]retainedVow),
		shared: make(map[string]bool),
	}
}

const sharedFilter = "$share/g/s/0"

// doubt notes that a session may become v.
func (l *ledger) doubt(id string, v *vow) {
	l.sessionDoubt[id] = append(l.sessionDoubt[id], v)
	if v == nil {
		l.excuse(id)
	}
}

// settle notes that a session is v: the server has said so.
func (l *ledger) settle(id string, v *vow) { l.sessions[id], l.sessionDoubt[id] = v, nil }

// become notes that a session is v in memory, of which nobody was told.
func (l *ledger) become(id string, v *vow) {
	l.sessionDoubt[id] = append(l.sessionDoubt[id], l.sessions[id])
	l.sessions[id] = v
}

// excuse forgets what only the members of the group have who are no more when
// the one with this id is not.
func (l *ledger) excuse(but string) {
	for id, v := range l.sessions {
		if id != but && v != nil && v.subs[sharedFilter] && !v.over(time.Now().Add(2*time.Second)) {
			return
		}
	}
	clear(l.shared)
}

// over says whether the session has ended at a time, by its expiry.
func (v *vow) over(now time.Time) bool {
	return !v.away.IsZero() && !v.away.Add(v.expiry).After(now)
}

// A crashTest drives a server and kills it.
type crashTest struct {
	t     *testing.T
	r     *rand.Rand
	f     *fixture
	fs    *vfs.MemFS
	began time.Time // the server's start: it looks for what is due every second from then
	steps []string  // since then
	n     int       // messages so far
	conns map[string]*party

	mu sync.Mutex // guards what follows: the disk calls cut
	*ledger
	disk   *rand.Rand
	writes int // until the kill
	left   *vfs.MemFS
	then   *ledger // what was promised when it came
}

// cut is asked before each operation on the disk.
func (x *crashTest) cut(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.writes--; x.writes == 0 {
		x.kill()
	}
	return nil
}

// kill keeps what is on the disk and what was promised. x.mu is held.
func (x *crashTest) kill() {
	if x.left == nil {
		x.left = x.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: x.disk.IntN(101), RNG: x.disk})
		x.then = x.clone()
	}
}

// A party is a client's connection. Its reader takes what comes.
type party struct {
	*wire
	answers chan packet.Packet

	mu  sync.Mutex
	got map[uint16]string // payloads not acknowledged
}

func (x *crashTest) dial() *party {
	w := x.f.dial(x.t)
	w.v = packet.V5
	p := &party{wire: w, answers: make(chan packet.Packet, 10), got: make(map[uint16]string)}
	go func() {
		defer close(p.answers)
		for {
			first, body, _, err := w.rd.Next()
			if err != nil {
				return
			}
			q, err := packet.Decode(first, append([]byte(nil), body...), w.v)
			if err != nil {
				x.t.Error(err)
				return
			}
			if m, ok := q.(*packet.Publish); ok {
				p.mu.Lock()
				if m.QoS > 0 {
					p.got[m.ID] = string(m.Payload)
				}
				p.mu.Unlock()
				continue
			}
			p.answers <- q
		}
	}()
	return p
}

// ask sends q and returns the answer.
func (x *crashTest) ask(p *party, q packet.Packet) packet.Packet {
	x.t.Helper()
	p.send(q)
	a, ok := <-p.answers
	if !ok {
		x.fail("no answer to %T", q)
	}
	return a
}

func (x *crashTest) fail(format string, args ...any) {
	x.t.Helper()
	x.t.Fatalf("%s; steps since the start:\n%s", fmt.Sprintf(format, args...), strings.Join(x.steps, "\n"))
}

func (x *crashTest) step(format string, args ...any) {
	x.steps = append(x.steps, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (x *crashTest) connect(id string) {
	clean, expiry := x.r.IntN(3) == 0, []time.Duration{0, 5 * time.Second, time.Hour, time.Hour}[x.r.IntN(4)]
	principal := "a"
	if x.r.IntN(8) == 0 {
		principal = "b"
	}
	x.step("%s connects as %s, clean %v, expiry %v", id, principal, clean, expiry)
	p := x.dial()
	x.mu.Lock()
	old := x.sessions[id]
	if x.conns[id] != nil && old != nil && old.expiry == 0 { // its end comes first
		x.become(id, nil)
		old = nil
		x.excuse(id)
	}
	// Whether an expiring session is still there is for the server to say.
	doubtful := old != nil && old.over(time.Now())
	keep := old != nil && !clean && old.owner == principal
	fresh := &vow{owner: principal, expiry: expiry, subs: map[string]bool{}, must: map[string]bool{},
		may: map[string]bool{}}
	if !keep || doubtful {
		x.excuse(id)
	}
	if expiry == 0 {
		fresh = nil
	}
	resumed := old.clone()
	if keep {
		resumed.expiry, resumed.away = expiry, time.Time{}
		x.doubt(id, resumed)
	}
	if !keep || doubtful {
		x.doubt(id, nil) // the old one ends first
		x.doubt(id, fresh)
	}
	x.mu.Unlock()
	a, ok := x.ask(p, &packet.Connect{Version: packet.V5, Clean: clean, ClientID: id, HasUsername: true,
		Username:   principal,
		Properties: number(packet.SessionExpiry, uint32(expiry/time.Second))}).(*packet.Connack)
	if !ok || a.Code != 0 || a.SessionPresent && !keep || !a.SessionPresent && keep && !doubtful {
		x.fail("%s: %+v, want a session: %v", id, a, keep)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.SessionPresent {
		x.settle(id, resumed)
	} else {
		x.settle(id, fresh)
	}
	x.conns[id] = p
}

// leave ends a connection, and its session if end or its expiry says so.
func (x *crashTest) leave(id string, end bool) {
	p, v := x.conns[id], x.sessions[id].clone()
	x.step("%s leaves, and ends: %v", id, end)
	if v == nil {
		end = false
	}
	x.mu.Lock()
	delete(x.conns, id)
	if v != nil && !end && v.expiry > 0 {
		v.away = time.Now()
	} else {
		v = nil
	}
	if x.sessions[id] != nil {
		x.become(id, v)
	}
	if v == nil {
		x.excuse(id)
	}
	x.mu.Unlock()
	if end {
		p.send(&packet.Disconnect{Kind: packet.DISCONNECT, Properties: number(packet.SessionExpiry, 0)})
	} else {
		p.nc.Close()
	}
	if x.r.IntN(2) == 0 {
		synctest.Wait()
	}
}

func (x *crashTest) subscribe(id, filter string, on bool) {
	x.step("%s subscribes %s: %v", id, filter, on)
	v := x.sessions[id].clone()
	if v == nil {
		return // nothing of it is kept
	}
	if v.subs[filter] = true; !on {
		delete(v.subs, filter)
	}
	x.mu.Lock()
	x.doubt(id, v)
	if filter == sharedFilter && !on {
		x.excuse(id)
	}
	x.mu.Unlock()
	var q packet.Packet = &packet.Subscribe{ID: 9, Filters: []packet.Filter{{Filter: filter, Options: 1}}}
	if !on {
		q = &packet.Unsubscribe{ID: 9, Filters: []string{filter}}
	}
	x.ask(x.conns[id], q)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.settle(id, v)
}

// acknowledge takes what has come to a client.
func (x *crashTest) acknowledge(id string) {
	p := x.conns[id]
	synctest.Wait()
	p.mu.Lock()
	got := p.got
	p.got = make(map[uint16]string)
	p.mu.Unlock()
	x.step("%s acknowledges %v", id, got)
	x.mu.Lock()
	for _, m := range got {
		delete(x.shared, m)
		if v := x.sessions[id]; v != nil {
			delete(v.must, m)
			v.may[m] = true
		}
	}
	x.mu.Unlock()
	for n := range got {
		p.send(ackOf(packet.PUBACK, n))
	}
	x.ask(p, &packet.Ping{Kind: packet.PINGREQ})
}

// publish sends a message to subscribers.
func (x *crashTest) publish(topic string) {
	x.n++
	payload := fmt.Sprintf("%s %d", topic, x.n)
	x.step("publish %s", payload)
	var to []*vow
	member := false
	x.mu.Lock()
	for _, v := range x.sessions {
		if v != nil && (v.subs[topic] || v.subs["t/#"] && topic[0] == 't') {
			v.may[payload] = true
			if !v.over(time.Now().Add(2 * time.Second)) {
				to = append(to, v)
			}
		}
		member = member || topic[0] == 's' && v != nil && v.subs[sharedFilter] && !v.over(time.Now().Add(2*time.Second))
	}
	for _, all := range x.sessionDoubt {
		for _, v := range all {
			if v != nil {
				v.may[payload] = true // who has just left may not have gone yet
			}
		}
	}
	x.mu.Unlock()
	x.ask(x.conns["pub"], pub(topic, payload, 1, 1))
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range to {
		v.must[payload] = true
	}
	if member {
		x.shared[payload] = true
	}
}

// retain publishes retained messages from several clients at once.
func (x *crashTest) retain(topic string, publishers ...string) {
	var all []retainedVow
	for i := range publishers {
		var v retainedVow
		if x.r.IntN(6) > 0 {
			x.n++
			v.payload = fmt.Sprintf("%s %d", topic, x.n)
			if x.r.IntN(2) == 0 {
				v.expires = time.Now().Add(time.Duration(1+x.r.IntN(70)) * time.Second)
			}
		}
		all = append(all, v)
		x.step("retain %s %q until %v", topic, v.payload, v.expires.Format("05.000"))
		x.mu.Lock()
		x.retainedDoubt[topic] = append(x.retainedDoubt[topic], v)
		x.mu.Unlock()
		q := pub(topic, v.payload, 1, uint16(i+1))
		q.Retain = true
		if !v.expires.IsZero() {
			q.Properties = number(packet.MessageExpiry, uint32(time.Until(v.expires)/time.Second))
		}
		x.conns[publishers[i]].send(q)
	}
	for _, p := range publishers {
		if _, ok := <-x.conns[p].answers; !ok {
			x.fail("no PUBACK")
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	// Of several, the one that counts is the one that a subscriber would see.
	kept, _, ok := x.f.Retained().Get(topic)
	i := slices.IndexFunc(all, func(v retainedVow) bool {
		return v.payload == "" && !ok || ok && v.payload == string(kept.Payload)
	})
	if i < 0 {
		x.fail("%s has %v, which is none of %v", topic, kept, all)
	}
	x.retained[topic], x.retainedDoubt[topic] = all[i], nil
}

// pause lets time pass: for what waits for company, for what expires, and up to
// just after the moment when the server forgets that.
func (x *crashTest) pause() {
	d := time.Duration(x.r.IntN(40)) * time.Millisecond
	switch x.r.IntN(8) {
	case 0:
		d += time.Duration(x.r.IntN(6)) * time.Second
	case 1:
		minute := time.Now().Truncate(time.Minute).Add(time.Minute)
		tick := x.began.Add((minute.Sub(x.began) + time.Second - 1).Truncate(time.Second))
		d = time.Until(tick) + d/2
	}
	x.step("pause of %v", d)
	time.Sleep(d)
}

func (x *crashTest) act() {
	ids := []string{"c0", "c1", "c2"}
	id := ids[x.r.IntN(len(ids))]
	there := x.conns[id] != nil
	x.mu.Lock()
	x.excuse("") // members may have expired
	x.mu.Unlock()
	switch n := x.r.IntN(16); {
	case n < 3 && !there, n == 0:
		x.connect(id)
	case n < 3:
		x.leave(id, n == 2)
	case n < 6 && there:
		filters := []string{"t/0", "t/1", "t/#", sharedFilter, sharedFilter}
		x.subscribe(id, filters[x.r.IntN(len(filters))], x.r.IntN(4) > 0)
	case n < 8 && there:
		x.acknowledge(id)
	case n < 11:
		x.publish([]string{"t/0", "t/1", "s/0"}[x.r.IntN(3)])
	case n < 13:
		x.retain([]string{"r/0", "r/1"}[x.r.IntN(2)], []string{"pub", "pub2"}[:1+x.r.IntN(2)]...)
	default:
		x.pause()
	}
}

// found is what the server has made anew of a session; nil: there is none.
func (x *crashTest) found(id string) *vow {
	s := x.f.sessions[id]
	if s == nil {
		return nil
	}
	v := &vow{owner: s.owner, expiry: s.expiry, away: s.away, subs: map[string]bool{}, must: map[string]bool{},
		may: map[string]bool{}}
	for filter := range s.subs {
		v.subs[filter] = true
	}
	for _, f := range s.flights {
		if f.m != nil {
			v.must[string(f.m.Payload)] = true
		}
	}
	for _, o := range s.pending {
		v.must[string(o.m.Payload)] = true
	}
	return v
}

// differs says what a session that was found has not kept of v.
func (v *vow) differs(found *vow) string {
	switch {
	case v == nil && found == nil:
		return ""
	case found == nil && (v.expiry == 0 || v.over(time.Now())):
		return ""
	case v == nil || found == nil:
		return "there or not"
	case v.owner != found.owner, v.expiry != found.expiry:
		return "owner or expiry"
	case !maps.Equal(v.subs, found.subs):
		return "subscriptions"
	}
	for m := range v.must {
		if !found.must[m] {
			return "lost " + m
		}
	}
	for m := range found.must {
		if m[0] == 't' && !v.must[m] && !v.may[m] {
			return "has " + m
		}
	}
	return ""
}

// verify compares what the server has after a kill with what it had promised,
// and goes on from there.
func (x *crashTest) verify() {
	x.f.mu.Lock()
	defer x.f.mu.Unlock()
	now := time.Now()
	x.excuse("")
	queued := make(map[string]bool)
	for _, id := range []string{"c0", "c1", "c2"} {
		found, promised := x.found(id), append(x.sessionDoubt[id], x.sessions[id])
		if !slices.ContainsFunc(promised, func(v *vow) bool { return v.differs(found) == "" }) {
			why := ""
			for _, v := range promised {
				why += fmt.Sprintf("\n promised %+v: %s", v, v.differs(found))
			}
			x.fail("%s: found %+v%s", id, found, why)
		}
		if found != nil {
			maps.Copy(queued, found.must)
		}
		x.settle(id, found)
	}
	for m := range x.shared {
		if !queued[m] {
			x.fail("%s is with no member of its group", m)
		}
	}
	for _, topic := range []string{"r/0", "r/1"} {
		kept, _, ok := x.f.Retained().Get(topic)
		var found retainedVow
		if ok {
			found = retainedVow{string(kept.Payload), kept.Expires}
		}
		promised := append(x.retainedDoubt[topic], x.retained[topic])
		if !slices.ContainsFunc(promised, func(v retainedVow) bool {
			return v.payload == found.payload || !ok && !v.expires.IsZero() &&
				!v.expires.After(now.Add(50*time.Millisecond))
		}) {
			x.fail("retained: found %+v, promised %+v", found, promised)
		}
		x.retained[topic], x.retainedDoubt[topic] = found, nil
	}
}

// life is one server from its start to its kill.
func (x *crashTest) life() {
	x.conns = make(map[string]*party)
	x.f = startDurable(x.t, Config{MaxSessionExpiry: time.Hour}, errorfs.Wrap(x.fs, errorfs.InjectorFunc(x.cut)),
		startPipes)
	staged := func() {
		x.mu.Lock()
		d := time.Duration(x.disk.IntN(3)) * time.Millisecond
		x.mu.Unlock()
		time.Sleep(d) // several publishers reach the log in any order
	}
	x.f.staged.Store(&staged)
	x.f.policy.principal = func(c *Connect) string { return c.Username }
	x.began = time.Now()
	x.verify()
	x.steps = nil
	x.mu.Lock()
	x.left, x.then, x.writes = nil, nil, -1
	steps := 5 + x.r.IntN(40)
	if x.r.IntN(2) == 0 {
		x.writes = 1 + x.r.IntN(60)
	}
	x.mu.Unlock()
	for _, id := range []string{"pub", "pub2"} {
		x.conns[id] = x.dial()
		x.ask(x.conns[id], &packet.Connect{Version: packet.V5, Clean: true, ClientID: id})
	}
	for range steps {
		x.mu.Lock()
		over := x.left != nil
		x.mu.Unlock()
		if over {
			break
		}
		x.act()
	}
	x.mu.Lock()
	x.kill()
	x.fs, x.ledger = x.left, x.then
	x.mu.Unlock()
	x.f.stop()
	for _, p := range x.conns {
		p.nc.Close()
	}
}

// Whenever the process or the power goes, what was acknowledged of sessions and
// retained messages is there again, and nothing that was given up.
func TestCrashModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	synctest.Test(t, func(t *testing.T) {
		x := &crashTest{t: t, r: rand.New(rand.NewPCG(seed, 2)), disk: rand.New(rand.NewPCG(seed, 3)),
			fs: vfs.NewCrashableMem(), ledger: newLedger()}
		for range *crashRounds {
			x.life()
		}
	})
}
