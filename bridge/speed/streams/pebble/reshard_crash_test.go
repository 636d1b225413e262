package pebble

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const cutWriters = 4

// A cutModel is what a stream that is split and merged under load must
// hold: each writer counts up in records of its own key.
type cutModel struct {
	mu    sync.Mutex
	acked [cutWriters]uint64 // the last number of each that was acknowledged
	tried [cutWriters]uint64
	done  []streams.Shard // after the last reshard that was acknowledged
	made  int             // reshards acknowledged, which the attributes count
	begun int             // and tried
}

// put commits batches as writer w until the store ends.
func (m *cutModel) put(t *testing.T, s *Store, w int, r *rand.Rand) {
	key := fmt.Sprint("writer-", w)
	for {
		b := s.NewBatch()
		m.mu.Lock()
		n := m.tried[w]
		for range 1 + r.IntN(5) {
			n++
			b.Put("a", streams.HashOf(key),
				streams.Record{Key: key, Data: binary.BigEndian.AppendUint64(make([]byte, 0, 300), n)})
		}
		m.tried[w] = n
		m.mu.Unlock()
		if s.Commit(t.Context(), b) != nil {
			return
		}
		m.mu.Lock()
		m.acked[w] = n
		m.mu.Unlock()
	}
}

// reshard splits and merges until the store ends; the attributes count how
// often.
func (m *cutModel) reshard(s *Store, stop <-chan struct{}, r *rand.Rand) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		all, err := streams.Shards(s, "a")
		if err != nil {
			return err
		}
		open := streams.NewLineage(all).Open()
		at := r.IntN(len(open))
		sh := all[open[at]]
		c := streams.Change{Parents: []int{sh.Index}, Ranges: halves(sh.Range)}
		if at+1 < len(open) && (len(open) > 6 || r.IntN(2) == 0) {
			next := all[open[at+1]]
			c = streams.Change{Parents: []int{sh.Index, next.Index},
				Ranges: []streams.Range{{Start: sh.Range.Start, End: next.Range.End}}}
		}
		m.mu.Lock()
		n := m.made + 1
		m.begun = n
		m.mu.Unlock()
		if _, err := s.ReshardAs("a", binary.BigEndian.AppendUint32(nil, uint32(n)), c); err != nil {
			return err
		}
		all, err = streams.Shards(s, "a")
		m.mu.Lock()
		m.made, m.done = n, all
		m.mu.Unlock()
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
	}
}

// check compares a store after a power cut with the model, which takes over
// what survived without having been acknowledged.
func (m *cutModel) check(t *testing.T, s *Store) {
	t.Helper()
	info, err := s.Describe("a")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	if len(info.Attributes) == 4 {
		made = int(be32(info.Attributes))
	}
	all, err := streams.Shards(s, "a")
	if err != nil {
		t.Fatal(err)
	}
	// One that was under way is there with its attributes, or neither is.
	if n, more := made-m.made, len(all)-len(m.done); n < 0 || made > m.begun || more < n || more > 2*n {
		t.Fatalf("%d reshards and %d shards, %d and %d were acknowledged", made, len(all), m.made, len(m.done))
	}
	for i, want := range m.done {
		if got := all[i]; got.Index != want.Index || got.Range != want.Range || !want.Open() && got.End != want.End {
			t.Errorf("shard %+v, %+v was acknowledged", got, want)
		}
	}
	var last [cutWriters]uint64
	for i := range all { // children come after their parents
		_, next, err := s.Bounds("a", all[i].Index)
		if err != nil || !all[i].Open() && next != all[i].End {
			t.Fatalf("shard %+v ends at %d, %v", all[i], next, err)
		}
		for at := uint64(0); at < next; {
			rs := read(t, s, "a", all[i].Index, at, 1000, 1<<20)
			if len(rs) == 0 {
				t.Fatalf("shard %d: nothing at %d of %d", all[i].Index, at, next)
			}
			for _, x := range rs {
				var w int
				if _, err := fmt.Sscanf(x.Key, "writer-%d", &w); err != nil || x.Offset != at ||
					!all[i].Range.Contains(streams.HashOf(x.Key)) {
					t.Fatalf("shard %+v at %d: %d %q, %v", all[i], at, x.Offset, x.Key, err)
				}
				at++
				last[w]++
				if n := binary.BigEndian.Uint64(x.Data); n != last[w] {
					t.Fatalf("shard %d: %d of %s, want %d", all[i].Index, n, x.Key, last[w])
				}
			}
		}
	}
	for w, n := range last {
		if n < m.acked[w] || n > m.tried[w] {
			t.Errorf("writer %d: %d records, %d acknowledged, %d tried", w, n, m.acked[w], m.tried[w])
		}
	}
	m.acked, m.tried, m.made, m.begun, m.done = last, last, made, made, all
}

// Under splits and merges a power cut loses nothing that was acknowledged,
// neither records nor shards; each key's records are in order from shard to
// shard, and a reshard with its attributes is done or not begun.
func TestPowerCutWhileResharding(t *testing.T) {
	sd := seed(t)
	r := rand.New(rand.NewPCG(sd, 3))
	fs := vfs.NewCrashableMem()
	m := &cutModel{}
	for cut := range *powerCuts {
		s, stop := start(t, "", Options{FS: fs, MemTableSize: 256 << 10})
		if cut == 0 {
			create(t, s, "a", streams.Config{Shards: 3})
			m.done, _ = streams.Shards(s, "a")
		}
		m.check(t, s)
		if t.Failed() {
			t.Fatalf("after %d power cuts", cut)
		}
		var puts, reshards sync.WaitGroup
		for w := range cutWriters {
			r := rand.New(rand.NewPCG(sd, uint64(100*cut+w)))
			puts.Go(func() { m.put(t, s, w, r) })
		}
		enough := make(chan struct{})
		other := rand.New(rand.NewPCG(sd, uint64(100*cut+50)))
		before := m.made
		reshards.Go(func() {
			if err := m.reshard(s, enough, other); err != nil {
				t.Error(err)
			}
		})
		for { // however slow the machine
			m.mu.Lock()
			some := m.made > before
			m.mu.Unlock()
			if some || t.Failed() {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
		for range r.IntN(40) {
			time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond)
		}
		m.mu.Lock() // what is acknowledged from here on may be lost
		known := &cutModel{acked: m.acked, made: m.made, done: m.done}
		m.mu.Unlock()
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		m.mu.Lock()
		known.tried, known.begun = m.tried, m.begun
		m.mu.Unlock()
		close(enough)
		reshards.Wait()
		stop()
		puts.Wait()
		m = known
	}
	t.Logf("%v records, %d reshards, %d shards survived", m.acked, m.made, len(m.done))
}
