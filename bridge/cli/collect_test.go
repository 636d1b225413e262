package cli

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 260, 4 << 20: 260, 12 << 20: 200, 18 << 20: 100, 32 << 20: 50,
		63 << 20: 50, 64 << 20: 100, 1 << 40: 100} {
		if got := percent(live); got != want {
			t.Errorf("%d live bytes: %d, want %d", live, got, want)
		}
	}
}

// A burst's memory is spare once it is over: not while much is allocated, not
// when there is little to be had, and not again after it was given back.
func TestSpare(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		h    heap
		want bool
	}{
		"after a burst":  {heap{live: 10 * mb, held: 48 * mb, allocated: 101 * mb}, true},
		"under load":     {heap{live: 10 * mb, held: 48 * mb, allocated: 105 * mb}, false},
		"given back":     {heap{live: 10 * mb, held: 13 * mb, allocated: 101 * mb}, false},
		"much is live":   {heap{live: 400 * mb, held: 500 * mb, allocated: 101 * mb}, false},
		"much was freed": {heap{live: 400 * mb, held: 600 * mb, allocated: 101 * mb}, true},
	} {
		if got := c.h.isSpare(heap{allocated: 100 * mb}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What is live may grow by more than minHeap in a moment, such as when a large
// registry is read: the pace follows, or the heap would grow to five times of it.
func TestPaceFollows(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	runtime.GC() // what other tests left is not live
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		paceCollector(ctx)
	}()
	defer func() { stop(); <-done }()
	heap := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for metrics.Read(heap); heap[0].Value.Uint64() < 200; metrics.Read(heap) {
		runtime.Gosched() // until it paces
	}
	const size = 64 << 10
	var live [][]byte
	for range 2 * minHeap / size {
		live = append(live, make([]byte, size))
	}
	for range 64 * minHeap / size { // about 60 collections, were the pace to stay
		last = make([]byte, size)
		if metrics.Read(heap); heap[0].Value.Uint64() == 100 {
			break
		}
	}
	if p := heap[0].Value.Uint64(); p != 100 {
		t.Errorf("the heap may grow by %d %% with %d MB live, want 100 %%", p, len(live)*size>>20)
	}
	last = nil
	runtime.KeepAlive(live)
}

// last is kept on the heap.
var last []byte
