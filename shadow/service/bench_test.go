package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// deltas hears of the deltas that are published.
type deltas struct {
	heard func(topic string, payload []byte)
}

func (d deltas) Publish(topic string, payload []byte) {
	if d.heard != nil && strings.HasSuffix(topic, "/delta") {
		d.heard(topic, payload)
	}
}

// BenchmarkUpdate makes durable updates of 10,000 things' shadows, 256 of them
// at a time, beside the disk's syncs in the same run.
func BenchmarkUpdate(b *testing.B) {
	store, err := boltstore.Open(filepath.Join(b.TempDir(), "shadow.db"), boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	s := New(store, deltas{}, Options{PerThing: -1})
	defer s.Close()
	const things = 10_000
	update := func(n int64) {
		payload := fmt.Sprintf(
			`{"state":{"reported":{"seq":%d,"temperature":21.5,"firmware":"1.4.2","door":{"open":false,"since":17}}}}`,
			n)
		if _, err := s.Do(context.Background(), fmt.Sprint("thing-", n%things), "", shadow.OpUpdate,
			[]byte(payload)); err != nil {
			b.Error(err)
		}
	}
	var next atomic.Int64
	both := func(until int64) {
		var wg sync.WaitGroup
		for range 256 {
			wg.Go(func() {
				for n := next.Add(1); n <= until; n = next.Add(1) {
					update(n)
				}
			})
		}
		wg.Wait()
	}
	both(things) // all exist
	next.Store(0)
	b.ReportAllocs()
	b.ResetTimer()
	both(int64(b.N))
	b.StopTimer()
	rate := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "updates/s")
	syncs := 1 / percentile(syncTimes(b, 200), 0.5).Seconds()
	b.ReportMetric(rate/syncs, "updates/sync-time")
}

// BenchmarkDelta makes 1,000 updates a second of random ones of 10,000 things,
// each due at its time whatever became of the others, and reports how long it
// takes until the delta is published, beside the disk's syncs.
func BenchmarkDelta(b *testing.B) {
	store, err := boltstore.Open(filepath.Join(b.TempDir(), "shadow.db"), boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	var mu sync.Mutex
	due := make(map[string]time.Time)
	var took []time.Duration
	s := New(store, deltas{func(topic string, payload []byte) {
		now := time.Now()
		token, _ := shadow.ParseToken(payload)
		mu.Lock()
		defer mu.Unlock()
		if at, ok := due[token]; ok {
			took = append(took, now.Sub(at))
			delete(due, token)
		}
	}}, Options{PerThing: -1})
	defer s.Close()
	const things, rate = 10_000, 1000
	n := max(b.N, 3*rate)
	before := syncTimes(b, 200)
	b.ResetTimer()
	begin := time.Now()
	for i := range n {
		at := begin.Add(time.Duration(i) * time.Second / rate)
		time.Sleep(time.Until(at))
		token := fmt.Sprint(i)
		mu.Lock()
		due[token] = at
		mu.Unlock()
		payload := fmt.Sprintf(`{"state":{"desired":{"every":%d}},"clientToken":%q}`, i, token)
		s.Handle(context.Background(), fmt.Sprintf("$aws/things/thing-%d/shadow/update", rand.IntN(things)),
			[]byte(payload), func(err error) {
				if err != nil {
					b.Error(err)
				}
			})
	}
	s.Close()
	b.StopTimer()
	if len(took) != n {
		b.Fatalf("%d deltas for %d updates", len(took), n)
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	b.ReportMetric(ms(percentile(took, 0.5)), "p50-ms")
	b.ReportMetric(ms(percentile(took, 0.99)), "p99-ms")
	all := append(before, syncTimes(b, 200)...)
	b.ReportMetric(ms(percentile(all, 0.5)), "sync-p50-ms")
	b.ReportMetric(ms(percentile(all, 0.99)), "sync-p99-ms")
	b.ReportMetric(0, "ns/op")
}

// syncTimes measures syncs of 4 KiB appended to a file.
func syncTimes(b *testing.B, n int) []time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var took []time.Duration
	for range n {
		begin := time.Now()
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	return took
}

func percentile(d []time.Duration, p float64) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[int(p*float64(len(d)-1))]
}
