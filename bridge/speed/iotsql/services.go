package iotsql

import (
	"context"
	"time"
)

// Services are what functions that reach outside the engine ask. A statement
// that calls a function whose service is nil is refused when it is compiled.
//
// Each call has a time limit, callLimit or lambdaLimit. What is not there is
// Undefined; so is a call that fails or takes too long, which Failed is told.
// The calls the guide says end a rule (a second get_dynamodb, get_secret with
// a key of what is no JSON object) fail the evaluation.
type Services struct {
	Shadows  Shadows
	Things   Things
	Tables   Tables
	Secrets  Secrets
	Lambdas  Lambdas
	Models   Models
	Protobuf Descriptors

	// Failed is told of calls that failed, if it is not nil. It may be called
	// from several goroutines and must not block.
	Failed func(function string, err error)
}

const (
	callLimit   = time.Second             // our choice
	lambdaLimit = 2000 * time.Millisecond // rule SQL reference, aws_lambda
)

// Documents that services answer are JSON; nil with no error means that there
// is none. The caller does not change them and lets go of them soon.

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
	Item(ctx context.Context, table, partitionKey string, partitionValue []byte, sortKey string, sortValue []byte) ([]byte, error)
}

// Secrets answers get_secret. A service keeps answers for up to 15 minutes if
// it likes (rule SQL reference, get_secret).
type Secrets interface {
	// Secret returns a secret's current value: text, or, when binary is set,
	// bytes. Both are nil when there is none of that kind.
	Secret(ctx context.Context, id string, binary bool) ([]byte, error)
}

// Lambdas answers aws_lambda.
type Lambdas interface {
	// Invoke calls the function with a JSON document and returns its answer.
	Invoke(ctx context.Context, arn string, input []byte) ([]byte, error)
}

// Models answers machinelearning_predict.
type Models interface {
	// Predict returns the prediction for a record, a JSON object of strings
	// and numbers.
	Predict(ctx context.Context, model string, record []byte) ([]byte, error)
}

// Descriptors finds the descriptor sets of decode(…, 'proto', …).
type Descriptors interface {
	// DescriptorSet returns a serialized google.protobuf.FileDescriptorSet,
	// nil if there is no such object, and a tag that is another one when the
	// object was written anew. With known set to the tag that the caller has
	// seen, the bytes may be left out if that is still the object's.
	DescriptorSet(ctx context.Context, bucket, key, known string) (set []byte, tag string, err error)
}
