package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
)

// Conditions of records (Lambda developer guide, asynchronous invocation destinations).
const (
	succeeded        = "Success"
	retriesExhausted = "RetriesExhausted"
	eventAgeExceeded = "EventAgeExceeded"
	// recursiveInvocation is that of a call which would go on with a loop of functions. AWS's
	// guide does not say which word it has there: this one is after the error of Invoke.
	recursiveInvocation = "RecursiveInvocation"
)

// fail brings an event that failed for good to the function's destination for those, and says
// whether it is dealt with.
func (q *Queue) fail(ctx context.Context, e *event, s Settings, r *lambda.Result, condition string) bool {
	if s.OnFailure == "" {
		q.drop(e, errors.New(condition))
		return true
	}
	return q.deliver(ctx, s.OnFailure, e, s, r, condition)
}

// deliver brings the record of an event to a destination, and says whether the event is
// dealt with: not while the bridge stops. What is too large for a destination goes
// without the function's answer, and then without the event.
func (q *Queue) deliver(ctx context.Context, to string, e *event, s Settings, r *lambda.Result, condition string) bool {
	doc := outline(e, s, r, condition)
	err := q.send(ctx, to, e, doc)
	for _, member := range []string{"responsePayload", "requestPayload"} {
		lost, ok := doc[member].(json.RawMessage)
		if !ok || !errors.Is(err, lambda.ErrTooLarge) {
			continue
		}
		q.o.Slog.Warn("the record of a call is too large for its destination: a member is left out",
			"function", e.Function, "id", e.ID, "destination", to, "member", member, "bytes", len(lost))
		delete(doc, member)
		err = q.send(ctx, to, e, doc)
	}
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err != nil {
		q.drop(e, fmt.Errorf("%s: destination %s: %w", condition, to, err))
	}
	return true
}

// send sends a record, several times unless that is of no use.
func (q *Queue) send(ctx context.Context, arn string, e *event, doc map[string]any) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	for n := range sendTries {
		err = q.o.Send(ctx, arn, e.ID, e.Depth+1, text)
		if err == nil || errors.Is(err, lambda.ErrTooLarge) || errors.Is(err, lambda.ErrNotFound) ||
			errors.Is(err, lambda.ErrLoop) || n == sendTries-1 || !wait(ctx, firstBackOff<<n) {
			break
		}
	}
	return err
}

// outline is the record of a destination (Lambda developer guide, asynchronous
// invocation destinations).
func outline(e *event, s Settings, r *lambda.Result, condition string) map[string]any {
	type context struct {
		RequestID   string `json:"requestId"`
		FunctionARN string `json:"functionArn"`
		Condition   string `json:"condition"`
		Count       int    `json:"approximateInvokeCount"`
	}
	doc := map[string]any{
		"version": "1.0", "timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		"requestContext": context{e.ID, s.ARN, condition, e.Tries}, "requestPayload": e.Payload,
	}
	if r != nil {
		response := map[string]any{"statusCode": 200, "executedVersion": r.Version}
		if r.Failed != "" {
			response["functionError"] = r.Failed
		}
		doc["responseContext"] = response
		if json.Valid(r.Payload) {
			doc["responsePayload"] = json.RawMessage(r.Payload)
		}
	}
	return doc
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
