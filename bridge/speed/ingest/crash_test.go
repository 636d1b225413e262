package ingest

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")
	powerCuts = flag.Int("powercuts", 8, "how many power cuts TestExactlyOnce makes")
)

// A device sends the batches of its spool in order, a window of them at once,
// and forgets those that were acknowledged, as agent/spool does.
type device struct {
	name string
	mu   sync.Mutex
	next uint64          // sequence of its next batch
	kept map[uint64]bool // not acknowledged
}

// send is one connection: it sends all it keeps, oldest first, then new ones,
// and breaks off without waiting for answers. Acknowledged ones are sometimes
// sent again, since a device may die between PUBACK and its own flash.
func (d *device) send(t testing.TB, in *Ingest, r *rand.Rand, fresh int) {
	d.mu.Lock()
	var seqs []uint64
	for s := uint64(1); s < d.next; s++ {
		if d.kept[s] || r.IntN(20) == 0 {
			seqs = append(seqs, s)
		}
	}
	for range fresh {
		d.kept[d.next] = true
		seqs = append(seqs, d.next)
		d.next++
	}
	d.mu.Unlock()
	for _, s := range seqs {
		in.Publish(send(d.name, batch(t, 7, s, "a", "b")), nil, func(err error) {
			if err == nil {
				d.mu.Lock()
				delete(d.kept, s)
				d.mu.Unlock()
			}
		})
	}
}

// Every reading of every batch is in the log once and in order, whatever was
// sent again and wherever the power went.
func TestExactlyOnce(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	devices := make([]*device, 3)
	for i := range devices {
		devices[i] = &device{name: fmt.Sprint("t", i), next: 1, kept: map[uint64]bool{}}
	}
	fs := vfs.NewCrashableMem()
	for cut := range *powerCuts {
		b := open(t, fs, Options{Lanes: 2})
		b.run()
		var wg sync.WaitGroup
		for i, d := range devices {
			// An old connection that isn't dead, and a new one. Each sends all that
			// is kept up to its last, in order.
			for conn := range 2 {
				r := rand.New(rand.NewPCG(seed, uint64(100*cut+10*i+conn)))
				wg.Go(func() {
					for range 1 + r.IntN(4) {
						d.send(t, b.in, r, r.IntN(5))
						time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
					}
				})
			}
		}
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		// Nothing that is acknowledged from here on counts.
		kept, next := make([]map[uint64]bool, len(devices)), make([]uint64, len(devices))
		for i, d := range devices {
			d.mu.Lock()
			kept[i], next[i] = maps.Clone(d.kept), d.next
			d.mu.Unlock()
		}
		cutFS := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		wg.Wait()
		b.stop()
		for i, d := range devices {
			for s := next[i]; s < d.next; s++ {
				kept[i][s] = true
			}
			d.kept = kept[i]
		}
		fs = cutFS
	}
	b := open(t, fs, Options{})
	b.run()
	for _, d := range devices {
		d.send(t, b.in, r, 1)
	}
	for _, d := range devices { // the last answers
		b.must(send(d.name, batch(t, 8, 1, "end")), nil)
	}
	got := map[string][]string{}
	for _, m := range b.all(Stream) {
		if m.Topic != "dt/"+m.Thing+"/end" {
			got[m.Thing] = append(got[m.Thing], m.Topic+" "+string(m.Payload))
		}
	}
	for _, d := range devices {
		if len(d.kept) > 0 {
			t.Errorf("%s: %d batches without an answer", d.name, len(d.kept))
		}
		var want []string
		for s := uint64(1); s < d.next; s++ {
			want = append(want, reading(d.name, "a", s), reading(d.name, "b", s))
		}
		if fmt.Sprint(got[d.name]) != fmt.Sprint(want) {
			t.Errorf("%s:\ngot  %v\nwant %v", d.name, got[d.name], want)
		}
		t.Logf("%s: %d batches", d.name, d.next-1)
	}
}
