package streamstest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/deploy/nightly"
)

var (
	seedFlag = flag.Uint64("streamstest.seed", 0, "seed of the random tests; 0: a new one")
	crashes  = flag.Int("streamstest.crashes", nightly.Or(4, 20), "how many times the log crashes")
)

// The position only grows, and counts what is committed.
func testPosition(f *fixture) {
	f.create("a", 1)
	last := f.Position()
	for range 3 {
		f.put("a", 0, "x", "y")
		now := f.Position()
		if now.Commits != last.Commits+2 || now.Records != last.Records+2 {
			f.Errorf("from %+v to %+v with two commits of one record", last, now)
		}
		last = now
		f.restart()
		if now := f.Position(); now.Commits < last.Commits || now.Records < last.Records {
			f.Errorf("from %+v back to %+v", last, now)
		}
		last = f.Position()
	}
}

// All that was there is there after a start, and goes on.
func testRestart(f *fixture) {
	f.create("a", 2)
	var want []string
	for i := range 5 {
		for range 5 {
			text := fmt.Sprint(len(want))
			f.put("a", 1, text)
			want = append(want, text)
		}
		f.holds("a", 1, want...)
		f.restart()
		f.holds("a", 1, want...)
		f.holds("a", 0)
		if _, next, err := f.Bounds("a", 1); err != nil || next < uint64(5*(i+1)) {
			f.Fatalf("the next offset is %d, %v", next, err)
		}
	}
}

// A model knows what a log must hold after crashes.
type model struct {
	f      *fixture
	r      *rand.Rand
	mu     sync.Mutex
	dead   bool                      // the log crashes: an answer counts no more
	acked  int                       // batches below were answered
	tried  int                       // batches below were queued
	placed []placed                  // records of batches that were answered
	trims  map[string]map[int]uint64 // stream, shard: what Trim was asked for
	parts  map[string]int            // stream: shards that were acknowledged
}

type placed struct {
	stream string
	shard  int
	offset uint64
	text   string
}

var crashStreams = []string{"one", "two"}

// modelKeys is how many keys batches set in turn.
const modelKeys = 5

// batch fills batch n: its records say "n/i of m", and it sets key n%modelKeys.
func (m *model) batch(n int) *streams.Batch {
	b := m.f.NewBatch()
	of := 1 + m.r.IntN(8)
	for i := range of {
		key := fmt.Sprint("key ", m.r.IntN(10))
		text := fmt.Sprintf("%d/%d of %d", n, i, of)
		data := append([]byte(text+" "), make([]byte, m.r.IntN(300))...)
		b.Put(crashStreams[m.r.IntN(2)], streams.HashOf(key), streams.Record{Key: key, Data: data})
	}
	if _, ok := m.f.running.(streams.Keys); ok {
		b.Set(fmt.Append(nil, "n", n%modelKeys), fmt.Append(nil, n))
	}
	return b
}

func recordText(data []byte) string {
	text, _, _ := strings.Cut(string(data), " \x00")
	return strings.TrimSuffix(text, " ")
}

// queue queues a batch; what is answered is noted.
func (m *model) queue() {
	n := m.tried
	m.tried++
	b := m.batch(n)
	m.f.CommitAsync(b, func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil || m.dead {
			return
		}
		if m.acked != n {
			m.f.Errorf("batch %d is answered after %d", n, m.acked)
		}
		m.acked = n + 1
		for i := range b.Len() {
			stream, shard := b.Place(i)
			m.placed = append(m.placed, placed{stream, shard, b.Offset(i), fmt.Sprintf("%d/%d of %d", n, i, b.Len())})
		}
	})
}

func (m *model) live(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = !is
}

