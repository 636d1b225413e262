package cli

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// minHeap is how large the heap grows before it is collected, in bytes. By the
// default of Go, a collection when the heap has doubled, a bridge with 10 MB of
// live data collects some times a second under load, and each costs the
// requests under way a millisecond: at 1,000 PutRecord/s on 2 cores that is
// their p99. With this there is one in two seconds, which the p99 does not see.
const minHeap = 36 << 20

// A heap with less than smallHeap bytes live grows by smallGrowth percent at least
// before it is collected, a larger one by 100, as is Go's default. Much of a small one
// are the log's newest records, which hold no pointers and cost a collection nothing.
const (
	smallHeap   = 64 << 20
	smallGrowth = 50
)

// What was a burst's memory is given back to the system when the bridge is
// quiet: when less than quietBytes were allocated in quietTime, and there are
// spareBytes at least to be had.
const (
	quietTime  = 5 * time.Second
	quietBytes = 4 << 20
	spareBytes = 16 << 20
)

// paceCollector holds the collector to minHeap until ctx ends, and to Go's
// default for more live data, as of the last collection; and gives memory back
// after a burst. A GOGC in the environment is left to have its way.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	collected := make(chan struct{}, 1)
	quiet := time.NewTicker(quietTime)
	defer quiet.Stop()
	var before heap
	for set, watched := 100, false; ; {
		if !watched {
			// A look now and then would come too late: with little live a heap may
			// grow to five times of it, and it would when all of that is live. A
			// pointer, for what has none may share its memory and stay.
			runtime.AddCleanup(new(*byte), func(c chan<- struct{}) { c <- struct{}{} }, collected)
			watched = true
		}
		if p := percent(readHeap().live); p > set+set/8 || p < set-set/8 {
			debug.SetGCPercent(p)
			set = p
		}
		select {
		case <-collected:
			watched = false
		case <-quiet.C:
			now := readHeap()
			if now.isSpare(before) {
				debug.FreeOSMemory()
			}
			before = now
		case <-ctx.Done():
			return
		}
	}
}

// percent is by how much the heap may grow beyond the live bytes at the last
// collection: to minHeap, and at least by half, if much is live to twice of it.
func percent(live uint64) int {
	least := 100
	if live < smallHeap {
		least = smallGrowth
	}
	return max(least, int(100*minHeap/max(live, leastLive))-100)
}

// leastLive is about what a bridge holds that has nothing to do. To take it for
// more than there is bounds the heap at a sudden growth, such as when a large
// registry is read: the collection after it is paced by what was live before.
const leastLive = 10 << 20

// A heap is what the runtime tells of it, in bytes.
type heap struct {
	live      uint64 // after the last collection
	held      uint64 // of the system's memory, for objects dead or alive and for none
	allocated uint64 // since the start
}

func readHeap() heap {
	m := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(m)
	of := func(i int) uint64 { return m[i].Value.Uint64() }
	return heap{live: of(0), allocated: of(1), held: of(2) + of(3) + of(4)}
}

// isSpare says whether a collection now would give memory back and hinder
// nobody.
func (h heap) isSpare(before heap) bool {
	return h.allocated-before.allocated < quietBytes && h.held > h.live+h.live/4+spareBytes
}
