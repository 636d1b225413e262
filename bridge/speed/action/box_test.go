package action

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// A batcher is a target that takes several deliveries together, a second after the other.
type batcher struct {
	bound Bound

	mu  sync.Mutex
	got []int // deliveries of each call
}

func (b *batcher) Bound() Bound { return b.bound }

func (b *batcher) Send(_ context.Context, ds []*Delivery) []error {
	time.Sleep(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, len(ds))
	return make([]error, len(ds))
}

// A target gets as many deliveries together as it takes, while there is room in memory,
// and 256 and 1 MiB else. What is in memory is given back.
func TestBoundOfTarget(t *testing.T) {
	for name, c := range map[string]struct {
		bound  Bound
		bytes  int // of a delivery
		n      int
		taken  int64 // of drainRoom, by others
		counts []int
	}{
		"few":        {Bound{10, 1 << 20}, 100, 25, 0, []int{10, 10, 5}},
		"many":       {Bound{500, 4 << 20}, 100, 1200, 0, []int{500, 500, 200}},
		"thousand":   {Bound{1000, 4 << 20}, 100, 1200, 0, []int{1000, 200}},
		"few wait":   {Bound{500, 4 << 20}, 100, 100, 0, []int{100}},
		"large":      {Bound{500, 4 << 20}, 64 << 10, 120, 0, []int{63, 57}},
		"no room":    {Bound{500, 4 << 20}, 100, 600, drainRoom - 1<<20, []int{256, 256, 88}},
		"over bound": {Bound{500, 1 << 20}, 64 << 10, 30, 0, []int{15, 15}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := pebbletest.Start(t)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				to, boxes := &batcher{bound: c.bound}, NewOutboxes(store)
				x := NewDrainer(boxes, Options{Senders: map[string]Sender{"k": to},
					Log: slog.New(slog.DiscardHandler)})
				x.room.Store(c.taken)
				stream := OutboxStream("r", "0")
				if err := boxes.Ensure(stream); err != nil {
					t.Fatal(err)
				}
				b := store.NewBatch()
				for n := range c.n {
					d := &Delivery{Kind: "k", Rule: "r", Name: fmt.Sprint(n),
						Data: []byte(strings.Repeat("x", c.bytes))}
					b.Append(stream, 0, streams.Record{Data: d.append(nil)})
				}
				if err := store.Commit(ctx, b); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { _ = x.Run(ctx) })
				time.Sleep(time.Hour)
				synctest.Wait()
				if !slices.Equal(to.got, c.counts) {
					t.Errorf("together %v, want %v", to.got, c.counts)
				}
				if n := x.room.Load(); n != c.taken {
					t.Errorf("%d bytes are taken, want %d", n, c.taken)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}
