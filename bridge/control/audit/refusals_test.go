package audit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// kept is a Writer in memory.
type kept struct {
	mu  sync.Mutex // guards all
	all []Record
}

func (k *kept) Write(_ context.Context, r Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = append(k.all, r)
	return nil
}

// take returns what was written since it was called last, and how many refusals that
// tells of.
func (k *kept) take() (all []Record, refusals uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all, k.all = k.all, nil
	for _, r := range all {
		refusals += 1 + r.Left
	}
	return all, refusals
}

// Of what is the same a few are written, the rest is counted, and none is forgotten;
// whoever comes from however many addresses, a minute has so many records.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		x := NewRefusals(k, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = x.Run(ctx) })
		synctest.Wait()
		for i := range 10 {
			x.Refused("a", 3, Record{Client: fmt.Sprint(i)})
		}
		x.Refused("b", 3, Record{Client: "b"})
		if all, n := k.take(); len(all) != 4 || n != 4 || all[3].Client != "b" {
			t.Errorf("at once: %+v", all)
		}
		time.Sleep(refusalWindow + time.Second)
		synctest.Wait()
		if all, n := k.take(); len(all) != 1 || n != 7 || all[0].Client != "9" {
			t.Errorf("a minute later: %+v", all)
		}
		const strangers = 50_000
		for i := range strangers {
			x.Refused(fmt.Sprint("stranger ", i), 3, Record{Client: fmt.Sprint(i)})
			if i%10_000 == 0 && len(x.kinds) > maxRefusals {
				t.Fatalf("%d kinds are remembered", len(x.kinds))
			}
		}
		all, n := k.take()
		if len(all) > mostOfAll {
			t.Errorf("%d records in a minute", len(all))
		}
		time.Sleep(refusalWindow + time.Second)
		synctest.Wait()
		later, m := k.take()
		if len(later) > mostOfAll || n+m != strangers {
			t.Errorf("%d records later, of %d refusals", len(later), n+m)
		}
		x.Refused("c", 3, Record{})
		for range 5 {
			x.Refused("d", 0, Record{Client: "d"})
		}
		stop()
		wg.Wait()
		if all, n := k.take(); len(all) != 2 || n != 6 || all[1].Left != 4 {
			t.Errorf("at the end: %+v", all)
		}
	})
}
