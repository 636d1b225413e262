package wire

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/lasting"
)

// A Holder is a Caller that may end: a key that is revoked, a certificate that is not
// active any more.
type holder interface {
	Caller
	Holds() bool
}

// errEnded is in the chain of what ends a request whose caller lost the right to it.
var errEnded = errors.New("the right to this has ended")

// last begins to ask whether the caller may still make the request. Its context ends
// with the right to it.
func (x *exchange) last() {
	if x.public {
		return
	}
	began := x.Request
	if x.op.Stream != nil {
		began.Body = nil
	}
	ctx, over := lasting.Watch(x.r.Context(), func() error {
		if err := x.stillMay(&began); err != nil {
			return errors.Join(err, errEnded)
		}
		return nil
	}, x.endOfRight)
	x.r, x.over = x.r.WithContext(ctx), over
}

// endOfRight ends what does not look at the context: who waits for a body, or for a
// client that reads.
func (x *exchange) endOfRight() {
	if _, ok := x.service.Protocol.(RESTXML); ok {
		server := http.NewResponseController(x.w)
		_ = server.SetReadDeadline(time.Now())
		_ = server.SetWriteDeadline(time.Now())
	}
}

// stillMay asks all that was asked before the request began.
func (x *exchange) stillMay(of *Request) error {
	if c, ok := x.Caller.(holder); ok && !c.Holds() {
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
