package iotsql

import (
	"context"
	"time"
)

// A Gate stands before the calls that evaluation makes of Services, so that
// whoever evaluates can bound the time spent waiting for them.
type Gate interface {
	// Enter returns why the call is not to be made now, or nil. A call that is
	// not made counts as one that failed: its value is Undefined.
	Enter() error
	// Leave follows Enter with the time that the call took.
	Leave(took time.Duration)
}

type gateKey struct{}

// WithGate returns a context for evaluations that pass g before each call. g
// is used by the goroutine that evaluates.
func WithGate(ctx context.Context, g Gate) context.Context {
	return context.WithValue(ctx, gateKey{}, g)
}

// pass makes a call through the context's gate, if there is one.
func pass[T any](ctx context.Context, call func() (T, error)) (answer T, err error) {
	g, ok := ctx.Value(gateKey{}).(Gate)
	if !ok {
		return call()
	}
	if err := g.Enter(); err != nil {
		return answer, err
	}
	began := time.Now()
	defer func() { g.Leave(time.Since(began)) }()
	return call()
}
