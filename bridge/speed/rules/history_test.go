package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// offsets lists what h keeps of a result, oldest first.
func (h *history) offsets(r result) (all []uint64) {
	g := &h.rings[r]
	for i := range g.entries {
		all = append(all, g.entries[(g.oldest+i)%len(g.entries)].offset)
	}
	return all
}

func TestHistoryKeepsTheNewestOfEachResult(t *testing.T) {
	var h history
	h.limit(8)
	h.add(resultFailed, entry{offset: 1})
	h.add(resultUnmet, entry{offset: 2})
	for i := range 100 {
		h.add(resultFired, entry{offset: uint64(10 + i)})
	}
	for i := range 3 {
		h.add(resultUnmet, entry{offset: uint64(200 + i)})
	}
	want := func(fired, failed, unmet string) {
		t.Helper()
		for r, w := range map[result]string{resultFired: fired, resultFailed: failed, resultUnmet: unmet} {
			if got := fmt.Sprint(h.offsets(r)); got != w {
				t.Errorf("%v: %s, want %s", r, got, w)
			}
		}
	}
	want("[106 107 108 109]", "[1]", "[201 202]")
	h.limit(12) // more rules, or fewer, share the room
	for i := range 3 {
		h.add(resultFired, entry{offset: uint64(300 + i)})
	}
	want("[107 108 109 300 301 302]", "[1]", "[201 202]")
	h.limit(4)
	want("[301 302]", "[1]", "[202]")
	h.limit(0)
	h.add(resultFired, entry{offset: 400})
	if !h.empty() {
		t.Error("kept without room")
	}
}

// What the comment at the bounds says of memory.
func TestHistoryMemory(t *testing.T) {
	if e, a := unsafe.Sizeof(entry{}), unsafe.Sizeof(act{}); e != 88 || a != 64 {
		t.Errorf("an entry takes %d, an act %d bytes", e, a)
	}
	r := newRig(t, vfs.NewMem())
	defer r.store.Close()
	for n, want := range map[int]int{1: keepPerRule, keepInAll / keepPerRule: keepPerRule, 10_000: keepAtLeast} {
		rule, err := (&Compiler{Catalog: r}).Parse("r", []byte(toOut("SELECT * FROM 'a'")))
		if err != nil {
			t.Fatal(err)
		}
		all := []*Rule{rule}
		for i := range n - 1 {
			other := *rule
			other.Name, other.count = fmt.Sprint("r", i), &counters{}
			all = append(all, &other)
		}
		if err := r.e.Set(all); err != nil {
			t.Fatal(err)
		}
		if got := rule.count.history.most; got != want {
			t.Errorf("of %d rules each keeps %d, want %d", n, got, want)
		}
	}
}

// Under load the first few messages of each result are kept of each group.
func TestGroupsAreSampled(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.store.Close()
	r.rules(map[string]string{"hot": toOut("SELECT n FROM 'dt/#' WHERE n % 2 = 0")})
	w := newWorker(r.e, 0, nil, r.e.opts.Log)
	g := &w.groups[0]
	var recs []streams.Record
	for i := range 100 {
		m := message.Message{Topic: "dt/a", Payload: fmt.Appendf(nil, `{"n":%d}`, i),
			Time: time.Now().Add(-time.Minute).UnixMilli()}
		recs = append(recs, streams.Record{Offset: uint64(i), Data: m.AppendRecord(nil)})
	}
	w.evaluate(t.Context(), g, recs)
	kept := map[result][]uint64{}
	for _, k := range g.tallies[r.e.Rule("hot")].entries {
		kept[k.result] = append(kept[k.result], k.offset)
	}
	if got := fmt.Sprint(kept); got != "map[fired:[0 2 4 6 8 10 12 14] where false:[1 3 5 7 9 11 13 15]]" {
		t.Error(got)
	}
	g.took()
	for i, l := range []Latency{r.e.Metrics()[0].Durable, {int64(r.e.durable.load().Count), r.e.durable.load().Sum}} {
		if l.Count != 50 || l.Mean() < time.Minute || l.Mean() > 2*time.Minute {
			t.Errorf("latency %d: %+v", i, l)
		}
	}
	if g.forget(); len(g.tallies) != 0 || len(g.arrived) != 0 {
		t.Error("what was counted is not forgotten")
	}
}

