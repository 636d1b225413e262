package streamstest

import (
	"context"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// skip stops the log, has it go on behind a gap, and starts it again.
func (f *fixture) skip() {
	f.Helper()
	s, ok := f.engine.(Skipper)
	if !ok {
		f.Skip("the engine leaves no gaps")
	}
	f.engine.Stop(f)
	s.Skip(f)
	f.start()
}

// waits fails unless Wait finds nothing from an offset on.
func (f *fixture) waits(stream string, shard int, from uint64) {
	f.Helper()
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	f.is(f.Wait(short, stream, shard, from), context.DeadlineExceeded)
}

// Readers walk over a gap: it is no loss, no records, and nothing to wait for.
func testGap(f *fixture) {
	f.create("a", 2)
	at := f.put("a", 0, "1", "2", "3")
	tip := at[2] + 1
	for range 2 { // a second gap right behind the first is one with it
		f.skip()
		f.holds("a", 0, "1", "2", "3")
		f.counts("a", 0, 0, 3)
		f.counts("a", 0, tip, 0)
		f.counts("a", 0, tip+1000, 0)
		_, next, err := f.Bounds("a", 0)
		f.ok(err)
		if next < tip+1<<40 {
			f.Fatalf("the next offset is %d, was %d before", next, tip)
		}
		f.waits("a", 0, tip)   // who has read all, and
		f.waits("a", 0, tip+1) // who read more of what was after the backup
		f.waits("a", 0, next)  // or is at the new tip
		f.waits("a", 1, 0)     // a shard that never had a record
		recs, err := f.Read("a", 0, tip, 10, 0)
		f.ok(err)
		if len(recs) > 0 {
			f.Errorf("in the gap is %+v", recs)
		}
	}
	_, next, err := f.Bounds("a", 0)
	f.ok(err)
	woken := make(chan error, 1)
	go func() { woken <- f.Wait(f.bounded(), "a", 0, tip) }()
	if got := f.put("a", 0, "4")[0]; got != next {
		f.Errorf("the first after the gap has offset %d, want %d", got, next)
	}
	f.ok(<-woken)
	for range 2 {
		f.holds("a", 0, "1", "2", "3", "4")
		recs, err := f.Read("a", 0, tip+5, 10, 0)
		f.ok(err)
		if len(recs) != 1 || recs[0].Offset != next {
			f.Errorf("from within the gap: %+v", recs)
		}
		f.counts("a", 0, at[1], 3)
		f.counts("a", 0, tip+5, 1)
		size, err := f.Size("a")
		f.ok(err)
		if size.Records != 4 || size.Ever != 4 {
			f.Errorf("%d records, %d ever; want 4", size.Records, size.Ever)
		}
		back, err := streams.Back(f, "a", 0, next+1, 2)
		f.ok(err)
		if recs, err := f.Read("a", 0, back, 10, 0); err != nil || len(recs) != 2 || recs[0].Offset != at[2] {
			f.Errorf("the last two are %+v, %v", recs, err)
		}
		f.restart()
	}
	f.skip()
	f.skip()
	f.put("a", 0, "5")
	f.holds("a", 0, "1", "2", "3", "4", "5")
	f.counts("a", 0, 0, 5)
}

// A gap at the end of a shard that is trimmed, deleted or split.
func testGapAtEnd(f *fixture) {
	f.create("a", 1)
	f.create("split", 1)
	f.create("gone", 1)
	tip := f.put("a", 0, "1", "2")[1] + 1
	f.put("split", 0, "1")
	f.put("gone", 0, "1")
	was, err := f.Describe("gone")
	f.ok(err)
	f.skip()

	// Who read all up to the gap is not told that records were lost.
	f.ok(f.Trim("a", 0, tip))
	oldest, next, err := f.Bounds("a", 0)
	f.ok(err)
	if oldest > tip || next < tip+1<<40 {
		f.Errorf("after a trim the shard has %d to %d", oldest, next)
	}
	f.counts("a", 0, 0, 0)
	f.waits("a", 0, 0)
	first := f.put("a", 0, "3")[0]
	f.put("a", 0, "4")
	f.ok(f.Trim("a", 0, first))
	if oldest, _, err := f.Bounds("a", 0); err != nil || oldest > tip {
		f.Errorf("what came after the gap begins at %d, %v", oldest, err)
	}
	f.holds("a", 0, "3", "4")
	f.ok(f.Trim("a", 0, next+1<<40))
	f.restart()
	if _, now, err := f.Bounds("a", 0); err != nil || now != first+2 {
		f.Errorf("trimmed, the shard goes on at %d, %v; want %d", now, err, first+2)
	}

	made, err := f.Reshard("split", streams.Change{Parents: []int{0}, Ranges: streams.Even(2)})
	f.ok(err)
	if made[0].Index < 1000 {
		f.Errorf("a shard of after the gap has index %d", made[0].Index)
	}
	for range 2 {
		f.is(f.Wait(f.bounded(), "split", 0, 1), streams.ErrShardClosed)
		f.holds("split", 0, "1")
		sh, err := streams.ShardAt(f, "split", 0)
		f.ok(err)
		if n, err := f.Count("split", 0, sh.End); err != nil || n != 0 {
			f.Errorf("%d records after the end, %v", n, err)
		}
		f.restart()
	}

	f.ok(f.Delete("gone"))
	f.create("gone", 1)
	is, err := f.Describe("gone")
	f.ok(err)
	if is.ID < was.ID+1000 {
		f.Errorf("a stream of after the gap has id %d, %d before", is.ID, was.ID)
	}
	if at := f.put("gone", 0, "1")[0]; at != 0 {
		f.Errorf("a new stream begins at %d", at)
	}
}
