package rules

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whenever workers begin to gather, they end at the same moments.
func TestGatherTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, began := New(nil, Options{}), time.Now()
		var wg sync.WaitGroup
		for _, after := range []time.Duration{time.Millisecond, pace / 2, pace - 1, pace} {
			wg.Go(func() {
				time.Sleep(after)
				e.gather(t.Context())
				want := pace
				if after == pace {
					want = 2 * pace
				}
				if took := time.Since(began); took != want {
					t.Errorf("from %v until %v, want %v", after, took, want)
				}
			})
		}
		wg.Wait()
	})
}
