package aws

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Who wants more than is left waits for its turn; who gives up leaves nothing
// behind.
func TestMemoryInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(10)
		ctx := t.Context()
		if err := m.acquire(ctx, 8); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var served atomic.Int64
		got := make(chan error)
		go func() { got <- m.acquire(short, 9) }()
		synctest.Wait()
		for _, n := range []int64{5, 1} { // 1 would fit, but is not first
			go func() {
				err := m.acquire(ctx, n)
				served.Add(1)
				got <- err
			}()
			synctest.Wait()
		}
		if served.Load() != 0 {
			t.Error("one came before its turn")
		}
		if err := <-got; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		m.release(8)
		for range 2 {
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
		m.release(5)
		m.release(1)
		if m.left != 10 || len(m.waiting) != 0 {
			t.Errorf("%d left, %d waiting", m.left, len(m.waiting))
		}
	})
}
