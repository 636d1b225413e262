package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench is an Ingest on a store in memory.
type bench struct {
	t     testing.TB
	store *pebble.Store
	in    *Ingest
	run   func() // starts the store
	stop  func() // ends and closes it
	log   strings.Builder

	mu        sync.Mutex
	delivered []string // what the entries came to
}

func open(t testing.TB, fs vfs.FS, o Options) *bench {
	t.Helper()
	b := &bench{t: t}
	store, err := pebble.Open("", pebble.Options{FS: fs, MemTableSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b.store = store
	if o.Shards == 0 {
		o.Shards = 4
	}
	o.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	if b.in, err = New(store, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	b.run = sync.OnceFunc(func() {
		go func() {
			defer close(ran)
			_ = store.Run(ctx) // its error is in store.Err
		}()
	})
	b.stop = sync.OnceFunc(func() {
		cancel()
		b.run()
		<-ran
		if err := store.Close(); err != nil && store.Err() == nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// log returns the messages of the ingest log, shard after shard.
func (b *bench) all(stream string) []*message.Message {
	b.t.Helper()
	info, err := b.store.Describe(stream)
	if err != nil {
		b.t.Fatal(err)
	}
	var all []*message.Message
	for shard := range info.Shards {
		rs, err := b.store.Read(stream, shard, 0, 0, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, r := range rs {
			m, err := message.Decode(r.Data)
			if err != nil {
				b.t.Fatal(err)
			}
			all = append(all, m)
		}
	}
	return all
}

func (b *bench) texts() string {
	var s []string
	for _, m := range b.all(Stream) {
		s = append(s, m.Topic+" "+string(m.Payload))
	}
	return strings.Join(s, "\n")
}

// batch encodes one reading for each sensor, all with value seq.
func batch(t testing.TB, spool byte, seq uint64, sensors ...string) []byte {
	t.Helper()
	b := &telemetry.Batch{Header: telemetry.Header{Spool: [16]byte{spool}, Seq: seq, Clock: telemetry.ClockSynced}}
	for _, s := range sensors {
		b.Series = append(b.Series, telemetry.Series{Sensor: s, Times: []int64{int64(seq)},
			Columns: []telemetry.Column{{Name: "v", Kind: telemetry.Int, Ints: []int64{int64(seq)}}}})
	}
	p, err := telemetry.Append(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reading(thing, sensor string, seq uint64) string {
	return fmt.Sprintf(`dt/%s/%s {"ts":%d,"v":%d}`, thing, sensor, seq, seq)
}

func send(thing string, payload []byte) *message.Message {
	return &message.Message{Topic: telemetry.Topic, Payload: payload, QoS: 1, ClientID: thing, Thing: thing,
		Principal: strings.Repeat("ab", 32), SourceIP: "10.1.2.3", Protocol: "mqtt"}
}

// begin does what a router does with an entry.
func (b *bench) begin(m *message.Message, may func(string) bool, done func(error)) Cost {
	e := b.in.Begin(m, may, done)
	if e == nil {
		return Cost{}
	}
	cost := e.Cost()
	b.mu.Lock()
	for m := range e.Messages {
		b.delivered = append(b.delivered, m.Topic+" "+string(m.Payload))
	}
	b.mu.Unlock()
	e.Commit()
	return cost
}

// publish waits for done.
func (b *bench) publish(m *message.Message, may func(string) bool) error {
	done := make(chan error, 2)
	b.begin(m, may, func(err error) { done <- err })
	return <-done
}

func (b *bench) must(m *message.Message, may func(string) bool) {
	b.t.Helper()
	if err := b.publish(m, may); err != nil {
		b.t.Fatal(err)
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s:\ngot  %s\nwant %s", what, g, w)
	}
}

func TestPublish(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{Store: func(topic string) bool {
		return topic != "chat" && topic != "dt/pump/noise"
	}})
	b.run()
	m := send("pump", []byte(`{"a":1}`))
	m.Topic, m.Retain, m.Hops, m.Time = "plant/x", true, 3, 77
	b.must(m, nil)
	b.must(&message.Message{Topic: "chat", Payload: []byte("hi"), ClientID: "c"}, nil)
	one := batch(t, 1, 1, "temp", "secret", "noise", "hum")
	notSecret := func(topic string) bool { return topic != "dt/pump/secret" }
	var refused *telemetry.Refused
	if err := b.publish(send("pump", one), notSecret); !errors.As(err, &refused) || refused.Readings != 1 ||
		len(refused.Topics) != 1 || refused.Topics[0] != (telemetry.TopicCount{Topic: "dt/pump/secret", Readings: 1}) {
		t.Errorf("refused: %+v, %v", refused, err)
	}
	b.must(send("pump", one), notSecret) // a copy is stored, and nothing of it is new
	same(t, "log", b.texts(), strings.Join([]string{`plant/x {"a":1}`, reading("pump", "temp", 1),
		reading("pump", "hum", 1)}, "\n"))
	same(t, "delivered", strings.Join(b.delivered, "\n"), strings.Join([]string{
		`plant/x {"a":1}`, "chat hi", reading("pump", "temp", 1), reading("pump", "noise", 1),
		reading("pump", "hum", 1)}, "\n"))
	all := b.all(Stream)
	got := *all[0]
	if got.Trace == (message.Trace{}) {
		t.Error("no trace")
	}
	got.Trace = m.Trace
	same(t, "message", got, *m)
	r := all[2]
	if r.Thing != "pump" || r.ClientID != "pump" || r.Principal != m.Principal || r.SourceIP != "10.1.2.3" ||
		r.Protocol != "mqtt" || r.Time == 0 || r.QoS != 1 || r.Trace == all[1].Trace {
		t.Errorf("reading %+v", r)
	}
	st := b.in.Stats()
	if st.Messages != 5 || st.Readings != 3 || st.Batches != 1 || st.Refused != 1 || st.Durable != 2 ||
		st.DurableTime <= 0 || st.BatchBytes == 0 {
		t.Errorf("stats %+v", st)
	}
	for range 3 {
		_ = b.publish(send("pump", batch(t, 1, 2, "secret")), func(string) bool { return false })
	}
	if n := strings.Count(b.log.String(), "policy refuses"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, b.log.String())
	}
	staged := b.store.NewBatch()
	b.in.Stage(staged, &message.Message{Topic: "again", Payload: []byte("x"), Hops: 1})
	b.in.Stage(staged, &message.Message{Topic: "chat"})
	if err := b.store.Commit(t.Context(), staged); err != nil || staged.Len() != 1 {
		t.Fatal(err, staged.Len())
	}
	if !strings.Contains(b.texts(), "again x") {
		t.Error("the staged message is missing")
	}
}

func TestDuplicates(t *testing.T) {
	fs := vfs.NewMem()
	b := open(t, fs, Options{})
	// Two copies of a batch that isn't durable: the store doesn't run yet.
	var order []string
	var mu sync.Mutex
	var wg sync.WaitGroup
	note := func(name string) func(error) {
		wg.Add(1)
		return func(err error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, fmt.Sprint(name, " ", err))
			wg.Done()
		}
	}
	b.begin(send("pump", batch(t, 1, 1, "s")), nil, note("first"))
	b.begin(send("pump", batch(t, 1, 1, "s")), nil, note("copy"))
	b.begin(send("pump", batch(t, 1, 2, "s")), nil, note("second"))
	mu.Lock()
	same(t, "answers before durable", len(order), 0)
	mu.Unlock()
	b.run()
	wg.Wait()
	same(t, "answers", order, "[first <nil> copy <nil> second <nil>]")

	b.must(send("pump", batch(t, 1, 2, "s")), nil)    // durable copy
	b.must(send("pump", batch(t, 1, 1, "s")), nil)    // older, as after a reconnect
	b.must(send("pump", batch(t, 1, 9, "s")), nil)    // gap
	b.must(send("pump", batch(t, 1, 8, "s")), nil)    // below the mark: taken for a copy
	b.must(send("pump", batch(t, 2, 1, "s")), nil)    // other spool
	b.must(send("mixer", batch(t, 1, 1, "s")), nil)   // other thing
	b.must(send("mixer", batch(t, 1, 1, "odd")), nil) // the number counts, not the content
	want := map[string]int{reading("pump", "s", 1): 2, reading("pump", "s", 2): 1, reading("pump", "s", 9): 1,
		reading("mixer", "s", 1): 1}
	check := func() {
		t.Helper()
		got := map[string]int{}
		for _, m := range b.all(Stream) {
			got[m.Topic+" "+string(m.Payload)]++
		}
		same(t, "log", got, want)
	}
	check()
	same(t, "delivered", len(b.delivered), 5)
	same(t, "duplicates", b.in.Stats().Duplicates, 5)
	b.stop()

	b = open(t, fs, Options{})
	b.run()
	b.must(send("pump", batch(t, 1, 9, "s")), nil)
	b.must(send("pump", batch(t, 2, 1, "s")), nil)
	check()
	b.must(send("pump", batch(t, 1, 10, "s")), nil)
	want[reading("pump", "s", 10)]++
	check()
}

// Lanes are forgotten and read again, but not while a batch is in flight.
func TestManyLanes(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{Lanes: 4})
	var wg sync.WaitGroup
	const n = 50
	for range 3 { // all in flight, the second and third are copies
		for i := range n {
			wg.Add(1)
			b.in.Publish(send(fmt.Sprint("t", i), batch(t, 1, 1, "s")), nil, func(err error) {
				if err != nil {
					t.Error(err)
				}
				wg.Done()
			})
		}
	}
	b.run()
	wg.Wait()
	for i := range n {
		b.must(send(fmt.Sprint("t", i), batch(t, 1, 1, "s")), nil)
	}
	if got := len(b.all(Stream)); got != n {
		t.Errorf("%d readings, want %d", got, n)
	}
	if got := len(b.in.lanes.hot) + len(b.in.lanes.cold); got > 4 {
		t.Errorf("%d lanes are kept", got)
	}
}

func TestQuarantine(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{})
	b.run()
	good := batch(t, 1, 5, "s")
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 1
	stranger := send("", good)
	stranger.ClientID = "laptop"
	tests := []struct {
		name string
		m    *message.Message
	}{
		{"empty", send("pump", nil)},
		{"cut off", send("pump", good[:len(good)-1])},
		{"flipped bit", send("pump", flipped)},
		{"sequence 0", send("pump", batch(t, 1, 0, "s"))},
		{"no thing", stranger},
	}
	for i, tt := range tests {
		b.must(tt.m, nil) // acknowledged: sending it again can't help
		q := b.all(Quarantine)
		if len(q) != i+1 || string(q[i].Payload) != string(tt.m.Payload) || q[i].ClientID != tt.m.ClientID {
			t.Errorf("%s: quarantine has %d, the last %+v", tt.name, len(q), q[len(q)-1])
		}
	}
	same(t, "log", b.texts(), "")
	same(t, "delivered", len(b.delivered), 0)
	same(t, "counted", b.in.Stats().Quarantined, len(tests))
	b.must(send("pump", good), nil)
	same(t, "log", b.texts(), reading("pump", "s", 5))
}

// A commit that fails leaves the mark as it was, so the batch sent again is
// stored.
func TestFailingCommit(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{})
	b.run()
	b.must(send("pump", batch(t, 1, 1, "s")), nil)
	if err := b.store.Delete(Stream); err != nil { // stands for any reason
		t.Fatal(err)
	}
	if err := b.publish(send("pump", batch(t, 1, 2, "s")), nil); !errors.Is(err, streams.ErrNotFound) {
		t.Fatalf("err %v", err)
	}
	if err := b.store.Create(Stream, streams.Config{Shards: 4}); err != nil {
		t.Fatal(err)
	}
	b.must(send("pump", batch(t, 1, 2, "s")), nil)
	b.must(send("pump", batch(t, 1, 2, "s")), nil)
	same(t, "log", b.texts(), reading("pump", "s", 2))
	if b.in.Stats().Failed != 1 {
		t.Errorf("stats %+v", b.in.Stats())
	}
}

// A batch that fails while a later one of its spool succeeds is still taken
// when it comes again; copies get the outcome of what they wait for.
func TestLaneOutcomes(t *testing.T) {
	store, err := pebble.Open("", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l := &lane{key: laneKey{thing: "x"}}
	nop := func(error) {}
	decide := func(seq uint64, want verdict, wantMark uint64) *flight {
		t.Helper()
		v, f, mark, err := l.decide(store, seq, nop)
		if err != nil || v != want || mark != wantMark {
			t.Fatalf("seq %d: verdict %d, mark %d, %v; want %d, %d", seq, v, mark, err, want, wantMark)
		}
		return f
	}
	five := decide(5, isNew, 5)
	six := decide(6, isNew, 6)
	decide(5, isCopy, 0)
	same(t, "copies", len(l.land(five, errors.New("no"))), 1)
	decide(6, isCopy, 0)
	l.land(six, nil)
	decide(6, isKnown, 0)
	decide(4, isKnown, 0)
	five = decide(5, isNew, 6)
	l.land(five, errors.New("again"))
	five = decide(5, isNew, 6)
	l.land(five, nil)
	decide(5, isKnown, 0)
	nine := decide(9, isNew, 9)
	eight := decide(8, isNew, 9) // overtaken, but surely not stored yet
	l.land(nine, errors.New("no"))
	l.land(eight, nil)
	nine = decide(9, isNew, 9)
	l.land(nine, nil)
	decide(8, isKnown, 0)
}

func TestFailedDisk(t *testing.T) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".log") &&
			(op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			return errors.New("the disk is gone")
		}
		return nil
	}))
	b := open(t, fs, Options{})
	b.run()
	b.must(send("pump", batch(t, 1, 1, "s")), nil)
	broken.Store(true)
	for range 2 { // first the sync fails, then the store refuses
		if err := b.publish(send("pump", batch(t, 1, 2, "s")), nil); err == nil {
			t.Fatal("acknowledged")
		}
	}
	if err := b.publish(&message.Message{Topic: "x", ClientID: "c"}, nil); err == nil {
		t.Fatal("acknowledged")
	}
}

