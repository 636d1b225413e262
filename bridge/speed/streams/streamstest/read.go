package streamstest

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func testRead(f *fixture) {
	f.create("a", 2)
	recs, err := f.Read("a", 0, 0, 10, 10)
	f.ok(err)
	if len(recs) > 0 {
		f.Errorf("%d records of an empty shard", len(recs))
	}
	var at []uint64
	for i := range 3 { // three batches of four
		b := f.commit(func(b *streams.Batch) {
			for j := range 4 {
				b.Append("a", 0, streams.Record{Key: "key", Data: fmt.Append(nil, "record ", i*4+j)})
			}
		})
		for j := range 4 {
			at = append(at, b.Offset(j))
		}
	}
	const size = len("key") + len("record 0")
	for _, c := range []struct {
		from           uint64
		records, bytes int
		first, n       int
	}{
		{0, 0, 0, 0, 12},
		{0, -1, -1, 0, 12},
		{at[0], 1, 0, 0, 1},
		{at[3], 5, 0, 3, 5},
		{at[2], 0, 2 * size, 2, 2},
		{at[2], 0, 2*size - 1, 2, 1},
		{at[2], 0, 1, 2, 1},
		{at[11], 100, 1 << 20, 11, 1},
		{at[11] + 1, 100, 1 << 20, 12, 0},
		{at[11] + 1000, 100, 1 << 20, 12, 0},
	} {
		recs, err := f.Read("a", 0, c.from, c.records, c.bytes)
		f.ok(err)
		if len(recs) != c.n {
			f.Errorf("from %d, at most %d of %d bytes: %d records, want %d", c.from, c.records, c.bytes, len(recs), c.n)
			continue
		}
		for i, r := range recs {
			if want := fmt.Sprint("record ", c.first+i); string(r.Data) != want || r.Key != "key" ||
				r.Offset != at[c.first+i] {
				f.Errorf("from %d: record %d is %+v, want %s at %d", c.from, i, r, want, at[c.first+i])
			}
		}
	}
	f.holds("a", 1)
	_, err = f.Read("none", 0, 0, 0, 0)
	f.is(err, streams.ErrNotFound)
	for _, shard := range []int{2, -1} {
		_, err = f.Read("a", shard, 0, 0, 0)
		f.is(err, streams.ErrShard)
	}
}

// Who waits is woken by what Read then returns.
func testWait(f *fixture) {
	f.create("a", 2)
	var got []string
	done := make(chan error, 1)
	const n = 100
	go func() {
		for at := uint64(0); len(got) < n; {
			if err := f.Wait(f.bounded(), "a", 0, at); err != nil {
				done <- err
				return
			}
			recs, err := f.Read("a", 0, at, 7, 0)
			if err == nil && len(recs) == 0 {
				err = fmt.Errorf("nothing to read at %d after Wait", at)
			}
			if err != nil {
				done <- err
				return
			}
			got = append(got, texts(recs)...)
			at = recs[len(recs)-1].Offset + 1
		}
		done <- nil
	}()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
		f.put("a", 1, "beside")
		f.put("a", 0, want[i])
	}
	f.ok(<-done)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Errorf("followed %q", got)
	}
	f.ok(f.Wait(f.bounded(), "a", 0, 0)) // one that is there

	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	f.is(f.Wait(short, "a", 0, 1<<40), context.DeadlineExceeded)
}

// Who waits in vain is told why.
func testWaitEnds(f *fixture) {
	f.is(f.Wait(f.bounded(), "none", 0, 0), streams.ErrNotFound)
	f.create("deleted", 1)
	f.create("split", 1)
	f.create("kept", 1)
	f.is(f.Wait(f.bounded(), "kept", 1, 0), streams.ErrShard)
	tip := f.put("split", 0, "last")[0] + 1
	log := f.running
	waits := map[string]chan error{}
	for name, from := range map[string]uint64{"deleted": 0, "split": tip, "kept": 0} {
		told := make(chan error, 1)
		waits[name] = told
		go func() { told <- log.Wait(f.bounded(), name, 0, from) }()
	}
	// They wait by then, most likely; else the test asks for less than it can.
	time.Sleep(20 * time.Millisecond)
	f.ok(f.Delete("deleted"))
	f.is(<-waits["deleted"], streams.ErrNotFound)
	_, err := f.Reshard("split", streams.Change{Parents: []int{0}, Ranges: streams.Even(2)})
	f.ok(err)
	f.is(<-waits["split"], streams.ErrShardClosed)
	f.ok(f.Wait(f.bounded(), "split", 0, tip-1)) // its last record is still there
	select {
	case err := <-waits["kept"]:
		f.Errorf("a wait for nothing ended with %v", err)
	default:
	}
	f.restart()
	f.is(<-waits["kept"], streams.ErrClosed)
}

