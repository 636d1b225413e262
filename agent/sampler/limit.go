package sampler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A limit is the context of one driver call after another, with a new deadline for
// each. A context.WithTimeout would be four allocations a reading. One that has ended
// is thrown away: a driver may have left a goroutine behind that holds it.
type limit struct {
	context.Context // ends with the runner, or at the deadline
	parent          context.Context
	cancel          context.CancelFunc
	timer           *time.Timer

	mu       sync.Mutex // guards the rest
	deadline time.Time
	over     bool // the deadline has come
}

func newLimit(parent context.Context) *limit {
	l := &limit{parent: parent}
	l.Context, l.cancel = context.WithCancel(parent)
	return l
}

// begin starts a call.
func (l *limit) begin(timeout time.Duration) {
	l.mu.Lock()
	l.deadline = time.Now().Add(timeout)
	l.mu.Unlock()
	if l.timer == nil {
		l.timer = time.AfterFunc(timeout, l.expire)
		return
	}
	l.timer.Reset(timeout)
}

func (l *limit) expire() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.cancel()
}

// end ends a call with its error, and says whether the limit can serve another.
func (l *limit) end(err error) (again bool, _ error) {
	again = l.timer.Stop()
	if !again && err != nil && errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		// What a driver derived from it was cancelled, which says less.
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return again && l.Context.Err() == nil, err
}

// Deadline is the one of the call under way.
func (l *limit) Deadline() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline, true
}

// Err tells a deadline from a runner that ends.
func (l *limit) Err() error {
	l.mu.Lock()
	over := l.over
	l.mu.Unlock()
	if err := l.Context.Err(); err == nil || !over {
		return err
	}
	return context.DeadlineExceeded
}

// call runs one driver call under the time limit. A panic is an error.
func (r *runner) call(ctx context.Context, what string, f func(context.Context) error) (err error) {
	_, timeout := r.timing()
	l := r.limit
	if l != nil && l.parent != ctx {
		l.cancel()
		l = nil
	}
	if l == nil {
		l = newLimit(ctx)
	}
	r.limit = nil
	r.mu.Lock()
	r.until = time.Now().Add(timeout)
	r.mu.Unlock()
	l.begin(timeout)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the driver panicked: %v", what, p)
		}
		var again bool
		if again, err = l.end(err); again {
			r.limit = l
		}
		r.mu.Lock()
		r.until = time.Time{}
		r.mu.Unlock()
	}()
	if err := f(l); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
