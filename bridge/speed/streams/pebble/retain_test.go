package pebble

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A clock is set by the test.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

func retain(t testing.TB, s *Store) {
	t.Helper()
	if err := s.retain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRetentionByTime(t *testing.T) {
	fs := vfs.NewMem()
	var c clock
	o := Options{FS: fs, Now: c.now, RetainEvery: time.Hour}
	s, stop := start(t, "", o)
	create(t, s, "a", streams.Config{Shards: 2, Retention: 10 * time.Millisecond})
	create(t, s, "b", streams.Config{Shards: 1})
	for i := range 100 { // at 0, 1, 2 … ms
		c.ms.Store(int64(i))
		commit(t, s, func(b *streams.Batch) {
			b.Append("a", 0, rec("k", fmt.Sprint(i)), rec("k", "x"))
			b.Append("b", 0, rec("k", fmt.Sprint(i)))
		})
	}
	bounds := func(stream string, shard int, wantOldest, wantNext uint64) {
		t.Helper()
		oldest, next, err := s.Bounds(stream, shard)
		if err != nil || oldest != wantOldest || next != wantNext {
			t.Fatalf("%s/%d: %d to %d, %v; want %d to %d", stream, shard, oldest, next, err, wantOldest, wantNext)
		}
	}
	at := func(ms int64, want uint64) {
		t.Helper()
		off, err := s.OffsetAt("a", 0, time.UnixMilli(ms))
		if err != nil || off != want {
			t.Fatalf("offset at %d ms: %d, %v; want %d", ms, off, err, want)
		}
	}
	at(-5, 0)
	at(0, 0)
	at(50, 100)
	at(99, 198)
	at(100, 200)
	c.ms.Store(15)
	retain(t, s) // older than 5
	bounds("a", 0, 10, 200)
	at(0, 10)
	same(t, "from the oldest", read(t, s, "a", 0, 0, 1, 0)[0].Offset, 10)
	c.ms.Store(60)
	retain(t, s)
	bounds("a", 0, 100, 200)
	bounds("a", 1, 0, 0)
	bounds("b", 0, 0, 100)
	sizeA, _ := s.Size("a")
	stop()

	s, stop = start(t, "", o)
	bounds("a", 0, 100, 200)
	again, _ := s.Size("a")
	same(t, "size after reopening", again, sizeA)
	c.ms.Store(1000)
	retain(t, s)
	bounds("a", 0, 200, 200) // empty, and still knows what is next
	same(t, "records", read(t, s, "a", 0, 0, 0, 0), "[]")
	if n, _ := s.Size("a"); n != (streams.Size{Ever: 200}) {
		t.Fatalf("size of nothing: %+v", n)
	}
	stop()

	s, _ = start(t, "", o)
	bounds("a", 0, 200, 200)
	b := commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "new")) })
	same(t, "next offset", b.Offset(0), 200)
	same(t, "records", texts(read(t, s, "a", 0, 0, 0, 0)), "[200 k=new]")

	// A clock that goes back must not make blocks that look older than those
	// before them.
	c.ms.Store(500)
	commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "newer")) })
	same(t, "times", []int64{read(t, s, "a", 0, 200, 1, 0)[0].Time, read(t, s, "a", 0, 201, 1, 0)[0].Time},
		"[1000 1000]")
}

