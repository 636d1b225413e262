package connector

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// cut are leases of a worker that loses its store.
type cut struct {
	Leases
	off atomic.Bool
}

var errCut = errors.New("the lease table is out of reach")

func (c *cut) List(ctx context.Context) ([]Lease, error) {
	if c.off.Load() {
		return nil, errCut
	}
	return c.Leases.List(ctx)
}

func (c *cut) Update(ctx context.Context, l *Lease) error {
	if c.off.Load() {
		return errCut
	}
	return c.Leases.Update(ctx, l)
}

func (b *bench) owners(t *testing.T) map[string]int {
	t.Helper()
	all, err := b.leases.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, l := range all {
		if !l.ended() {
			n[l.Owner]++
		}
	}
	return n
}

// Workers come and go, and share the shards evenly.
func TestWorkersShare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(9)
		_, stop1 := run(b.config())
		time.Sleep(time.Second)
		want(t, "workers", len(b.owners(t)), 1)
		_, stop2 := run(b.config())
		_, stop3 := run(b.config())
		time.Sleep(5 * time.Minute)
		for id, n := range b.owners(t) {
			if n < 2 || n > 4 {
				t.Errorf("worker %s has %d of 9 shards, with %v", id, n, b.owners(t))
			}
		}
		want(t, "workers", len(b.owners(t)), 3)
		stop2()
		time.Sleep(time.Minute)
		want(t, "workers", len(b.owners(t)), 2)
		for i := range 500 {
			b.stream.put(fmt.Sprint("k", i%50), fmt.Append(nil, i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		stop1()
		stop3()
		want(t, "emitted", len(b.out.data()), 500)
	})
}

// A worker that cannot renew its leases emits no more once another may have
// them, though it has a buffer; the other emits all.
func TestLeaseExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		c1 := b.config()
		mine := &cut{Leases: b.leases}
		late := &objects{}
		c1.Leases, c1.Emitter, c1.Name = mine, late, "first"
		late.fail = func(*Batch) ([]Failure, error) { return nil, errors.New("away") }
		first, stop1 := run(c1)
		time.Sleep(time.Second)
		b.stream.put("k", []byte("1"))
		time.Sleep(61 * time.Second)
		want(t, "under way", first.Status().Shards[0].Trouble, "emitting: away")
		c2 := b.config()
		_, stop2 := run(c2)
		time.Sleep(5 * time.Minute) // it leaves what is renewed
		want(t, "emitted by the other", b.out.written(), 0)
		cutAt := time.Now()
		mine.off.Store(true)
		for len(b.out.data()) == 0 && time.Since(cutAt) < time.Hour {
			time.Sleep(time.Second)
		}
		if d := time.Since(cutAt); d < 10*time.Second-10*time.Second/3 || d > 35*time.Second {
			t.Errorf("the lease was taken after %v, want 10 s and at most two rounds", d)
		}
		late.mu.Lock()
		late.fail = nil
		late.mu.Unlock()
		b.stream.put("k", []byte("2"))
		time.Sleep(5 * time.Minute)
		want(t, "emitted by the first", late.written(), 0)
		want(t, "emitted by the other", b.out.names(), "[shardId-000000000000/91-91 shardId-000000000000/92-92]")
		stop1()
		stop2()
	})
}

// Both parents of a merge are drained before what was made of them.
func TestMergeWaitsForBoth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(2)
		hold := atomic.Bool{}
		hold.Store(true)
		b.out.fail = func(batch *Batch) ([]Failure, error) {
			if batch.Shard == "shardId-000000000001" && hold.Load() {
				return nil, errors.New("away")
			}
			return nil, nil
		}
		for i := range 20 {
			b.stream.put(fmt.Sprint("k", i), []byte("parent"))
		}
		b.stream.merge(0)
		b.stream.put("k", []byte("child"))
		_, stop := run(b.config())
		defer stop()
		time.Sleep(time.Hour)
		for _, d := range b.out.data() {
			want(t, "before the second parent's end", d, "parent")
		}
		want(t, "first parent", b.checkpoint(t, 0), ShardEnd)
		want(t, "child", b.checkpoint(t, 2), TrimHorizon)
		hold.Store(false)
		time.Sleep(time.Hour)
		all := b.out.data()
		want(t, "emitted", len(all), 21)
		want(t, "the last", all[20], "child")
	})
}