// Each thing's messages keep their order in the log.
func TestOrder(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{})
	b.run()
	const things, each = 6, 60
	var wg sync.WaitGroup
	for i := range things {
		wg.Go(func() {
			thing := fmt.Sprint("t", i)
			var done sync.WaitGroup
			for seq := uint64(1); seq <= each; seq++ {
				done.Add(2)
				b.in.Publish(send(thing, batch(t, 1, seq, "a", "b")), nil, func(error) { done.Done() })
				m := send(thing, fmt.Appendf(nil, `{"ts":%d,"v":%d}`, seq, seq))
				m.Topic = "dt/" + thing + "/c"
				b.in.Publish(m, nil, func(error) { done.Done() })
			}
			done.Wait()
		})
	}
	wg.Wait()
	got := map[string][]string{}
	for _, m := range b.all(Stream) {
		got[m.Thing] = append(got[m.Thing], m.Topic+" "+string(m.Payload))
	}
	for i := range things {
		thing := fmt.Sprint("t", i)
		var want []string
		for seq := uint64(1); seq <= each; seq++ {
			for _, s := range []string{"a", "b", "c"} {
				want = append(want, reading(thing, s, seq))
			}
		}
		same(t, thing, strings.Join(got[thing], "\n"), strings.Join(want, "\n"))
	}
}