// Attempts that outboxes tell of before the message is kept are not lost.
func TestEarlyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := &Rule{actions: []action.Target{faulty{}}}
		var h history
		h.limit(64)
		trace := func(i int) [16]byte { return [16]byte{byte(i)} }
		for i := range 2 * mostEarly {
			h.tried(attempt{trace: trace(i), slot: "0", at: time.Now(), final: true})
		}
		if n := len(h.early); n != mostEarly {
			t.Errorf("%d attempts wait, want %d", n, mostEarly)
		}
		time.Sleep(earlyFor + 1)
		h.tried(attempt{trace: trace(100), slot: "0", at: time.Now(), reason: "no"})
		h.tried(attempt{trace: trace(100), slot: "0", at: time.Now(), reason: "never", final: true})
		for _, i := range []int{1, 100} {
			h.add(resultFired, entry{rule: rule, trace: trace(i), acts: []act{{state: actWaiting}}})
		}
		if n := len(h.early); n != 2 {
			t.Errorf("%d attempts wait, want 2", n)
		}
		got := map[byte]string{}
		for _, k := range h.newest(resultFired, resultFailed, resultUnmet) {
			got[k.trace[0]] = fmt.Sprint(k.result, " ", actStates[k.acts[0].state], " ", k.acts[0].tries, " ",
				k.acts[0].reason)
		}
		if want := map[byte]string{1: "fired waiting 0 ",
			100: "failed given up 2 never"}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// A rule that takes the place of another of its name goes on counting, but
// for actions of another kind.
func TestCountersSurviveReplace(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	doc := toOut("SELECT n FROM 'dt/#'")
	r.rules(map[string]string{"a": doc})
	r.publish("dt/a", `{"n":1}`)
	r.stats("a", Stats{Matched: 1, Fired: 1, Actions: 1})
	r.rules(map[string]string{"a": strings.Replace(doc, "dt/#", "dt/+", 1)})
	r.publish("dt/a", `{"n":2}`)
	r.stats("a", Stats{Matched: 2, Fired: 2, Actions: 2})
	if all, err := r.e.Recent(t.Context(), r.e.Rule("a"), false, time.Hour); err != nil || len(all) != 2 ||
		all[0].Topic != "dt/a" {
		t.Errorf("%+v, %v", all, err)
	}
	r.rules(map[string]string{"a": `{"sql":"SELECT n FROM 'dt/#'","actions":[{"republish":{"topic":"x"}}]}`})
	r.stats("a", Stats{Matched: 2, Fired: 2})
	if m := r.e.Metrics()[0]; m.Durable.Count != 2 || len(m.Slots) != 1 ||
		m.Slots[0] != (SlotStats{Slot: "0", Kind: "republish", Outbox: true}) {
		t.Errorf("%+v", m)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for _, ms := range []int64{0, 1, 2, 3, 5, 3_600_000, 3_600_001} {
		h.observe(ms)
	}
	got := h.load()
	for bound, want := range map[float64]uint64{0.001: 2, 0.002: 3, 0.005: 5, 600: 5, 3600: 6} {
		if got.Buckets[bound] != want {
			t.Errorf("at most %v s: %d, want %d", bound, got.Buckets[bound], want)
		}
	}
	if got.Count != 7 || got.Sum != 7200012*time.Millisecond {
		t.Errorf("%+v", got)
	}
}

// Failures of one rule are logged now and then, with their number.
func TestNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counters
		var logged []int64
		for range 25 {
			if n, ok := mayLog(&c.loggedAt, &c.unlogged); ok {
				logged = append(logged, n)
			}
			time.Sleep(time.Second)
		}
		if !slices.Equal(logged, []int64{1, 10, 10}) {
			t.Errorf("told %v", logged)
		}
	})
}
