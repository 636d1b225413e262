package spool

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// A model is a spool in plain memory.
type model struct {
	memory  []int64
	batches map[uint64][]int64 // in the file
	acked   map[uint64]bool    // not yet deleted
	stats   Stats              // Appended, Acked, Flushes
	seq     uint64
}

func (m *model) flush() {
	if len(m.memory) == 0 && len(m.acked) == 0 {
		return
	}
	m.stats.Flushes++
	for seq := range m.acked {
		m.stats.Acked += uint64(len(m.batches[seq]))
		delete(m.batches, seq)
	}
	clear(m.acked)
	if len(m.memory) > 0 {
		m.seq++
		m.batches[m.seq] = m.memory
		m.stats.Appended += uint64(len(m.memory))
		m.memory = nil
	}
}

func (m *model) next(after uint64) uint64 {
	for seq := after + 1; seq <= m.seq; seq++ {
		if _, ok := m.batches[seq]; ok && !m.acked[seq] {
			return seq
		}
	}
	return 0
}

// Random calls do the same to a Spool and to the model; the file is closed and
// opened in between.
func TestModel(t *testing.T) {
	ops := 4000
	if testing.Short() {
		ops = 500
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	m := &model{batches: make(map[uint64][]int64), acked: make(map[uint64]bool)}
	var n int64
	weights := []struct {
		name   string
		weight int
	}{{"append", 40}, {"flush", 15}, {"next", 20}, {"ack", 18}, {"stats", 5}, {"reopen", 1}, {"drain", 1}}
	for i := range ops {
		pick, op := r.IntN(100), ""
		for _, w := range weights {
			if pick -= w.weight; pick < 0 {
				op = w.name
				break
			}
		}
		switch op {
		case "append":
			for range 1 + r.IntN(5) {
				add(t, s, n)
				m.memory = append(m.memory, n)
				n++
			}
		case "flush":
			flushed(t, s)
			m.flush()
		case "next":
			after := uint64(r.Int64N(int64(m.seq) + 2))
			if r.IntN(2) == 0 {
				after = 0
			}
			seq, p := take(t, s, after)
			if want := m.next(after); seq != want {
				t.Fatalf("op %d: Next(%d) = %d, want %d", i, after, seq, want)
			}
			if seq != 0 {
				if h, got := numbers(t, p); h.Seq != seq || !slices.Equal(got, m.batches[seq]) {
					t.Fatalf("op %d: batch %d (%d) holds %v, want %v", i, seq, h.Seq, got, m.batches[seq])
				}
			}
		case "ack":
			seq := m.next(0)
			if r.IntN(3) == 0 {
				seq = uint64(r.Int64N(int64(m.seq) + 2))
			}
			s.Ack(seq)
			if _, ok := m.batches[seq]; ok {
				m.acked[seq] = true
			}
		case "stats":
			got, want := s.Stats(), m.stats
			want.Unflushed = len(m.memory)
			for seq, b := range m.batches {
				if m.acked[seq] {
					want.Acked += uint64(len(b))
				} else {
					want.Batches++
					want.Readings += uint64(len(b))
				}
			}
			got.ID, got.Bytes, got.FileBytes, got.Oldest = want.ID, 0, 0, want.Oldest
			got.Loss, got.Stored = want.Loss, want.Stored
			if got != want {
				t.Fatalf("op %d: %+v, want %+v", i, got, want)
			}
		case "reopen":
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			m.flush()
			s = open(t, path, Options{})
			m.stats.Flushes = 0
		case "drain":
			for seq := m.next(0); seq != 0; seq = m.next(seq) {
				s.Ack(seq)
				m.acked[seq] = true
			}
		}
	}
}

// With a size limit the oldest go first, and what is left is the newest.
func TestModelOverflow(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{MaxBytes: minMaxBytes})
	sizes := make(map[uint64]int)
	var seq, oldest uint64 = 0, 1
	for i := range 300 {
		for range 1 + r.IntN(8) {
			if err := fat(t, s, int64(i), r.IntN(telemetry.MaxText)); err != nil {
				t.Fatal(err)
			}
		}
		flushed(t, s)
		seq++
		got, p := take(t, s, seq-1)
		if got != seq {
			t.Fatalf("newest is %d, want %d", got, seq)
		}
		sizes[seq] = len(p)
		sum := 0
		for at := seq; at >= oldest; at-- {
			if sum += sizes[at]; sum > minMaxBytes {
				oldest = at + 1
				break
			}
		}
		if got, _ := take(t, s, 0); got != oldest {
			t.Fatalf("round %d: oldest is %d, want %d", i, got, oldest)
		}
		if st := s.Stats(); st.Batches != seq-oldest+1 || st.Appended != st.Dropped+st.Readings {
			t.Fatalf("round %d: %s", i, fmt.Sprintf("%+v", st))
		}
	}
}
