package connector

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/crashtest"
	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A process runs a connector until it dies.
type process struct {
	*Local
	*crashtest.Process
	emit *objects
	rand *rand.Rand
}

func (p *process) Create(ctx context.Context, l Lease) error {
	return p.Do(func() error { return p.Local.Create(ctx, l) })
}

func (p *process) Update(ctx context.Context, l *Lease) error {
	return p.Do(func() error { return p.Local.Update(ctx, l) })
}

func (p *process) Delete(ctx context.Context, l Lease) error {
	return p.Do(func() error { return p.Local.Delete(ctx, l) })
}

func (p *process) Emit(ctx context.Context, b *Batch) ([]Failure, error) {
	return nil, p.Do(func() error {
		if _, err := p.emit.Emit(ctx, b); err != nil {
			return err
		}
		if p.rand.IntN(10) == 0 {
			return errors.New("written, but the answer was lost")
		}
		return nil
	})
}

func (p *process) Close() error { return nil }

// A crash test: processes that die at any write, in the middle of splits and
// merges. In the end each record is in exactly one named batch, none is
// missing, and those of a key were first written in their order.
func TestCrash(t *testing.T) {
	var sum struct{ records, batches, writes, deaths, shards int }
	seed, n := crashtest.Histories(t, 60, func(t *testing.T, _ uint64, r *rand.Rand) {
		h := crashHistory(t, r)
		sum.records += h.records
		sum.batches += len(h.out.named)
		sum.writes += h.out.writes
		sum.deaths += h.deaths
		sum.shards += len(h.stream.shards)
	})
	t.Logf("%d histories from seed %d: %d records in %d shards, %d batches written %d times, %d crashes",
		n, seed, sum.records, sum.shards, sum.batches, sum.writes, sum.deaths)
}

type history struct {
	stream  *fakeStream
	out     *objects
	records int
	deaths  int
}

func crashHistory(t *testing.T, r *rand.Rand) *history {
	h := &history{stream: newFakeStream(1 + r.IntN(3)), out: &objects{}}
	h.stream.page = 1 + r.IntN(30)
	leases := inMemory()
	seeds := make(chan uint64, 100_000)
	for range cap(seeds) {
		seeds <- r.Uint64()
	}
	stop, halt := context.WithCancel(t.Context())
	calm, relax := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	risk := r.Float64() * 0.03
	for range 1 + r.IntN(3) {
		wg.Go(func() {
			for stop.Err() == nil {
				rr := rand.New(rand.NewPCG(<-seeds, 1))
				ctx, die := context.WithCancel(stop)
				now := risk
				if calm.Err() != nil {
					now = 0
				}
				p := &process{leases, crashtest.NewProcess(rr, now, die), h.out, rr}
				c := New(Config{
					Name: "c", Source: h.stream, Emitter: p, Leases: p, Workers: 1 + rr.IntN(2),
					Records: 1 + rr.IntN(20), Bytes: 200 + rr.IntN(1000),
					Age:       time.Duration(1+rr.IntN(20)) * time.Second,
					SyncEvery: 20 * time.Second, FlushTime: 3 * time.Second,
				})
				c.Run(ctx)
				if _, died := p.Ended(); died {
					mu.Lock()
					h.deaths++
					mu.Unlock()
				}
				die()
				_ = sleep(stop, time.Duration(rr.IntN(15))*time.Second)
			}
		})
	}
	h.produce(r)
	relax()
	deadline := time.Now().Add(2 * time.Hour)
	for len(h.out.data()) < h.records && time.Now().Before(deadline) {
		time.Sleep(10 * time.Second)
	}
	halt()
	wg.Wait()
	h.check(t)
	return h
}

// produce puts records of some keys, numbered for each key, plain and in
// containers, while shards are split and merged.
func (h *history) produce(r *rand.Rand) {
	count := map[string]int{}
	next := func(key string) []byte {
		count[key]++
		h.records++
		return []byte(key + "/" + strconv.Itoa(count[key]) + strings.Repeat(" ", r.IntN(30)))
	}
	for range 200 {
		time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
		open := len(h.stream.open())
		switch n := r.IntN(40); {
		case n == 0 && open < 8:
			h.stream.split(r.IntN(open))
		case n == 1 && open > 1:
			h.stream.merge(r.IntN(open - 1))
		case n < 10: // a container of keys of one shard
			s := h.stream.open()[r.IntN(open)]
			var recs []kpl.Record
			for range 1 + r.IntN(40) {
				if key := fmt.Sprintf("k%d", r.IntN(30)); s.Range.Contains(streams.HashOf(key)) {
					recs = append(recs, kpl.Record{Key: key, Data: next(key)})
				}
			}
			if len(recs) > 0 {
				h.stream.putPacked(s.Range.Start, recs)
			}
		case n < 12 && open > 1: // one that hit a wrong shard
			s := h.stream.open()[r.IntN(open)]
			for i := range 100 {
				if key := fmt.Sprintf("other%d", i); !s.Range.Contains(streams.HashOf(key)) {
					h.stream.putPacked(s.Range.Start, []kpl.Record{{Key: key, Data: []byte(key + "/1")}})
					break
				}
			}
		default:
			for range 1 + r.IntN(5) {
				key := fmt.Sprintf("k%d", r.IntN(30))
				h.stream.put(key, next(key))
			}
		}
	}
}

func (h *history) check(t *testing.T) {
	if h.out.bad != "" {
		t.Error(h.out.bad)
	}
	times := map[string]int{}
	for _, items := range h.out.named {
		for _, it := range items {
			times[strings.TrimSpace(string(it.Data))]++
		}
	}
	last := map[string]int{}
	for _, text := range h.out.data() {
		key, number, _ := strings.Cut(strings.TrimSpace(text), "/")
		n, err := strconv.Atoi(number)
		if err != nil || n != last[key]+1 {
			t.Errorf("%s was written after number %d of its key", text, last[key])
		}
		last[key] = n
	}
	for text, n := range times {
		if n != 1 {
			t.Errorf("%s is in %d batches", text, n)
		}
	}
	if len(times) != h.records {
		t.Errorf("%d records were put, %d are in batches", h.records, len(times))
	}
}
