package pebble

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// middle is about half way through a range.
func middle(r streams.Range) streams.Hash {
	lo, c := bits.Add64(r.Start.Lo, r.End.Lo, 0)
	hi, over := bits.Add64(r.Start.Hi, r.End.Hi, c)
	return streams.Hash{Hi: hi>>1 | over<<63, Lo: lo>>1 | hi<<63}
}

func halves(r streams.Range) []streams.Range {
	m := middle(r)
	return []streams.Range{{Start: r.Start, End: m}, {Start: m.Next(), End: r.End}}
}

// A batch that was filled before a split goes to the children, in order; what
// was committed before stays in the parent, whose readers learn of its end.
func TestSplitUnderBatch(t *testing.T) {
	fs := vfs.NewMem()
	s, stop := start(t, "", Options{FS: fs})
	create(t, s, "a", streams.Config{Shards: 1, Retention: time.Hour, Attributes: []byte("x")})
	put := func(b *streams.Batch, n int) {
		for i := range n {
			key := fmt.Sprint("key-", i%7)
			b.Put("a", streams.HashOf(key), streams.Record{Key: key, Data: fmt.Append(nil, i)})
		}
	}
	commit(t, s, func(b *streams.Batch) { put(b, 10) })
	late := s.NewBatch()
	put(late, 100)
	whole, err := streams.Shards(s, "a")
	if err != nil || len(whole) != 1 {
		t.Fatal(whole, err)
	}
	made, err := s.Reshard("a", streams.Change{Parents: []int{0}, Ranges: halves(whole[0].Range)})
	if err != nil || len(made) != 2 {
		t.Fatal(made, err)
	}
	if err := s.Commit(context.Background(), late); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i := range 100 {
		_, shard := late.Place(i)
		rs := read(t, s, "a", shard, late.Offset(i), 1, 0)
		if want := fmt.Sprint(i); len(rs) != 1 || string(rs[0].Data) != want ||
			!made[shard-1].Range.Contains(streams.HashOf(rs[0].Key)) {
			t.Fatalf("record %d in shard %d: %v", i, shard, rs)
		}
		if at, ok := seen[rs[0].Key]; ok && at >= int(rs[0].Offset) {
			t.Errorf("record %d of %s before one that came earlier", i, rs[0].Key)
		}
		seen[rs[0].Key] = int(rs[0].Offset)
	}
	b := s.NewBatch()
	b.Append("a", 0, streams.Record{})
	if err := s.Commit(context.Background(), b); !errors.Is(err, streams.ErrShardClosed) {
		t.Errorf("append to a closed shard: %v", err)
	}
	if err := s.Wait(context.Background(), "a", 0, 10); !errors.Is(err, streams.ErrShardClosed) {
		t.Errorf("wait at the end of a closed shard: %v", err)
	}
	check := func(when string) {
		all, err := streams.Shards(s, "a")
		if err != nil || len(all) != 3 || all[0].Open() || all[0].End != 10 || !all[1].Open() ||
			all[2].Parents[0] != 0 {
			t.Errorf("%s: %+v, %v", when, all, err)
		}
		if info, _ := s.Describe("a"); info.Open != 2 || string(info.Attributes) != "x" {
			t.Errorf("%s: %+v", when, info)
		}
	}
	check("before")
	stop()
	s, stop = start(t, "", Options{FS: fs})
	check("after")
	if _, err := s.Reshard("a", streams.Change{Parents: []int{0}, Ranges: halves(whole[0].Range)}); !errors.Is(err,
		streams.ErrShardClosed) {
		t.Errorf("second split: %v", err)
	}
	// Out and back in one go: the shards between are closed and empty.
	all, _ := streams.Shards(s, "a")
	if _, err := s.Reshard("a", streams.Change{Parents: []int{1}, Ranges: halves(all[1].Range)},
		streams.Change{Parents: []int{4, 2}, Ranges: nil}); err == nil {
		t.Error("a change of two into none")
	}
	made, err = s.Reshard("a", streams.Change{Parents: []int{1}, Ranges: halves(all[1].Range)},
		streams.Change{Parents: []int{4, 2},
			Ranges: []streams.Range{{Start: middle(all[1].Range).Next(), End: streams.MaxHash}}})
	if err != nil || len(made) != 3 || made[1].Open() || made[1].End != 0 || made[2].Index != 5 {
		t.Fatalf("%+v, %v", made, err)
	}
	commit(t, s, func(b *streams.Batch) { put(b, 50) })
	stop()
}
