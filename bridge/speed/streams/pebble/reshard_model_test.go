package pebble

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// shardModel is what a stream must hold: the shards' lineage and each record.
type shardModel struct {
	shards []streams.Shard
	texts  map[int][]string // of each shard, from offset 0
	cut    map[int]uint64   // each was trimmed to here at most
}

func (m *shardModel) open() (open []int) {
	for i := range m.shards {
		if m.shards[i].Open() {
			open = append(open, i)
		}
	}
	return open
}

// TestReshardModel does what comes to mind to a stream, restarts included, and
// compares it with a model: open shards share all hash keys, each record is in
// the shard that was open for its hash key at the commit, in order.
func TestReshardModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewMem()
		s, stop := start(t, "", Options{FS: fs})
		defer func() { stop() }()
		create(t, s, "a", streams.Config{Shards: rapid.IntRange(1, 5).Draw(rt, "shards")})
		all, err := streams.Shards(s, "a")
		if err != nil {
			rt.Fatal(err)
		}
		m := &shardModel{shards: append([]streams.Shard(nil), all...), texts: map[int][]string{}, cut: map[int]uint64{}}
		n := 0
		pending := s.NewBatch() // filled under shards that may be gone by the commit
		fill := func() {
			for range rapid.IntRange(1, 20).Draw(rt, "records") {
				n++
				key := fmt.Sprint("key-", rapid.IntRange(0, 9).Draw(rt, "key"))
				pending.Put("a", streams.HashOf(key), streams.Record{Key: key, Data: fmt.Append(nil, n)})
			}
		}
		flush := func() {
			if err := s.Commit(context.Background(), pending); err != nil {
				rt.Fatal(err)
			}
			for i := range pending.Len() {
				_, index := pending.Place(i)
				rs := read(t, s, "a", index, pending.Offset(i), 1, 0)
				if len(rs) != 1 || rs[0].Offset != uint64(len(m.texts[index])) || !m.shards[index].Open() ||
					!m.shards[index].Range.Contains(streams.HashOf(rs[0].Key)) {
					rt.Fatalf("record %d is %v in %+v, want offset %d", i, rs, m.shards[index], len(m.texts[index]))
				}
				m.texts[index] = append(m.texts[index], string(rs[0].Data))
			}
			pending = s.NewBatch()
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put":    func(*rapid.T) { fill() },
			"commit": func(*rapid.T) { flush() },
			"split": func(rt *rapid.T) {
				open := m.open()
				if len(open) > 12 {
					rt.Skip("enough shards")
				}
				i := rapid.SampledFrom(open).Draw(rt, "shard")
				m.reshard(rt, s, streams.Change{Parents: []int{i}, Ranges: halves(m.shards[i].Range)})
			},
			"merge": func(rt *rapid.T) {
				for _, i := range m.open() {
					for _, j := range m.open() {
						if m.shards[i].Range.End != streams.MaxHash &&
							m.shards[i].Range.End.Next() == m.shards[j].Range.Start && rapid.Bool().Draw(rt, "these") {
							m.reshard(rt, s, streams.Change{Parents: []int{i, j},
								Ranges: []streams.Range{{Start: m.shards[i].Range.Start, End: m.shards[j].Range.End}}})
							return
						}
					}
				}
			},
			"trim": func(rt *rapid.T) {
				i := rapid.IntRange(0, len(m.shards)-1).Draw(rt, "shard")
				to := uint64(rapid.IntRange(0, len(m.texts[i])).Draw(rt, "to"))
				if err := s.Trim("a", i, to); err != nil {
					rt.Fatal(err)
				}
				m.cut[i] = max(m.cut[i], to)
			},
			"reopen": func(*rapid.T) {
				flush() // a batch belongs to its store
				stop()
				s, stop = start(t, "", Options{FS: fs})
				pending = s.NewBatch()
			},
			"": func(rt *rapid.T) { m.check(rt, t, s) },
		})
	})
}

func (m *shardModel) reshard(rt *rapid.T, s *Store, c streams.Change) {
	made, err := s.Reshard("a", c)
	if err != nil || len(made) != len(c.Ranges) {
		rt.Fatalf("%+v: %v, %v", c, made, err)
	}
	for _, p := range c.Parents {
		m.shards[p].Closed, m.shards[p].End = made[0].Created, uint64(len(m.texts[p]))
		if made[0].Created.Unix() <= m.shards[p].Created.Unix() {
			rt.Errorf("child of %v made at %v, its parent at %v", p, made[0].Created, m.shards[p].Created)
		}
	}
	// A copy: the store's slices are not the model's to change.
	m.shards = append(append([]streams.Shard(nil), m.shards...), made...)
	if _, err := s.Reshard("a", c); !errors.Is(err, streams.ErrShardClosed) {
		rt.Errorf("the same again: %v", err)
	}
}

func (m *shardModel) check(rt *rapid.T, t *testing.T, s *Store) {
	all, err := streams.Shards(s, "a")
	if err != nil || len(all) != len(m.shards) {
		rt.Fatalf("%d shards, want %d, %v", len(all), len(m.shards), err)
	}
	var at streams.Hash
	for _, i := range streams.NewLineage(all).Open() {
		if all[i].Range.Start != at {
			rt.Fatalf("shards open at %v, want %v", all[i].Range.Start, at)
		}
		at = all[i].Range.End.Next()
	}
	if at != (streams.Hash{}) {
		rt.Fatalf("no shard from %v on", at)
	}
	for i, want := range m.shards {
		got := all[i]
		if got.Index != i || got.Range != want.Range || got.End != want.End || !got.Created.Equal(want.Created) ||
			!got.Closed.Equal(want.Closed) ||
			fmt.Sprint(got.Parents) != fmt.Sprint(want.Parents) {
			rt.Fatalf("shard %+v, want %+v", got, want)
		}
		oldest, next, err := s.Bounds("a", i)
		if err != nil || next != uint64(len(m.texts[i])) || oldest > m.cut[i] {
			rt.Fatalf("shard %d from %d to %d, want at most %d to %d, %v", i, oldest, next, m.cut[i], len(m.texts[i]),
				err)
		}
		for k, r := range read(t, s, "a", i, 0, 0, 0) {
			if r.Offset != oldest+uint64(k) || string(r.Data) != m.texts[i][r.Offset] {
				rt.Fatalf("shard %d offset %d: %q, want %q", i, r.Offset, r.Data, m.texts[i][r.Offset])
			}
		}
	}
}
