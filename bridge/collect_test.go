package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 380, 4 << 20: 380, 16 << 20: 200, 24 << 20: 100, 65 << 20: 100, 1 << 40: 100} {
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
// registry is read: after each collection the heap may grow by the share that is
// right for it, and no more. How far it gets is the machine's load: what is
// allocated while a collection is under way counts as live.
func TestPaceFollows(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		paceCollector(ctx)
	}()
	defer func() { stop(); <-done }()
	heap := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/cycles/total:gc-cycles"}}
	for metrics.Read(heap); heap[0].Value.Uint64() < 200; metrics.Read(heap) {
		runtime.Gosched() // until it paces
	}
	// paced waits until the pacer has seen the last collection, for a minute at
	// most: on a busy machine it may be long until it is its turn.
	paced := func() {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); runtime.Gosched() {
			metrics.Read(heap)
			set, p := int(heap[0].Value.Uint64()), percent(readHeap().live)
			if p <= set+set/8 && p >= set-set/8 {
				return
			}
		}
		t.Fatal("the pace does not follow the last collection")
	}
	const size = 64 << 10
	var live [][]byte
	for range 2 * minHeap / size {
		live = append(live, make([]byte, size))
	}
	paced()
	var cycles uint64
	for i := range 1 << 30 / size {
		last = make([]byte, size)
		if i%100 != 0 {
			continue
		}
		if metrics.Read(heap); heap[1].Value.Uint64() != cycles {
			cycles = heap[1].Value.Uint64()
			paced()
		}
	}
	runtime.GC()
	paced()
	runtime.KeepAlive(live)
	metrics.Read(heap)
	if pace := heap[0].Value.Uint64(); pace > 112 {
		t.Errorf("the heap may grow by %d %% with %d MB live", pace, len(live)*size>>20)
	}
	last = nil
}

// last is kept on the heap.
var last []byte
