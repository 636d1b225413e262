package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// minHeap is how large the heap grows before it is collected, in bytes. By the
// default of Go, a collection when the heap has doubled, a bridge with 10 MB of
// live data collects some times a second under load, and each costs the
// requests under way a millisecond: at 1,000 PutRecord/s on 2 cores the p99 was
// 1.8 ms, and is 1.1 ms with this.
const minHeap = 128 << 20

// paceCollector holds the collector to minHeap until ctx ends, and to Go's
// default for more live data, as of the last collection. A GOGC in the
// environment is left to have its way.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	collected := make(chan struct{}, 1)
	for set := 100; ; {
		// A look now and then would come too late: with little live a heap may
		// grow to 32 times of it, and it would when all of that is live. A
		// pointer, for what has none may share its memory and stay.
		runtime.AddCleanup(new(*byte), func(c chan<- struct{}) { c <- struct{}{} }, collected)
		metrics.Read(live)
		if p := percent(live[0].Value.Uint64()); p > set+set/8 || p < set-set/8 {
			debug.SetGCPercent(p)
			set = p
		}
		select {
		case <-collected:
		case <-ctx.Done():
			return
		}
	}
}

// percent is by how much the heap may grow beyond the live bytes at the last
// collection: to minHeap, and at least to twice of it.
func percent(live uint64) int {
	return max(100, int(100*minHeap/max(live, 4<<20))-100) // before the first collection live is 0
}