func TestRetentionBySize(t *testing.T) {
	fs := vfs.NewMem()
	var c clock
	o := Options{FS: fs, Now: c.now, RetainEvery: time.Hour}
	s, stop := start(t, "", o)
	create(t, s, "a", streams.Config{Shards: 3, MaxBytes: 50_000})
	r := rand.New(rand.NewPCG(seed(t), 1))
	newest := map[int]uint64{}
	for i := range 400 {
		c.ms.Store(int64(i))
		commit(t, s, func(b *streams.Batch) {
			shard := r.IntN(3)
			b.Append("a", shard, streams.Record{Data: fmt.Appendf(make([]byte, 400), "%d", i)})
			newest[shard]++
		})
	}
	retain(t, s)
	size, err := s.Size("a")
	if err != nil || size.Bytes > 50_000 || size.Bytes < 45_000 {
		t.Fatalf("size %+v, %v", size, err)
	}
	// The oldest went: what is left is the end of each shard, and nothing left
	// is older than what went.
	first := int64(400)
	for shard := range 3 {
		rs := read(t, s, "a", shard, 0, 0, 0)
		if rs[len(rs)-1].Offset != newest[shard]-1 {
			t.Errorf("shard %d ends at %d", shard, rs[len(rs)-1].Offset)
		}
		first = min(first, rs[0].Time)
	}
	if got := int64(size.Records); got != 400-first {
		t.Errorf("%d records from %d ms on", got, first)
	}
	stop()
	s, _ = start(t, "", o)
	again, _ := s.Size("a")
	same(t, "size after reopening", again, size)
	if err := s.Update("a", 0, 1); err != nil {
		t.Fatal(err)
	}
	for { // Update asks for a look
		if n, _ := s.Size("a"); n.Records == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for shard := range 3 {
		b := commit(t, s, func(b *streams.Batch) { b.Append("a", shard, rec("", "")) })
		same(t, "next", b.Offset(0), newest[shard])
	}
}

// A full stream is trimmed as it is written, not only at the next turn.
func TestRetentionIsKicked(t *testing.T) {
	s, _ := start(t, "", Options{RetainEvery: time.Hour, MemTableSize: 4 << 20})
	create(t, s, "a", streams.Config{Shards: 1, MaxBytes: 1 << 20})
	for range 8 {
		commit(t, s, func(b *streams.Batch) {
			for range 10 {
				b.Append("a", 0, streams.Record{Data: make([]byte, 100_000)})
			}
		})
	}
	for {
		if n, _ := s.Size("a"); n.Bytes < 4<<20 {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

// Readers follow writers without polling, while retention takes the front.
func TestTail(t *testing.T) {
	s, stop := start(t, "", Options{MemTableSize: 256 << 10, RetainEvery: time.Millisecond})
	create(t, s, "a", streams.Config{Shards: 2, MaxBytes: 200_000})
	const writers, each = 4, 150
	var readers, wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for shard := range 2 {
		for _, step := range []int{1, 7, 1000} {
			readers.Go(func() {
				var at uint64
				for at < writers*each {
					if err := s.Wait(ctx, "a", shard, at); err != nil {
						t.Errorf("wait: %v", err)
						return
					}
					rs, err := s.Read("a", shard, at, step, 10_000)
					if err != nil {
						t.Error(err)
						return
					}
					for i, r := range rs {
						if r.Offset < at || i > 0 && r.Offset != at {
							t.Errorf("shard %d: offset %d, want %d", shard, r.Offset, at)
							return
						}
						at = r.Offset + 1
					}
				}
			})
		}
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b := s.NewBatch()
				b.Append("a", 0, streams.Record{Key: "w", Data: make([]byte, i)})
				b.Append("a", 1, streams.Record{Key: "w", Data: fmt.Append(nil, w, i)})
				b.Set([]byte{byte(w)}, []byte{byte(i)})
				if err := s.Commit(ctx, b); err != nil {
					t.Error(err)
				}
				if v, err := s.Get([]byte{byte(w)}); err != nil || v[0] != byte(i) {
					t.Errorf("get: %v, %v", v, err)
				}
			}
		})
	}
	wg.Wait()
	readers.Wait()
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(ctx, "a", 0, 1<<40) }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	go func() { waiting <- s.Wait(context.Background(), "a", 0, 1<<40) }()
	stop()
	if err := <-waiting; !errors.Is(err, streams.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
}

// Thousands of shards that nobody uses cost nothing, and are opened at once.
func TestIdleShards(t *testing.T) {
	fs := vfs.NewMem()
	s, stop := start(t, "", Options{FS: fs})
	for i := range 10 {
		create(t, s, fmt.Sprint("s", i), streams.Config{Shards: streams.MaxShards})
	}
	commit(t, s, func(b *streams.Batch) {
		for i := range 150 { // many shards of one batch
			b.Append("s7", i*13%streams.MaxShards, rec(fmt.Sprint(i), "x"))
		}
	})
	stop()
	s, _ = start(t, "", Options{FS: fs})
	for _, st := range s.all() {
		if len(st.shards) != 0 {
			t.Fatalf("%s has %d shards in memory", st.name, len(st.shards))
		}
	}
	for i := range 150 {
		same(t, "record", texts(read(t, s, "s7", i*13%streams.MaxShards, 0, 0, 0)), fmt.Sprintf("[0 %d=x]", i))
	}
}

// Run looks by itself: hours pass in a bubble.
func TestRetentionRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := start(t, "", Options{RetainEvery: 10 * time.Minute})
		create(t, s, "a", streams.Config{Shards: 1, Retention: 3 * time.Hour})
		for range 6 {
			commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "hourly")) })
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		oldest, next, err := s.Bounds("a", 0)
		if err != nil || next != 6 || oldest < 2 || oldest > 3 {
			t.Errorf("%d to %d, %v", oldest, next, err)
		}
		stop()
	})
}
