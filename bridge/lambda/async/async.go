// Package async makes calls of functions that nobody waits for. A Queue keeps each in
// a log before it answers, calls the function, and again a minute and two minutes
// later if that fails; what fails for good goes to the function's destination. A call
// may be made more than once, as with AWS, when the bridge is killed meanwhile.
// FORMAT.md says what the log holds.
package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/lambda"
)

// A Log keeps records in order. Its methods may be called from several goroutines.
type Log interface {
	// Append returns when the record is durable.
	Append(ctx context.Context, record []byte) error
	// Read returns some records from an offset on, and waits for the first of them.
	Read(ctx context.Context, from uint64) ([]Record, error)
	// At returns one record.
	At(offset uint64) ([]byte, error)
	// Position is where reading begins, and Done moves it, durably.
	Position() (uint64, error)
	Done(ctx context.Context, before uint64) error
}

// A Record is one of a log.
type Record struct {
	Offset uint64
	Data   []byte
}

// A Caller calls functions. *lambda.Manager is one.
type Caller interface {
	Call(ctx context.Context, c lambda.Call) (*lambda.Result, error)
}

// Settings are how a function's calls are made again.
type Settings struct {
	Retries   int
	MaxAge    time.Duration
	OnFailure string // ARN; "": nothing
	ARN       string // of the function
}

// Options of a Queue.
type Options struct {
	Log    Log
	Caller Caller
	// Settings finds those of a function; lambda.ErrNotFound.
	Settings func(function, qualifier string) (Settings, error)
	// Send brings what failed for good to a destination. It may be called again with
	// the same id.
	Send func(ctx context.Context, arn, id string, record []byte) error
	Slog *slog.Logger
}

const (
	format = 1
	// maxWorkers bounds calls at once, beyond which events wait.
	maxWorkers = 64
	// maxWaiting bounds events that are held in mind; beyond it the log is not read on.
	maxWaiting = 10_000
	// firstBackOff and maxBackOff are between tries of what was throttled or the
	// bridge's own fault (Lambda developer guide, asynchronous invocation).
	firstBackOff = time.Second
	maxBackOff   = 5 * time.Minute
	// sendTries is how often a destination is tried.
	sendTries = 5
)

// An event is a record of the log.
type event struct {
	Format    int             `json:"format"`
	ID        string          `json:"id"`
	Function  string          `json:"function"`
	Qualifier string          `json:"qualifier,omitempty"`
	Payload   json.RawMessage `json:"payload"`
	Queued    time.Time       `json:"queued"`
	Tries     int             `json:"tries,omitempty"`
	Due       time.Time       `json:"due,omitzero"`
}

func decode(data []byte) (*event, error) {
	e := &event{}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, err
	}
	if e.Format < 1 || e.Format > format || e.Function == "" || e.ID == "" || e.Tries < 0 || len(e.Payload) == 0 {
		return nil, errors.New("it is no event")
	}
	return e, nil
}

// A Queue makes calls. Put may be called from several goroutines, and whether Run
// runs or not.
type Queue struct{ o Options }

// New returns a queue of calls.
func New(o Options) *Queue { return &Queue{o} }

// Put queues a call and returns when that is durable, with the id of the request.
func (q *Queue) Put(ctx context.Context, c lambda.Call) (id string, err error) {
	if c.RequestID == "" {
		c.RequestID = uuid.NewString()
	}
	switch {
	case len(c.Payload) > lambda.MaxEvent:
		return "", fmt.Errorf("%w: %d bytes, want at most %d", lambda.ErrTooLarge, len(c.Payload), lambda.MaxEvent)
	case len(c.Payload) == 0:
		c.Payload = []byte("{}")
	case !json.Valid(c.Payload):
		return "", lambda.ErrPayload
	}
	return c.RequestID, q.append(ctx, &event{ID: c.RequestID, Function: c.Function, Qualifier: c.Qualifier,
		Payload: c.Payload, Queued: time.Now().UTC()})
}

func (q *Queue) append(ctx context.Context, e *event) error {
	e.Format = format
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return q.o.Log.Append(ctx, data)
}

// try calls the function of an event once. again says when to try the same record
// again; ok that it is dealt with.
func (q *Queue) try(ctx context.Context, e *event, backOff time.Duration) (again time.Duration, ok bool) {
	s, err := q.o.Settings(e.Function, e.Qualifier)
	if err != nil {
		return q.drop(e, err)
	}
	if time.Since(e.Queued) > s.MaxAge {
		return q.fail(ctx, e, s, nil, "EventAgeExceeded")
	}
	r, err := q.o.Caller.Call(ctx, lambda.Call{Function: e.Function, Qualifier: e.Qualifier, Payload: e.Payload,
		RequestID: e.ID})
	switch {
	case ctx.Err() != nil: // the bridge stops: the next one calls it again
		return 0, false
	case errors.Is(err, lambda.ErrNotFound), errors.Is(err, lambda.ErrPayload), errors.Is(err, lambda.ErrTooLarge):
		return q.drop(e, err)
	case err != nil:
		if _, throttled := errors.AsType[*lambda.ThrottledError](err); !throttled {
			q.o.Slog.Warn("a queued call could not be made, will try again", "function", e.Function, "id", e.ID,
				"err", err, "in", backOff)
		}
		return backOff, false
	case r.Failed == "":
		return 0, true
	}
	e.Tries++
	if e.Tries > s.Retries {
		return q.fail(ctx, e, s, r, "RetriesExhausted")
	}
	e.Due = time.Now().UTC().Add(time.Duration(e.Tries) * time.Minute)
	if err := q.append(ctx, e); err != nil {
		e.Tries--
		return backOff, false
	}
	return 0, true
}

func (q *Queue) drop(e *event, err error) (time.Duration, bool) {
	q.o.Slog.Warn("a queued call is dropped", "function", e.Function, "id", e.ID, "err", err)
	return 0, true
}

// fail brings an event that failed for good to the function's destination.
func (q *Queue) fail(ctx context.Context, e *event, s Settings, r *lambda.Result, condition string) (time.Duration,
	bool) {
	if s.OnFailure == "" {
		return q.drop(e, errors.New(condition))
	}
	doc := failure(e, s, r, condition)
	for n := range sendTries {
		err := q.o.Send(ctx, s.OnFailure, e.ID, doc)
		switch {
		case err == nil:
			return 0, true
		case ctx.Err() != nil:
			return 0, false
		case n == sendTries-1:
			return q.drop(e, fmt.Errorf("%s: destination %s: %w", condition, s.OnFailure, err))
		}
		if !wait(ctx, firstBackOff<<n) {
			return 0, false
		}
	}
	return 0, true
}

// failure is the record of a destination (Lambda developer guide, asynchronous
// invocation destinations).
func failure(e *event, s Settings, r *lambda.Result, condition string) []byte {
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
		doc["responseContext"] = map[string]any{"statusCode": 200, "executedVersion": r.Version,
			"functionError": r.Failed}
		if json.Valid(r.Payload) {
			doc["responsePayload"] = json.RawMessage(r.Payload)
		}
	}
	text, _ := json.Marshal(doc) // never fails
	return text
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
