// Package functions has the bridge's functions called by what messages, devices and
// clients cause: statements and actions of rules, delivery streams, provisioning
// hooks and custom authorizers. Each of those states an interface; the types here
// are those, over one Caller. Whoever may make a rule, a template or an authorizer may
// call every function of the bridge by it.
package functions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
)

// Calls makes calls that are waited for; lambda.Manager is one.
type Calls interface {
	Invoke(ctx context.Context, function, qualifier string, payload []byte, requestID string) (answer []byte,
		functionError string, err error)
}

// A Queue takes calls that nobody waits for; async.Queue is one.
type Queue interface {
	Put(ctx context.Context, c lambda.Call) (id string, err error)
}

// A Finder finds functions by names and ARNs; store.Store is one.
type Finder interface {
	Function(name, qualifier string) (*lambda.Function, error)
	// Parse fails for ARNs of other accounts and regions.
	Parse(text string) (name, qualifier string, err error)
}

// A Caller has the functions called. Several goroutines may use it. A nil Caller has
// none.
type Caller struct {
	Calls Calls
	Queue Queue
	Find  Finder
}

// HasFunction says whether an ARN is that of a function here.
func (c *Caller) HasFunction(function string) bool {
	if c == nil || !arn.Is(function) {
		return false
	}
	_, err := c.Find.Function(function, "")
	return err == nil
}

// Ask calls a function, which must not fail, and returns its answer: for hooks and
// authorizers.
func (c *Caller) Ask(ctx context.Context, arn string, question []byte) ([]byte, error) {
	answer, failed, err := c.Calls.Invoke(ctx, arn, "", question, "")
	if err == nil && failed != "" {
		err = fmt.Errorf("the function failed: %.300s", answer)
	}
	return answer, err
}

// InvokeEvent takes an event for a function and returns when it is durable: for rule
// actions. An error that will not go away is an action.ErrPermanent.
func (c *Caller) InvokeEvent(ctx context.Context, arn, request string, event []byte) error {
	name, qualifier, err := c.Find.Parse(arn)
	if err == nil {
		_, err = c.Find.Function(name, qualifier)
	}
	if err == nil {
		_, err = c.Queue.Put(ctx, lambda.Call{Function: name, Qualifier: qualifier, Payload: event, RequestID: request})
	}
	if errors.Is(err, lambda.ErrNotFound) || errors.Is(err, lambda.ErrPayload) || errors.Is(err, lambda.ErrTooLarge) {
		return fmt.Errorf("%w: %w", action.ErrPermanent, err)
	}
	return err
}

// Statements answers aws_lambda of rules. It implements iotsql.Lambdas.
type Statements struct{ *Caller }

// Invoke implements iotsql.Lambdas.
func (s Statements) Invoke(ctx context.Context, arn string, input []byte) ([]byte, error) {
	return s.Ask(ctx, arn, input)
}

// Transforms calls functions of delivery streams. It implements transform.Invoker.
type Transforms struct{ *Caller }

// Invoke implements transform.Invoker.
func (t Transforms) Invoke(ctx context.Context, arn string, event []byte) (answer []byte, functionError string,
	err error) {
	if t.Caller == nil {
		return nil, "", fmt.Errorf("%w: lambda.enabled is not set", transform.ErrNotFound)
	}
	answer, functionError, err = t.Calls.Invoke(ctx, arn, "", event, "")
	reason := error(nil)
	switch _, throttled := errors.AsType[*lambda.ThrottledError](err); {
	case throttled:
		reason = transform.ErrThrottled
	case errors.Is(err, lambda.ErrNotFound):
		reason = transform.ErrNotFound
	case errors.Is(err, lambda.ErrNotIsolated):
		reason = transform.ErrDenied
	}
	if reason != nil {
		err = fmt.Errorf("%w: %w", reason, err)
	}
	return answer, functionError, err
}

// Objects keeps objects; the bridge's own store does.
type Objects interface {
	Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error
}

// Failures returns what brings the record of a call that failed for good to its
// destination: a bucket of the bridge's own (arn:aws:s3:::BUCKET), or another
// function, which takes lambda.MaxEvent bytes: lambda.ErrTooLarge. The key is AWS's; it is
// the same whenever the record is sent again on a day.
func (c *Caller) Failures(objects Objects) func(ctx context.Context, arn, id string, record []byte) error {
	return func(ctx context.Context, to, id string, record []byte) error {
		bucket, ok := arn.CutBucket(to)
		if !ok {
			return c.InvokeEvent(ctx, to, "", record)
		}
		key := "aws/lambda/async/" + time.Now().UTC().Format("2006/01/02/") + id
		return objects.Put(ctx, bucket, key, func(w io.Writer) error {
			_, err := w.Write(record)
			return err
		})
	}
}