func TestNewWhenClosed(t *testing.T) {
	store, err := pebble.Open("", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(store, Options{}); !errors.Is(err, streams.ErrClosed) {
		t.Errorf("err %v", err)
	}
}

// What is wrong with each batch of a fleet is logged once a minute for each thing and
// topic, with how often it happened.
func TestWarningsAreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		in := &Ingest{opts: Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, notices: new(notice.Log)}
		for range 100 {
			in.warn("x", "t", "a", 3)
			in.warn("x", "t", "b", 1)
		}
		same(t, "lines at once", strings.Count(log.String(), "\n"), 2)
		time.Sleep(time.Minute)
		in.warn("x", "t", "a", 3)
		same(t, "lines a minute later", strings.Count(log.String(), "\n"), 3)
		if want := "thing=t topic=a count=300\n"; !strings.HasSuffix(log.String(), want) {
			t.Errorf("logged %s, want it to end with %q", &log, want)
		}
	})
}

// What is in a batch counts against its thing's rate, and one thing's readings are
// not another's.
func TestThingRate(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	b := open(t, vfs.NewMem(), Options{ThingRate: 10, ThingBytes: 1 << 20, Now: func() time.Time { return now }})
	b.run()
	sensors := make([]string, 30)
	for i := range sensors {
		sensors[i] = fmt.Sprint("s", i)
	}
	m := send("pump", batch(t, 1, 1, sensors...))
	done := make(chan error, 1)
	cost := b.begin(m, nil, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, s := range sensors {
		want += len(reading("pump", s, 1)) - 1 // without the space
	}
	if cost != (Cost{30, want}) || b.in.Wait("pump") != 2*time.Second || b.in.Wait("lift") != 0 {
		t.Errorf("%+v, want %d bytes; waits %v, %v", cost, want, b.in.Wait("pump"), b.in.Wait("lift"))
	}
	e := b.in.Begin(m, func(string) bool { panic("a copy is expanded") }, func(err error) { done <- err })
	if err := <-done; err != nil || e != nil || b.in.Wait("pump") != 2100*time.Millisecond {
		t.Errorf("a copy has an entry: %t; it costs one message, and the thing waits %v: %v", e != nil,
			b.in.Wait("pump"), err)
	}
	now = now.Add(2100 * time.Millisecond)
	if w := b.in.Wait("pump"); w != 0 {
		t.Errorf("after that %v", w)
	}
}

// A record says how far its time stamp may be off, and one of a good clock does not.
func TestDoubtfulTimes(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{})
	b.run()
	raw := func(seq uint64, c telemetry.Clock, bound int64) []byte {
		p, err := telemetry.Append(nil, &telemetry.Batch{
			Header: telemetry.Header{Spool: [16]byte{9}, Seq: seq, Clock: c,
				Time: telemetry.Time{Anchor: 1_796_000_000_000, Bound: bound}},
			Series: []telemetry.Series{{Sensor: "s", Times: []int64{1_796_000_000_001}}}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	later, err := telemetry.Retime(raw(3, telemetry.ClockUnknown, 9), telemetry.ClockSynced,
		telemetry.Time{Anchor: 1_796_000_005_000, Bound: 2000})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{raw(1, telemetry.ClockSynced, 1000), raw(2, telemetry.ClockUnknown, 1<<50), later,
		raw(3, telemetry.ClockSynced, 0)} {
		b.must(send("t0", p), nil)
	}
	var got []string
	for _, m := range b.all(Stream) {
		got = append(got, string(m.Payload))
	}
	want := []string{`{"ts":1796000000001}`,
		`{"ts":1796000000001,"ts_error_ms":1125899906842624,"clock":"unknown"}`,
		`{"ts":1796000005001,"ts_error_ms":2000}`} // the copy of 3 is not stored, though its time differs
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Readings carry the units of their channels where that is asked for, and nothing else where not.
func TestUnits(t *testing.T) {
	p, err := telemetry.Append(nil, &telemetry.Batch{Header: telemetry.Header{Spool: [16]byte{9}, Seq: 1,
		Clock: telemetry.ClockSynced}, Series: []telemetry.Series{{Sensor: "s", Times: []int64{1, 2},
		Columns: []telemetry.Column{
			{Name: "temperature", Unit: "°C", Kind: telemetry.Float, Floats: []float64{41.5, 42}},
			{Name: "n", Kind: telemetry.Int, Ints: []int64{7, 8}},
			{Name: "humidity", Unit: "%RH", Kind: telemetry.Float, Floats: []float64{1, 2}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[bool]string{false: "", true: "unit.temperature=°C unit.humidity=%RH "} {
		b := open(t, vfs.NewMem(), Options{Units: asked})
		b.run()
		m := send("t0", p)
		m.Properties = packet.AppendUser(nil, "of", "the batch")
		b.must(m, nil)
		all := b.all(Stream)
		if len(all) != 2 {
			t.Fatalf("%d readings, want 2", len(all))
		}
		for _, r := range all {
			var got string
			packet.Each(r.Properties, func(_ packet.Property, name, value []byte) bool {
				got += string(name) + "=" + string(value) + " "
				return true
			})
			if got != want {
				t.Errorf("units asked for: %v; the properties are %q, want %q", asked, got, want)
			}
		}
	}
}
