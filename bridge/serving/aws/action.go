package aws

import (
	"context"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
)

// A target is a service of AWS's JSON 1.1 protocol: its operations are named by
// the header X-Amz-Target.
type target struct {
	service string // that requests are signed for
	prefix  string // of X-Amz-Target
	maxBody int64
	actions map[string]action
}

// An action is one operation of a target.
type action struct {
	name  string
	input *shape.Type
	run   func(ctx context.Context, region string, in any) (out any, err error)
	// subscribe is in the place of run where the answer is a stream of events.
	subscribe func(ctx context.Context, region string, in any) (events, error)
	write     func(w *shape.Writer, out any) // nil: the answer is empty
	size      func(out any) int64            // of an answer that may be as large as a body, in bytes; nil: it never is
}

// query is an action with an answer: f of the service that in returns for a
// region. Texts match the patterns that their tags name.
func query[API, In, Out any](patterns map[string]string, in func(region string) API, f func(API, context.Context, *In) (*Out, error)) action {
	output := shape.Of[Out](nil)
	return action{
		input: shape.Of[In](patterns),
		run: func(ctx context.Context, region string, input any) (any, error) {
			return f(in(region), ctx, input.(*In))
		},
		write: func(w *shape.Writer, out any) { output.Encode(w, out) },
	}
}

// command is an action whose answer is empty.
func command[API, In any](patterns map[string]string, in func(region string) API, f func(API, context.Context, *In) error) action {
	return action{
		input: shape.Of[In](patterns),
		run: func(ctx context.Context, region string, input any) (any, error) {
			return nil, f(in(region), ctx, input.(*In))
		},
	}
}

// writes replaces how a's answer is written.
func (a action) writes(f func(*shape.Writer, any)) action {
	a.write = f
	return a
}

// weighs marks a's answers as such that count against the memory of bodies, by
// size.
func (a action) weighs(size func(out any) int64) action {
	a.size = size
	return a
}
