// Package async makes calls of functions that nobody waits for. A Queue keeps each in
// a log before it answers, calls the function, and again a minute and two minutes
// later if that fails; what came of it in the end goes to the function's destinations. A call
// may be made more than once, as with AWS, when the bridge ends meanwhile.
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
	// Position is what Done kept last.
	Position() (Position, error)
	// Done keeps a position and appends records, durably: all of it or nothing.
	Done(ctx context.Context, p Position, records [][]byte) error
	// Trim may remove what is before an offset.
	Trim(before uint64) error
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
	OnFailure string // ARN of where the record of what failed for good goes; "": nowhere
	OnSuccess string // ARN of where that of a call that went well goes; "": nowhere
	ARN       string // of the function, with the version or alias
}

// Options of a Queue.
type Options struct {
	Log    Log
	Caller Caller
	// Settings finds those of a function; lambda.ErrNotFound.
	Settings func(function, qualifier string) (Settings, error)
	// Send brings a record to a destination, and returns when it is durable there. It may
	// be called again with the same id. depth is how many calls of functions led to it.
	Send func(ctx context.Context, arn, id string, depth int, record []byte) error
	Slog *slog.Logger
}

const (
	format = 1
	// maxWorkers bounds calls at once, beyond which events wait.
	maxWorkers = 64
	// maxWaiting bounds events that are open, which are held in mind and stand in the
	// position, of 1 to 10 bytes each; beyond it the log is not read on.
	maxWaiting = 10_000
	// firstBackOff and maxBackOff are between tries of what was throttled or the
	// bridge's own fault (Lambda developer guide, asynchronous invocation).
	firstBackOff = time.Second
	maxBackOff   = 5 * time.Minute
	// callGrace is for calls that are under way when a run is told to end.
	callGrace = 5 * time.Second
	// endTries is how often a run that ends tries to keep what is done.
	endTries = 3
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
	Depth     int             `json:"depth,omitempty"`
	Due       time.Time       `json:"due,omitzero"`
}

func decode(data []byte) (*event, error) {
	e := &event{}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, err
	}
	if e.Format < 1 || e.Format > format || e.Function == "" || e.ID == "" || e.Tries < 0 || e.Depth < 0 ||
		len(e.Payload) == 0 {
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
	case c.Depth > lambda.MaxDepth: // what became of a call that was not made any more
		return "", fmt.Errorf("%w: %s, after %d calls", lambda.ErrLoop, c.Function, c.Depth)
	case len(c.Payload) > lambda.MaxEvent:
		return "", fmt.Errorf("%w: %d bytes, want at most %d", lambda.ErrTooLarge, len(c.Payload), lambda.MaxEvent)
	case len(c.Payload) == 0:
		c.Payload = []byte("{}")
	case !json.Valid(c.Payload):
		return "", lambda.ErrPayload
	}
	data, err := json.Marshal(&event{Format: format, ID: c.RequestID, Function: c.Function, Qualifier: c.Qualifier,
		Payload: c.Payload, Queued: time.Now().UTC(), Depth: c.Depth})
	if err != nil {
		return "", err
	}
	return c.RequestID, q.o.Log.Append(ctx, data)
}

// try calls the function of an event once. again says when to try the same record
// again; ok that it is dealt with, and next, if it is not nil, is the record that takes
// its place.
func (q *Queue) try(ctx context.Context, e *event, backOff time.Duration) (again time.Duration, next []byte, ok bool) {
	s, err := q.o.Settings(e.Function, e.Qualifier)
	if err != nil {
		q.drop(e, err)
		return 0, nil, true
	}
	if time.Since(e.Queued) > s.MaxAge {
		return 0, nil, q.fail(ctx, e, s, nil, eventAgeExceeded)
	}
	r, err := q.o.Caller.Call(ctx, lambda.Call{Function: e.Function, Qualifier: e.Qualifier, Payload: e.Payload,
		RequestID: e.ID, Depth: e.Depth})
	switch {
	case err == nil && r.Failed == "" && s.OnSuccess != "":
		e.Tries++
		return 0, nil, q.deliver(ctx, s.OnSuccess, e, s, r, succeeded)
	case err == nil && r.Failed == "":
		return 0, nil, true
	case ctx.Err() != nil: // the bridge stops: the next one calls it again
		return 0, nil, false
	case errors.Is(err, lambda.ErrLoop):
		q.o.Slog.Error("functions call each other in a loop, which is ended: the call is not made",
			"function", e.Function, "id", e.ID, "calls", e.Depth)
		return 0, nil, q.fail(ctx, e, s, nil, recursiveInvocation)
	case errors.Is(err, lambda.ErrNotFound), errors.Is(err, lambda.ErrPayload), errors.Is(err, lambda.ErrTooLarge):
		q.drop(e, err)
		return 0, nil, true
	case err != nil:
		if _, throttled := errors.AsType[*lambda.ThrottledError](err); !throttled {
			q.o.Slog.Warn("a queued call could not be made, will try again", "function", e.Function, "id", e.ID,
				"err", err, "in", backOff)
		}
		return backOff, nil, false
	}
	e.Tries++
	if e.Tries > s.Retries {
		return 0, nil, q.fail(ctx, e, s, r, retriesExhausted)
	}
	e.Format, e.Due = format, time.Now().UTC().Add(time.Duration(e.Tries)*time.Minute)
	if next, err = json.Marshal(e); err != nil { // a year that RFC 3339 does not have
		q.drop(e, err)
	}
	return 0, next, true
}

func (q *Queue) drop(e *event, err error) {
	q.o.Slog.Warn("a queued call is dropped", "function", e.Function, "id", e.ID, "err", err)
}
