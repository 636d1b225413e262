package pebble

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// What comes slowly is taken at once; what comes fast is gathered, until the
// first has waited for the time set or enough are there; what cannot wait takes
// the others along.
func TestGather(t *testing.T) {
	const gather = 2 * time.Millisecond
	for name, c := range map[string]struct {
		every  time.Duration
		urgent bool // the tenth cannot wait
		most   time.Duration
		group  int // on the average, at least
	}{
		"100/s":           {every: 10 * time.Millisecond, most: 0, group: 1},
		"900/s":           {every: 1100 * time.Microsecond, most: 0, group: 1},
		"5,000/s":         {every: 200 * time.Microsecond, most: gather, group: 8},
		"50,000/s":        {every: 20 * time.Microsecond, most: gather, group: 15},
		"5,000/s, urgent": {every: 200 * time.Microsecond, urgent: true, most: gather, group: 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queue{limit: 1 << 20, gather: gather, wake: make(chan struct{}, 1),
					timer: time.NewTimer(time.Hour)}
				q.timer.Stop()
				came := map[*pending]time.Time{}
				groups, taken := 0, 0
				var longest time.Duration
				stop, done := make(chan struct{}), make(chan struct{})
				go func() { // the committer, whose syncs take no time
					defer close(done)
					for {
						select {
						case <-q.wake:
						case <-q.timer.C:
						case <-stop:
							return
						}
						got := q.take(nil, groupBytes)
						if len(got) == 0 {
							continue
						}
						groups, taken = groups+1, taken+len(got)
						for _, p := range got {
							longest = max(longest, time.Since(came[p]))
							q.release(1, p.size)
						}
					}
				}()
				const n = 2000
				for i := range n {
					if i == n/2 { // the pace is known
						groups, taken, longest = 0, 0, 0
					}
					p := &pending{b: &streams.Batch{}, done: func(error) {}}
					if c.urgent && i%10 == 0 {
						p.done = nil
					}
					came[p] = time.Now()
					if err := q.put(context.Background(), p); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					time.Sleep(c.every)
					synctest.Wait()
				}
				time.Sleep(gather)
				synctest.Wait()
				close(stop)
				<-done
				if longest > c.most || taken < groups*c.group {
					t.Errorf("%d in %d groups, one waited for %v; want %d in a group, none for more than %v", taken,
						groups, longest, c.group, c.most)
				}
				if left := q.end(); len(left) > 0 {
					t.Errorf("%d were never taken", len(left))
				}
			})
		})
	}
}

// Clients that publish again as soon as they are acknowledged are not kept waiting for
// others who wait themselves: an acknowledgement takes two syncs at most, and the
// clients share them.
func TestGatherAwaited(t *testing.T) {
	const gather, syncs, thinks = 2 * time.Millisecond, 400 * time.Microsecond, 50 * time.Microsecond
	for _, clients := range []int{1, 2, 4, 10, 50} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queue{limit: 1 << 20, gather: gather, wake: make(chan struct{}, 1),
					timer: time.NewTimer(time.Hour)}
				q.timer.Stop()
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				var groups, acks atomic.Int64
				wg.Go(func() { // the committer
					for {
						select {
						case <-q.wake:
						case <-q.timer.C:
						case <-ctx.Done():
							return
						}
						got := q.take(nil, groupBytes)
						if len(got) == 0 {
							continue
						}
						time.Sleep(syncs)
						groups.Add(1)
						acks.Add(int64(len(got)))
						q.release(len(got), int64(len(got))*64)
						for _, p := range got {
							p.done(nil)
						}
					}
				})
				for range clients {
					wg.Go(func() {
						for ctx.Err() == nil {
							acked := make(chan error, 1)
							p := &pending{b: &streams.Batch{Awaited: true}, done: func(err error) { acked <- err }}
							if err := q.put(ctx, p); err != nil {
								t.Error(err)
							}
							select {
							case <-acked:
							case <-ctx.Done():
							}
							time.Sleep(thinks)
						}
					})
				}
				time.Sleep(100 * time.Millisecond) // the pace is known
				from, fromGroups := acks.Load(), groups.Load()
				time.Sleep(100 * time.Millisecond)
				n := acks.Load() - from
				each := 100 * time.Millisecond * time.Duration(clients) / time.Duration(n)
				if group := n / (groups.Load() - fromGroups); each > 2*syncs+2*thinks || group < int64(clients/2) {
					t.Errorf("%v from one publish to the next, groups of %d", each, group)
				}
				stop()
				wg.Wait()
			})
		})
	}
}
