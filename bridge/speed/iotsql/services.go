package iotsql

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Services are what functions that reach outside the engine ask. A statement
// that calls a function whose service is nil is refused when it is compiled.
//
// Each call has a time limit: the context given ends then, and a service
// returns soon after. What is not there is Undefined; so is the answer of a
// call that fails, takes too long, or answers what is no JSON or over
// maxOutput, which Failed is told. The calls the guide says end a rule fail
// the evaluation: see errSecretKey and errTooManyCalls. The evaluation also
// fails when its own context ends during a call, so that no document is made
// of half of the answers.
//
// Several goroutines may use one Services, which must not be copied.
type Services struct {
	Shadows  Shadows
	Things   Things
	Tables   Tables
	Secrets  Secrets
	Lambdas  Lambdas
	Models   Models
	Protobuf Descriptors

	// Failed is told of calls that failed, if it is not nil: what AWS logs as
	// FunctionExecution (guide, Rules engine log entries). It may be called
	// from several goroutines, for each message, and must not block.
	Failed func(function string, err error)

	schemas schemas
}

const (
	callLimit   = time.Second             // our choice
	lambdaLimit = 2000 * time.Millisecond // rule SQL reference, aws_lambda
)

// Errors of calls that end a rule.
var (
	// errSecretKey says that get_secret was given a key of a secret that is no
	// JSON object. get_or_default catches it.
	errSecretKey = errors.New("iotsql: get_secret has a key, but the secret is no JSON object")
	// errTooManyCalls says that a statement called get_dynamodb a second or
	// decode of protobuf a third time for one message.
	errTooManyCalls = errors.New("iotsql: too many calls of get_dynamodb or of decode of protobuf")
)

// What services answer and statements pass is JSON, but for secrets and
// descriptor sets. nil with no error means that there is no such thing. A
// service may hand out bytes that it keeps: the caller does not change them
// and lets go of them soon. It keeps no reference to its arguments.

// Shadows answers get_thing_shadow.
type Shadows interface {
	// Shadow returns the document of a thing's shadow as GetThingShadow does;
	// name is "" for the classic one.
	Shadow(ctx context.Context, thing, name string) ([]byte, error)
}

// Things answers get_registry_data.
type Things interface {
	// Describe returns DescribeThing's answer.
	Describe(ctx context.Context, thing string) ([]byte, error)
	// Groups returns ListThingGroupsForThing's answer.
	Groups(ctx context.Context, thing string) ([]byte, error)
}

// Tables answers get_dynamodb.
type Tables interface {
	// Item returns one item as plain JSON. sortKey is "" for a table without
	// one. The values are JSON: a string or a number.
	Item(ctx context.Context, table, partitionKey string, partitionValue []byte, sortKey string,
		sortValue []byte) ([]byte, error)
}

// Secrets answers get_secret. A service keeps answers for up to 15 minutes if
// it likes (rule SQL reference, get_secret).
type Secrets interface {
	// Secret returns a secret's current value: UTF-8 text, or, when binary is
	// set, bytes. nil says that it has no value of that kind.
	Secret(ctx context.Context, id string, binary bool) ([]byte, error)
}

// Lambdas answers aws_lambda.
type Lambdas interface {
	// Invoke calls the function with a JSON document and returns its answer.
	Invoke(ctx context.Context, arn string, input []byte) ([]byte, error)
}

// Models answers machinelearning_predict.
type Models interface {
	// Predict returns the prediction for a record, a JSON object whose values
	// are neither objects nor arrays.
	Predict(ctx context.Context, model string, record []byte) ([]byte, error)
}

// Descriptors finds the descriptor sets of decode(…, 'proto', …).
type Descriptors interface {
	// DescriptorSet returns a serialized google.protobuf.FileDescriptorSet,
	// nil and "" if there is no such object, and a tag that is another one
	// when the object was written anew. If the tag still is known, a tag that
	// the caller has seen or "", the bytes may be left out.
	DescriptorSet(ctx context.Context, bucket, key, known string) (set []byte, tag string, err error)
}

// An answer is a call of a service, with its arguments.
type answer func(ctx context.Context, x *Services) ([]byte, error)

// ask calls a service for function within limit. It returns nil when there is
// no answer.
func (f *frame) ask(function string, limit time.Duration, call answer) []byte {
	ctx, cancel := context.WithTimeout(f.ctx, limit)
	defer cancel()
	b, err := pass(ctx, func() ([]byte, error) { return call(ctx, f.prog.services) })
	switch {
	case err != nil && f.ctx.Err() != nil:
		f.fail(fmt.Errorf("iotsql: %s: %w", function, context.Cause(f.ctx)))
		return nil
	case err == nil && len(b) > maxOutput:
		err = fmt.Errorf("answer of %d bytes: %w", len(b), errTooLarge)
	}
	if err != nil {
		f.failed(function, err)
		return nil
	}
	if b == nil {
		f.trace.setNote("there is none")
	}
	return b
}

var errNotJSON = errors.New("the answer is no JSON")

// document is ask for a JSON answer.
func (f *frame) document(function string, limit time.Duration, call answer) value {
	b := f.ask(function, limit, call)
	if b == nil {
		return value{}
	}
	v, ok := jsonValue(b)
	if !ok {
		f.failed(function, errNotJSON)
	}
	return v
}

// jsonValue makes a value of bytes that may be anything; ok is false if they
// are no JSON text, or one nested deeper than maxPayloadNesting.
func jsonValue(b []byte) (v value, ok bool) {
	i, end := skipSpace(b, 0), len(b)
	for end > i && isSpace(b[end-1]) {
		end--
	}
	b = b[i:end]
	if skipValue(b, 0, maxPayloadNesting) != len(b) || !utf8.Valid(b) {
		return value{}, false
	}
	return wireValue(b), true
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// failed tells of a call that failed, also the one who asked to explain.
func (f *frame) failed(function string, err error) {
	f.prog.services.failed(function, err)
	f.trace.setNote(err.Error())
}

func (x *Services) failed(function string, err error) {
	if x.Failed != nil {
		x.Failed(function, err)
	}
}