// act does one thing at random.
func (m *model) act() {
	f := m.f
	switch m.r.IntN(20) {
	case 0:
		m.mu.Lock()
		at := placed{}
		if len(m.placed) > 0 {
			at = m.placed[m.r.IntN(len(m.placed))]
		}
		m.mu.Unlock()
		if at.stream != "" {
			f.ok(f.Trim(at.stream, at.shard, at.offset))
			m.trims[at.stream][at.shard] = max(m.trims[at.stream][at.shard], at.offset)
		}
	case 1:
		name := crashStreams[m.r.IntN(2)]
		l, err := f.Lineage(name)
		f.ok(err)
		open := l.Open()
		if len(open) > 4 {
			a, b := l.All()[open[0]], l.All()[open[1]]
			_, err = f.Reshard(name, streams.Change{
				Parents: []int{a.Index, b.Index}, Ranges: []streams.Range{{Start: a.Range.Start, End: b.Range.End}},
			})
		} else {
			s := l.All()[open[m.r.IntN(len(open))]]
			_, err = f.Reshard(name, streams.Change{Parents: []int{s.Index}, Ranges: halves(s.Range)})
		}
		f.ok(err)
		l, err = f.Lineage(name)
		f.ok(err)
		m.parts[name] = len(l.All())
	case 2:
		f.commit(func(*streams.Batch) {}) // all before are answered
	default:
		m.queue()
	}
}

// check compares the log with the model after a crash, and takes over what
// survived without an answer.
func (m *model) check() {
	f := m.f
	for _, p := range m.placed {
		if p.offset < m.trims[p.stream][p.shard] {
			continue
		}
		recs, err := f.Read(p.stream, p.shard, p.offset, 1, 0)
		f.ok(err)
		if len(recs) != 1 || recs[0].Offset != p.offset || recordText(recs[0].Data) != p.text {
			f.Fatalf("%s/%d at %d: %+v, want %q, which was acknowledged", p.stream, p.shard, p.offset, recs, p.text)
		}
	}
	found := map[int][]placed{} // of batches that were not acknowledged
	total := map[int]int{}
	for _, name := range crashStreams {
		l, err := f.Lineage(name)
		f.ok(err)
		f.ok(l.Check())
		if len(l.All()) < m.parts[name] {
			f.Fatalf("%s has %d shards, %d were acknowledged", name, len(l.All()), m.parts[name])
		}
		for _, s := range l.All() {
			last := map[string][2]int{}
			for _, r := range f.all(name, s.Index) {
				var n, i, of int
				if _, err := fmt.Sscanf(recordText(r.Data), "%d/%d of %d", &n, &i, &of); err != nil || n >= m.tried {
					f.Fatalf("%s/%d holds %q: %v", name, s.Index, r.Data, err)
				}
				if at, ok := last[r.Key]; ok && slices.Compare(at[:], []int{n, i}) >= 0 {
					f.Fatalf("%s/%d: %q of %s after %v", name, s.Index, r.Data, r.Key, at)
				}
				last[r.Key] = [2]int{n, i}
				if n >= m.acked {
					found[n] = append(found[n], placed{name, s.Index, r.Offset, recordText(r.Data)})
					total[n] = of
				}
			}
		}
	}
	survived := m.acked
	for n := m.acked; n < m.tried; n++ {
		if len(found[n]) == 0 {
			continue
		}
		if len(found[n]) != total[n] {
			f.Fatalf("batch %d has %d of its %d records", n, len(found[n]), total[n])
		}
		if n != survived {
			f.Fatalf("batch %d is there, batch %d before it is not", n, survived)
		}
		survived = n + 1
		m.placed = append(m.placed, found[n]...)
	}
	f.Logf("%d batches acknowledged, %d there, %d tried", m.acked, survived, m.tried)
	m.acked, m.tried = survived, survived
	if _, ok := f.running.(streams.Keys); !ok {
		return
	}
	for k := range min(modelKeys, survived) {
		last := (survived-1-k)/modelKeys*modelKeys + k
		if got := f.key(fmt.Sprint("n", k)); got != "="+strconv.Itoa(last) {
			f.Fatalf("key n%d %s, batch %d set it last", k, got, last)
		}
	}
}

// What was acknowledged is there after a crash, where it was. What was not is
// there as a whole or not at all, and nothing of it without what came before.
func testCrash(f *fixture) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	f.Logf("seed %d (-streamstest.seed)", seed)
	m := &model{f: f, r: rand.New(rand.NewPCG(seed, 0)), trims: map[string]map[int]uint64{}, parts: map[string]int{}}
	for _, name := range crashStreams {
		f.create(name, 2)
		m.trims[name], m.parts[name] = map[int]uint64{}, 2
	}
	for range *crashes {
		for range m.r.IntN(200) {
			m.act()
		}
		m.live(false)
		f.engine.Crash(f)
		f.start()
		m.live(true)
		m.check()
	}
	if m.acked == 0 {
		f.Fatal("no batch was ever there")
	}
}
