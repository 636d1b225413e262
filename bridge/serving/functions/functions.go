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
	"regexp"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
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

// Remote calls functions of Lambda; send.Asks does.
type Remote interface {
	// Invoke returns the answer, which says how the function failed if functionError
	// is not empty.
	Invoke(ctx context.Context, arn string, payload []byte) (answer []byte, functionError string, err error)
}

// A Caller has functions called: those of the bridge, and those of Lambda, which are
// under all other ARNs. Several goroutines may use it.
type Caller struct {
	// Calls, Queue and Find are of the bridge's own functions; nil: it runs none.
	Calls Calls
	Queue Queue
	Find  Finder
	// Own is how ARNs of the bridge's functions begin, account included.
	Own string
	// Remote calls the others; nil: they are not called.
	Remote Remote
}

// Any says whether there is any function to call.
func (c *Caller) Any() bool { return c.Calls != nil || c.Remote != nil }

// HasFunction says whether an ARN is that of a function here.
func (c *Caller) HasFunction(function string) bool {
	if c.Find == nil || !arn.Is(function) {
		return false
	}
	_, err := c.Find.Function(function, "")
	return err == nil
}

// remoteARN is that of a function, a version or an alias (Lambda API reference).
var remoteARN = regexp.MustCompile(
	`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[a-zA-Z0-9_-]{1,140}(:[$a-zA-Z0-9_-]{1,129})?$`)

// remote says whether an ARN is called at Lambda.
func (c *Caller) remote(arn string) bool {
	return c.Remote != nil && remoteARN.MatchString(arn) &&
		(c.Calls == nil || !strings.HasPrefix(arn, c.Own) && !c.HasFunction(arn))
}

var errNone = errors.New("the bridge runs no functions: lambda.enabled is not set, " +
	"nor do [[actions]] say where those of Lambda are")

// invoke calls a function and waits.
func (c *Caller) invoke(ctx context.Context, arn string, payload []byte) (answer []byte, failed string, err error) {
	switch {
	case c.remote(arn):
		answer, failed, err = c.Remote.Invoke(ctx, arn, payload)
		if err != nil {
			err = fmt.Errorf("%s: %w", arn, err)
		}
		return answer, failed, err
	case c.Calls == nil:
		return nil, "", fmt.Errorf("%w: %w", lambda.ErrNotFound, errNone)
	}
	return c.Calls.Invoke(ctx, arn, "", payload, "")
}

// Asked are what hooks and authorizers may name. It implements webhook.Functions.
type Asked struct{ *Caller }

// HasFunction says whether an ARN is that of a function that can be called.
func (a Asked) HasFunction(arn string) bool { return a.remote(arn) || a.Caller.HasFunction(arn) }

// Ask calls a function, which must not fail, and returns its answer: for hooks and
// authorizers.
func (c *Caller) Ask(ctx context.Context, arn string, question []byte) ([]byte, error) {
	answer, failed, err := c.invoke(ctx, arn, question)
	if err == nil && failed != "" {
		err = fmt.Errorf("the function failed: %.300s", answer)
	}
	return answer, err
}

// InvokeEvent takes an event for a function and returns when it is durable: for rule
// actions. An error that will not go away is an action.ErrPermanent.
func (c *Caller) InvokeEvent(ctx context.Context, arn, request string, event []byte) error {
	err := c.queue(ctx, arn, lambda.Call{Payload: event, RequestID: request})
	if errors.Is(err, lambda.ErrNotFound) || errors.Is(err, lambda.ErrPayload) || errors.Is(err, lambda.ErrTooLarge) {
		return action.Permanent(err)
	}
	return err
}

// queue queues a call of the function of an ARN.
func (c *Caller) queue(ctx context.Context, arn string, call lambda.Call) (err error) {
	if call.Function, call.Qualifier, err = c.Find.Parse(arn); err != nil {
		return err
	}
	if _, err = c.Find.Function(call.Function, call.Qualifier); err == nil {
		_, err = c.Queue.Put(ctx, call)
	}
	return err
}

// Statements answers aws_lambda of rules. It implements iotsql.Lambdas.
type Statements struct{ *Caller }

// Invoke implements iotsql.Lambdas.
func (s Statements) Invoke(ctx context.Context, arn string, input []byte) ([]byte, error) {
	return s.Ask(ctx, arn, input)
}

// reasons are those of Lambda's errors (Lambda API reference, Invoke).
var reasons = map[string]error{
	"TooManyRequestsException": transform.ErrThrottled, "ResourceNotFoundException": transform.ErrNotFound,
	"AccessDeniedException": transform.ErrDenied, "UnrecognizedClientException": transform.ErrDenied,
}

// Transforms calls functions of delivery streams. It implements transform.Invoker.
type Transforms struct{ *Caller }

// Invoke implements transform.Invoker.
func (t Transforms) Invoke(ctx context.Context, arn string, event []byte) (answer []byte, functionError string,
	err error) {
	answer, functionError, err = t.invoke(ctx, arn, event)
	reason := reasons[awsapi.Code(err)]
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
