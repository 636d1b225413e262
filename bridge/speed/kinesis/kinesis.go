// Package kinesis is Kinesis Data Streams over the bridge's own log: a data
// stream is a stream of the log whose name the API allows, its shards are the
// log's, and a record that is acknowledged is synced. The package knows
// nothing of wire protocols: serving/aws reads requests into the Input structs
// and writes the Outputs.
//
// What the service is asked follows the API reference; where a real client is
// known to depend on more, the operation's comment says which.
package kinesis

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// An Error is one that a client is meant to see.
type Error struct {
	Code    string // the type's name in the API, such as ResourceNotFoundException
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes of Errors.
const (
	AccessDenied       = "AccessDeniedException"
	DryRun             = "DryRunOperationException"
	ExpiredIterator    = "ExpiredIteratorException"
	ExpiredNextToken   = "ExpiredNextTokenException"
	InternalFailure    = "InternalFailureException"
	InvalidArgument    = "InvalidArgumentException"
	LimitExceeded      = "LimitExceededException"
	ResourceInUse      = "ResourceInUseException"
	ResourceNotFound   = "ResourceNotFoundException"
	ThroughputExceeded = "ProvisionedThroughputExceededException"
	Validation         = "ValidationException"
)

func errorf(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Options of a Service.
type Options struct {
	Account string // 12 digits: part of ARNs
	Region  string // of ARNs, where a caller has none of its own
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now

	// Delay is how long a stream or consumer is seen as CREATING, UPDATING or
	// DELETING, at least. What was asked for is durable before that.
	Delay time.Duration

	// Emulate enforces the service's limits on all streams: rates of shards,
	// and of calls. Off, a shard takes what the disk takes.
	Emulate bool

	// MaxShards is how many shards all streams together may have open; 0:
	// streams.MaxShards.
	MaxShards int

	// SmallRequests holds PutRecords to the 5 MiB a request that were the
	// limit until 2025, instead of 10 MiB.
	SmallRequests bool
}

// A Service is all data streams of one log. Its methods may be called from
// several goroutines. It works once Open returned; Run does what has to be done
// in the background.
type Service struct {
	store streams.Log
	opts  Options
	log   *slog.Logger
	now   func() time.Time
	registry
	plane
}

// An API is the service as a caller sees it who signs for a region.
type API struct {
	s      *Service
	region string
}

// In returns the service for a region; "" is the bridge's own.
func (s *Service) In(region string) API {
	if region == "" {
		region = s.opts.Region
	}
	return API{s, region}
}
