// Package transform has a function change the records of a delivery stream
// (ProcessingConfiguration, Lambda): what it is sent, what its answer may be, and
// what becomes of records where the answer is none.
//
// Whatever goes wrong goes wrong for records, never for the call: each record
// comes back as Ok with new data, as Dropped, or as Failed with a code and the
// words for its line under processing-failed/.
package transform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/firehose/blueprint"
)

// Limits of a call (Lambda quotas, synchronous invocation; Firehose developer
// guide, "Data transformation").
const (
	maxPayload = 6 << 20         // bytes of an event, and of an answer
	maxTime    = 5 * time.Minute // of one call
)

// An Invoker calls functions. Several goroutines may call it.
type Invoker interface {
	// Invoke calls a function, by its ARN, with an event in JSON, and waits for its
	// answer until ctx ends. functionError is not "" if the function ended with an
	// error, of which answer is the description. err is that there was no call; one
	// that wraps ErrThrottled, ErrNotFound or ErrDenied has that reason.
	Invoke(ctx context.Context, function string, event []byte) (answer []byte, functionError string, err error)
}

// Reasons why there is no call.
var (
	ErrThrottled = errors.New("too many calls at once")
	ErrNotFound  = errors.New("no such function")
	ErrDenied    = errors.New("the call is not allowed")
)

// A Function is what records are changed by.
type Function struct {
	ARN     string // or a blueprint's name with its prefix
	Retries int    // of a call that did not come about or took too long
	Batch   int    // bytes of records in a call, at most

	// What an event tells of the delivery stream.
	Stream, Source string // ARNs; Source is that of the data stream, if it has one
	Region         string
}

// A Record is one that is to be changed.
type Record struct {
	ID      string // differs from those of all others in the call of Transform
	Arrived int64  // epoch ms
	Data    []byte
	Kinesis *Kinesis // of a record that comes from a data stream
}

// Kinesis is where in a data stream a record was.
type Kinesis struct {
	ShardID        string `json:"shardId"`
	PartitionKey   string `json:"partitionKey"`
	Arrived        int64  `json:"approximateArrivalTimestamp"`
	SequenceNumber string `json:"sequenceNumber"`
	SubSequence    string `json:"subsequenceNumber"`
}

// A Status says what became of a record.
type Status int

// What may become of it.
const (
	Ok Status = iota
	Dropped
	Failed
)

// A Result is what became of a record.
type Result struct {
	Status Status
	Data   []byte            // of Ok: the new record
	Keys   map[string]string // of Ok: partition keys, metadata.partitionKeys of the answer

	// Of Failed: what its line says.
	Code, Message string
	Attempts      int
}

// Error codes (Firehose developer guide, "Lambda invocation error codes"). Those
// marked are guesses: the guide has none.
const (
	codeJSON       = "Lambda.JsonProcessingException"
	codeMissing    = "Lambda.MissingRecordId"
	codeDuplicate  = "Lambda.DuplicatedRecordId"
	codeUnknown    = "Lambda.UnknownRecordId" // a guess
	codeFunction   = "Lambda.FunctionError"
	codeTimeout    = "Lambda.FunctionTimedOut"
	codeThrottled  = "Lambda.InvokeLimitExceeded"
	codeNotFound   = "Lambda.ResourceNotFound"
	codeDenied     = "Lambda.InvokeAccessDenied"
	codeInvocation = "Lambda.InvocationFailed" // a guess
	codeTooLarge   = "Lambda.PayloadTooLarge"  // a guess
	codeStatus     = "Lambda.ProcessingFailedStatus"
	codeResult     = "Lambda.UnexpectedRecordResult" // a guess
)

// A failure is why a batch failed.
type failure struct {
	code, message string
	again         bool // another call may do better
	attempts      int
}

// Transform has f change records, in batches of one call each, one after the
// other. The results are in the records' order. The error is that of ctx, when it
// ended before all was done.
func (f *Function) Transform(ctx context.Context, invoker Invoker, records []Record) ([]Result, error) {
	if name, ok := builtin(f.ARN); ok {
		return changeHere(ctx, name, records)
	}
	results := make([]Result, 0, len(records))
	for len(records) > 0 {
		n := f.batch(records)
		done, err := f.call(ctx, invoker, records[:n])
		if err != nil {
			return nil, err
		}
		results = append(results, done...)
		records = records[n:]
	}
	return results, nil
}

// changeHere has a blueprint change records, without an event in between.
func changeHere(ctx context.Context, name string, records []Record) ([]Result, error) {
	results := make([]Result, len(records))
	for i, r := range records {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if data, ok := blueprint.Transform(name, r.Data); ok {
			results[i] = Result{Status: Ok, Data: data}
		} else {
			results[i] = failed(failure{codeStatus, messageStatus, false, 1})
		}
	}
	return results, nil
}

func failed(why failure) Result {
	return Result{Status: Failed, Code: why.code, Message: why.message, Attempts: why.attempts}
}

// call changes one batch.
func (f *Function) call(ctx context.Context, invoker Invoker, batch []Record) ([]Result, error) {
	event := f.event(batch)
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
	for attempt := 1; ; attempt++ {
		answer, why := f.attempt(ctx, invoker, event)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var results []Result
		if why == nil {
			if results, why = read(answer, batch); why == nil {
				return results, nil
			}
		}
		if !why.again || attempt > f.Retries {
			why.attempts = attempt
			results = make([]Result, len(batch))
			for i := range results {
				results[i] = failed(*why)
			}
			return results, nil
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// attempt is one call.
func (f *Function) attempt(ctx context.Context, invoker Invoker, event []byte) ([]byte, *failure) {
	if len(event) > maxPayload {
		return nil, &failure{code: codeTooLarge, message: fmt.Sprintf("the event has %d bytes, at most %d", len(event),
			maxPayload)}
	}
	within, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	answer, functionError, err := invoker.Invoke(within, f.ARN, event)
	switch {
	case err == nil && functionError != "":
		return nil, &failure{code: codeFunction,
			message: "The Lambda function was successfully invoked but it returned an error result: " + cut(answer)}
	case err == nil && len(answer) > maxPayload:
		return nil, &failure{code: codeTooLarge, message: fmt.Sprintf("the answer has %d bytes, at most %d",
			len(answer),
			maxPayload)}
	case err == nil:
		return answer, nil
	case within.Err() != nil:
		return nil, &failure{code: codeTimeout, message: "the function took longer than " + maxTime.String(),
			again: true}
	}
	why := &failure{code: codeInvocation, message: cut([]byte(err.Error())), again: true}
	switch {
	case errors.Is(err, ErrThrottled):
		why.code = codeThrottled
	case errors.Is(err, ErrNotFound):
		why.code, why.again = codeNotFound, false
	case errors.Is(err, ErrDenied):
		why.code, why.again = codeDenied, false
	}
	return nil, why
}

// cut bounds what an error says in each record's line.
func cut(text []byte) string { return fmt.Sprintf("%.300s", text) }