func testOffsetAt(f *fixture) {
	f.create("a", 1)
	first := f.put("a", 0, "one")[0]
	recs := f.all("a", 0)
	time.Sleep(5 * time.Millisecond) // the next has another time
	second := f.put("a", 0, "two")[0]
	_, next, err := f.Bounds("a", 0)
	f.ok(err)
	at := time.UnixMilli(recs[0].Time)
	for _, c := range []struct {
		t    time.Time
		want uint64
	}{
		{time.Time{}, first},
		{at, first},
		{at.Add(time.Millisecond), second},
		{time.Now().Add(24 * time.Hour), next},
	} {
		if got, err := f.OffsetAt("a", 0, c.t); err != nil || got != c.want {
			f.Errorf("offset at %v: %d, %v; want %d", c.t, got, err, c.want)
		}
	}
	_, err = f.OffsetAt("a", 1, at)
	f.is(err, streams.ErrShard)
}

// Trim takes nothing from before on, and never lets a shard's numbers go back.
func testTrim(f *fixture) {
	f.create("a", 2)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
	}
	at := f.put("a", 0, want...)
	f.put("a", 1, "beside")
	f.ok(f.Trim("a", 0, 0))
	f.holds("a", 0, want...)
	f.ok(f.Trim("a", 0, at[10]))
	f.holds("a", 0, want[10:]...) // each was a commit of its own
	f.counts("a", 0, 0, 10)
	f.counts("a", 0, at[15], 5)
	f.counts("a", 0, at[19]+1, 0)
	recs, err := f.Read("a", 0, 0, 1, 0)
	f.ok(err)
	if len(recs) != 1 || recs[0].Offset != at[10] {
		f.Errorf("from 0 on: %+v", recs)
	}
	f.ok(f.Trim("a", 0, at[5])) // less than before is nothing
	f.holds("a", 0, want[10:]...)
	f.ok(f.Trim("a", 0, 1<<40))
	f.holds("a", 0)
	f.counts("a", 0, 0, 0)
	f.holds("a", 1, "beside")
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	f.is(f.Wait(short, "a", 0, 0), context.DeadlineExceeded) // else who reads from 0 would spin
	f.restart()
	_, next, err := f.Bounds("a", 0)
	f.ok(err)
	if next <= at[19] {
		f.Errorf("the next offset went back to %d", next)
	}
	if got := f.put("a", 0, "more")[0]; got <= at[19] {
		f.Errorf("offset %d was given again", got)
	}
	f.is(f.Trim("none", 0, 0), streams.ErrNotFound)
	f.is(f.Trim("a", 2, 0), streams.ErrShard)
}

// Records go when they are older than their stream's retention, not before.
func testRetention(f *fixture) {
	clock, ok := f.engine.(Clock)
	if !ok {
		f.Skip("the engine's time cannot be moved")
	}
	f.ok(f.Create("short", streams.Config{Shards: 1, Retention: time.Hour}))
	f.create("long", 1)
	f.put("short", 0, "old")
	f.put("long", 0, "old")
	was := f.Expiry()
	clock.Advance(30 * time.Minute)
	if d := f.Expiry().Sub(was); d < 30*time.Minute || d > 40*time.Minute {
		f.Errorf("retention's time moved by %v", d)
	}
	f.put("short", 0, "young")
	f.holds("short", 0, "old", "young")
	clock.Advance(31 * time.Minute)
	f.until(func() bool { return len(f.all("short", 0)) == 1 })
	f.holds("short", 0, "young")
	f.holds("long", 0, "old")
}

// until waits for a state.
func (f *fixture) until(is func() bool) {
	f.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.Fatal("it does not come")
		}
	}
}
