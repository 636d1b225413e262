// Package lasting ends requests that last, such as a subscription, a long poll or one
// that follows a stream, when the right to them ends.
package lasting

import (
	"context"
	"sync"
	"time"
)

// AskAgain is how often it is asked whether the right still holds. Our choice.
const AskAgain = time.Second

// A request is one that is asked about until it is over.
type request struct {
	may    func() error
	ended  func()
	cancel context.CancelCauseFunc
	timer  *time.Timer

	mu   sync.Mutex // guards what follows; held while it is asked
	over bool
}

// Watch asks may again and again whether who made a request may still do so. The
// context that it returns ends with may's error when it may not; ended, unless nil, is
// called then, and whenever it is asked again. over has to be called when the request
// is over; it waits for a question that is under way, and there is none after it.
func Watch(ctx context.Context, may func() error, ended func()) (of context.Context, over func()) {
	r := &request{may: may, ended: ended}
	of, r.cancel = context.WithCancelCause(ctx)
	r.mu.Lock()
	r.timer = time.AfterFunc(AskAgain, r.ask)
	r.mu.Unlock()
	return of, r.end
}

func (r *request) end() {
	r.timer.Stop()
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.cancel(nil)
}

func (r *request) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if err := r.may(); err != nil {
		r.cancel(err)
		if r.ended != nil {
			r.ended()
		}
	}
	r.timer.Reset(AskAgain)
}
