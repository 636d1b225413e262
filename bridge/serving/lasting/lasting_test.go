package lasting

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A request ends a second after the right to it, and nobody is asked once it is over.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := errors.New("revoked")
		var asked, ended atomic.Int32
		var right atomic.Pointer[error]
		right.Store(new(error))
		ctx, over := Watch(t.Context(), func() error {
			asked.Add(1)
			return *right.Load()
		}, func() { ended.Add(1) })
		time.Sleep(10*AskAgain + time.Millisecond)
		if ctx.Err() != nil || asked.Load() != 10 {
			t.Errorf("asked %d times in 10 s: %v", asked.Load(), context.Cause(ctx))
		}
		right.Store(&revoked)
		<-ctx.Done()
		if err := context.Cause(ctx); !errors.Is(err, revoked) {
			t.Errorf("ended by %v", err)
		}
		over()
		before := asked.Load()
		time.Sleep(time.Minute)
		if asked.Load() != before || ended.Load() != 1 {
			t.Errorf("asked %d times after its end; ended was called %d times", asked.Load()-before, ended.Load())
		}
	})
}
