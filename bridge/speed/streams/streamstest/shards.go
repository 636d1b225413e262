package streamstest

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A record goes to the open shard of its hash key.
func testPut(f *fixture) {
	f.create("a", 5)
	l, err := f.Lineage("a")
	f.ok(err)
	b := f.commit(func(b *streams.Batch) {
		for i := range 200 {
			key := fmt.Sprint("key ", i)
			b.Put("a", streams.HashOf(key), streams.Record{Key: key, Data: fmt.Append(nil, i)})
		}
		for _, s := range l.All() {
			b.Put("a", s.Range.Start, streams.Record{})
			b.Put("a", s.Range.End, streams.Record{})
		}
	})
	for i := range 200 {
		h := streams.HashOf(fmt.Sprint("key ", i))
		_, shard := b.Place(i)
		if want := l.Route(h); shard != want || !l.All()[shard].Range.Contains(h) {
			f.Errorf("record %d is in shard %d, want %d", i, shard, want)
		}
	}
	for i := range 10 {
		if _, shard := b.Place(200 + i); shard != i/2 {
			f.Errorf("an end of shard %d is in %d", i/2, shard)
		}
	}
}

// halves parts a range in two.
func halves(r streams.Range) []streams.Range {
	mid := streams.Hash{Hi: r.Start.Hi/2 + r.End.Hi/2, Lo: 1<<64 - 1}
	return []streams.Range{{Start: r.Start, End: mid}, {Start: mid.Next(), End: r.End}}
}

func testReshard(f *fixture) {
	f.ok(f.Create("a", streams.Config{Shards: 2, Attributes: []byte("x")}))
	l, err := f.Lineage("a")
	f.ok(err)
	old := l.All()
	end := f.put("a", 1, "in the parent")[0] + 1
	parts := halves(old[1].Range)
	made, err := f.ReshardAs("a", []byte("y"),
		// 2 and 3
		streams.Change{Parents: []int{1}, Ranges: parts},
		streams.Change{Parents: []int{0, 2}, Ranges: []streams.Range{{Start: streams.Hash{}, End: parts[0].End}}}) // 4
	f.ok(err)
	if len(made) != 3 || made[0].Index != 2 || made[2].Index != 4 || len(l.All()) != 2 {
		f.Fatalf("made %+v, and a lineage of before has %d shards", made, len(l.All()))
	}
	f.put("a", 3, "in a child")
	for range 2 {
		l, err := f.Lineage("a")
		f.ok(err)
		f.ok(l.Check())
		all := l.All()
		if len(all) != 5 || len(l.Open()) != 2 {
			f.Fatalf("%d shards, %d open", len(all), len(l.Open()))
		}
		for i, parents := range [][]int{nil, nil, {1}, {1}, {0, 2}} {
			s := all[i]
			if open := i >= 3; s.Index != i || s.Open() != open || fmt.Sprint(s.Parents) != fmt.Sprint(parents) {
				f.Errorf("shard %d is %+v", i, s)
			}
			for _, p := range s.Parents {
				if all[p].Created.Unix() >= s.Created.Unix() || all[p].Closed.IsZero() {
					f.Errorf("shard %d of %v, its child %d of %v", p, all[p].Created, i, s.Created)
				}
			}
		}
		if all[1].End != end || all[0].End != 0 {
			f.Errorf("shards end at %d and %d, want 0 and %d", all[0].End, all[1].End, end)
		}
		d, err := f.Describe("a")
		f.ok(err)
		if string(d.Attributes) != "y" || d.Shards != 2 || d.Open != 2 {
			f.Errorf("described as %+v", d)
		}
		f.holds("a", 1, "in the parent")
		f.holds("a", 3, "in a child")
		b := f.NewBatch()
		b.Append("a", 1, streams.Record{})
		f.is(f.Commit(f.bounded(), b), streams.ErrShardClosed)
		f.is(f.Wait(f.bounded(), "a", 1, end), streams.ErrShardClosed)
		f.restart()
	}
}

func testReshardRefused(f *fixture) {
	f.create("a", 3)
	l, err := f.Lineage("a")
	f.ok(err)
	r := []streams.Range{l.All()[0].Range, l.All()[1].Range, l.All()[2].Range}
	both := streams.Range{Start: r[0].Start, End: r[1].End}
	for name, c := range map[string]streams.Change{
		"no parents":    {Ranges: halves(r[0])},
		"one into one":  {Parents: []int{0}, Ranges: r[:1]},
		"other range":   {Parents: []int{0}, Ranges: halves(r[1])},
		"with a hole":   {Parents: []int{0}, Ranges: []streams.Range{r[0], r[0]}},
		"not adjacent":  {Parents: []int{0, 2}, Ranges: []streams.Range{both}},
		"wrong order":   {Parents: []int{1, 0}, Ranges: []streams.Range{both}},
		"unknown shard": {Parents: []int{3}, Ranges: halves(r[0])},
	} {
		// One that is right beside it is not made either.
		if _, err := f.Reshard("a", streams.Change{Parents: []int{0, 1}, Ranges: []streams.Range{both}},
			c); err == nil {
			f.Errorf("%s: made after another", name)
		}
		if _, err := f.Reshard("a", c); err == nil {
			f.Errorf("%s: made", name)
		}
	}
	_, err = f.Reshard("a", streams.Change{Parents: []int{3}, Ranges: halves(r[0])})
	f.is(err, streams.ErrShard)
	_, err = f.Reshard("none", streams.Change{Parents: []int{0}, Ranges: halves(r[0])})
	f.is(err, streams.ErrNotFound)
	if l, err := f.Lineage("a"); err != nil || len(l.All()) != 3 {
		f.Fatalf("%d shards, %v", len(l.All()), err)
	}
	_, err = f.Reshard("a", streams.Change{Parents: []int{0}, Ranges: halves(r[0])})
	f.ok(err)
	_, err = f.Reshard("a", streams.Change{Parents: []int{0}, Ranges: halves(r[0])})
	f.is(err, streams.ErrShardClosed)
}

// A batch that Put filled before a change goes where the shards are then.
func testReshardUnderBatch(f *fixture) {
	f.create("a", 1)
	b := f.NewBatch()
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			key := fmt.Sprint("key ", i%7)
			b.Put("a", streams.HashOf(key), streams.Record{Key: key, Data: fmt.Append(nil, i)})
		}
	}
	fill(0, 50)
	_, err := f.Reshard("a", streams.Change{Parents: []int{0}, Ranges: streams.Even(2)})
	f.ok(err)
	fill(50, 100)
	f.ok(f.Commit(f.bounded(), b))
	f.holds("a", 0)
	last := map[string]uint64{}
	for i := range 100 {
		key := fmt.Sprint("key ", i%7)
		_, shard := b.Place(i)
		if want := 1 + streams.ShardOf(key, 2); shard != want {
			f.Errorf("record %d is in shard %d, want %d", i, shard, want)
		}
		recs, err := f.Read("a", shard, b.Offset(i), 1, 0)
		f.ok(err)
		if len(recs) != 1 || string(recs[0].Data) != fmt.Sprint(i) {
			f.Fatalf("record %d: %q at its offset", i, texts(recs))
		}
		if at, ok := last[key]; ok && at >= b.Offset(i) {
			f.Errorf("record %d of %s is before one that came earlier", i, key)
		}
		last[key] = b.Offset(i)
	}
}
