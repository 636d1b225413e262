package wire

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// askAgain is how often it is asked of a request that lasts whether its caller may
// still make it: a subscription, a long poll, a large object. Our choice.
const askAgain = time.Second

// A Holder is a Caller that may end: a key that is revoked, a certificate that is not
// active any more.
type Holder interface {
	Caller
	Holds() bool
}

// errEnded is in the chain of what ends a request whose caller lost the right to it.
var errEnded = errors.New("the right to this has ended")

// A lasting request is asked about again and again until it is over.
type lasting struct {
	x     *exchange
	of    Request // as it was when it began
	end   context.CancelCauseFunc
	timer *time.Timer

	mu   sync.Mutex // guards what follows; held while it is asked
	over bool       // the handler returns
}

// last begins to ask. The request's context ends with the right to it.
func (x *exchange) last() {
	if x.public {
		return
	}
	ctx, end := context.WithCancelCause(x.r.Context())
	x.r = x.r.WithContext(ctx)
	l := &lasting{x: x, of: x.Request, end: end}
	if x.op.Stream != nil {
		l.of.Body = nil
	}
	x.lasts = l
	l.mu.Lock()
	l.timer = time.AfterFunc(askAgain, l.ask)
	l.mu.Unlock()
}

// stop ends the asking. It waits for a question that is under way.
func (l *lasting) stop() {
	l.timer.Stop()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.end(nil)
}

// ask ends the request if the caller may not make it any more.
func (l *lasting) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	if err := l.x.stillMay(&l.of); err != nil {
		l.end(errors.Join(err, errEnded))
		// Who waits for a body or for a client that reads does not look at the context.
		if _, ok := l.x.service.Protocol.(RESTXML); ok {
			server := http.NewResponseController(l.x.w)
			_ = server.SetReadDeadline(time.Now())
			_ = server.SetWriteDeadline(time.Now())
		}
	}
	l.timer.Reset(askAgain)
}

// stillMay asks all that was asked before the request began.
func (x *exchange) stillMay(of *Request) error {
	if c, ok := x.Caller.(Holder); ok && !c.Holds() {
		return ErrDenied
	}
	all, err := x.h.authorizer.Admit(x.question(x.op.action, ""))
	if err != nil || all || x.op.Judges {
		return err
	}
	for _, r := range x.op.resources(of) {
		if err := x.h.authorizer.Authorize(x.question(x.op.action, r)); err != nil {
			return err
		}
	}
	return nil
}

// StillMay asks once more whether the caller may make the request, for an operation
// that took long and is about to have its effect.
func (r *Request) StillMay() error {
	if r.x.public {
		return nil
	}
	return r.x.stillMay(r)
}

// ended returns why the right to the request has ended, nil if it has not.
func (x *exchange) ended() error {
	if err := context.Cause(x.r.Context()); errors.Is(err, errEnded) {
		return err
	}
	return nil
}
