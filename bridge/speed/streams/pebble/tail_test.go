package pebble

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Reads from the newest blocks in memory and reads from the database give the
// same, whatever is asked: random appends, trims, followers and reads.
func TestTailReadsAsTheDatabase(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s, _ := start(t, "", Options{})
	create(t, s, "a", streams.Config{Shards: 1})
	sh, err := s.shard("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	followed := 0
	for range 500 {
		switch rng.IntN(5) {
		case 0, 1:
			commit(t, s, func(b *streams.Batch) {
				for range 1 + rng.IntN(20) {
					b.Append("a", 0, rec("k"+strconv.Itoa(rng.IntN(3)), strings.Repeat("x", rng.IntN(3000))))
				}
			})
		case 2:
			sh.mu.Lock()
			sh.follow(s)
			sh.mu.Unlock()
		case 3:
			oldest, next := sh.bounds()
			if err := s.Trim("a", 0, oldest+(next-oldest)/4); err != nil {
				t.Fatal(err)
			}
		}
		oldest, next := sh.bounds()
		from := oldest + rng.Uint64N(next-oldest+2)
		if rng.IntN(2) == 0 { // near the tip
			from = next - min(next, rng.Uint64N(30))
		}
		maxRecords, maxBytes := rng.IntN(60), rng.IntN(40_000)
		got, err := s.Read("a", 0, from, maxRecords, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if len(sh.recent(nil, max(from, oldest), 1)) > 0 {
			followed++
		}
		sh.mu.Lock()
		kept := sh.tail
		sh.tail = tail{}
		sh.mu.Unlock()
		want, err := s.Read("a", 0, from, maxRecords, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		sh.mu.Lock()
		sh.tail = kept
		sh.mu.Unlock()
		if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("from %d of %d to %d, %d records, %d bytes: %d records from memory, %d from the database", from,
				oldest, next,
				maxRecords, maxBytes, len(got), len(want))
		}
	}
	if followed < 20 {
		t.Errorf("only %d reads found their records in memory", followed)
	}
}

// Whoever waits gets the records that come from memory; a shard that nobody
// reads any more keeps none, nor one that is deleted.
func TestTailEnds(t *testing.T) {
	s, _ := start(t, "", Options{})
	create(t, s, "a", streams.Config{Shards: 1})
	sh, err := s.shard("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(size int) {
		commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", strings.Repeat("x", size))) })
	}
	held := func() (blocks, bytes int) {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		return len(sh.tail.blocks), sh.tail.bytes
	}
	follow := func(from uint64) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Wait(ctx, "a", 0, from); err != context.Canceled {
			t.Fatal(err)
		}
	}
	if put(10); sh.followed.Load() {
		t.Fatal("blocks are kept for nobody")
	}
	follow(1)
	for range 2 * tailBytes / 10_000 {
		put(10_000)
	}
	if n, bytes := held(); n == 0 || bytes > tailBytes {
		t.Fatalf("%d blocks of %d bytes are kept, want at most %d bytes", n, bytes, tailBytes)
	}
	for range 4 * tailBytes / 10_000 {
		put(10_000)
	}
	if n, _ := held(); n != 0 || s.followed.Load() != 0 {
		t.Fatalf("%d blocks are kept of %d shards, though nobody reads", n, s.followed.Load())
	}
	_, next := sh.bounds()
	follow(next)
	put(10)
	sh.mu.Lock()
	sh.tip = nil // nobody waits
	sh.mu.Unlock()
	sh.idle(s)
	if n, _ := held(); n != 1 {
		t.Fatalf("%d blocks are kept a moment after they came", n)
	}
	if sh.idle(s); s.followed.Load() != 0 {
		t.Fatal("a shard without a reader is followed")
	}
	follow(next + 1)
	put(10)
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if n, _ := held(); n != 0 || s.followed.Load() != 0 {
		t.Fatalf("%d blocks are kept of %d shards after the delete", n, s.followed.Load())
	}
}

// A group that was written while nobody followed is not in memory: what came
// before it is not either then, or a reader would go from there past the group.
func TestTailHasNoGap(t *testing.T) {
	s, _ := start(t, "", Options{})
	create(t, s, "a", streams.Config{Shards: 1})
	sh, err := s.shard("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", text)) })
	}
	locked := func(f func()) {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		f()
	}
	locked(func() { sh.follow(s) })
	put("before")
	locked(func() { // its group was written, and is shown after nobody follows any more
		group := &touch{tail: append([]tailBlock(nil), sh.tail.blocks...)}
		sh.unfollow(s)
		sh.keep(s, group)
	})
	put("unfollowed")
	locked(func() { sh.follow(s) })
	put("after")
	for from, want := range []string{"[0 k=before 1 k=unfollowed 2 k=after]", "[1 k=unfollowed 2 k=after]",
		"[2 k=after]"} {
		if got := fmt.Sprint(texts(read(t, s, "a", 0, uint64(from), 10, 1000))); got != want {
			t.Errorf("from %d: %s, want %s", from, got, want)
		}
	}
}
