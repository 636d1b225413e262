// Package lambda runs functions: unmodified packages for AWS Lambda, each in
// processes of its own on this machine, without containers. A Manager calls them
// (Call, Invoke) and starts, keeps and ends their processes. Package store keeps
// functions on disk, sandbox says what separates their processes from the bridge,
// and runtimeapi is how they talk.
//
// The package knows nothing of messages, rules or requests. Whoever calls functions
// states an interface with Invoke, and bridge/server hands it a Manager. Functions of
// AWS's are called by the rule action lambda alone (bridge/speed/action), without a Manager.
//
// README.md is the manual: what is served, and what keeps whom from what.
package lambda

import (
	"errors"
	"fmt"
	"time"
)

// Limits of Lambda (Lambda quotas).
const (
	// MaxPayload bounds events and answers of calls that are waited for, and
	// MaxEvent those of others, in bytes.
	MaxPayload = 6 << 20
	MaxEvent   = 1 << 20
	// MaxClientContext bounds the client's context, JSON, in bytes.
	MaxClientContext = 3583
	// TailSize is how much of a call's log is told to the caller, in bytes.
	TailSize = 4 << 10

	// initTimeout is how long a process may start; then the time of its first call
	// begins.
	initTimeout = 10 * time.Second

	// MaxDepth is how many calls one may follow from each other, of which each made the
	// next: by a destination, or by Invoke. A longer chain is taken for a loop (Lambda
	// developer guide, recursive loop detection: "approximately 16 times").
	MaxDepth = 16
)

// Errors of calls. All others are the bridge's own fault.
var (
	// ErrNotFound is that of a function, version or alias that is not there.
	ErrNotFound = errors.New("lambda: function not found")
	// ErrPayload is that of an event that is no JSON.
	ErrPayload = errors.New("lambda: the payload is no JSON")
	// ErrTooLarge is that of an event of more than MaxPayload or MaxEvent bytes.
	ErrTooLarge = errors.New("lambda: the payload is too large")
	// ErrLoop is that of a call that would be one of more than MaxDepth in a chain.
	ErrLoop = errors.New("lambda: functions call each other in a loop, which is ended")
	// ErrClosed is that of a manager that has ended.
	ErrClosed = errors.New("lambda: functions are ended")
	// ErrNotIsolated is that of a function that nothing would keep from the bridge's
	// files and network.
	ErrNotIsolated = errors.New("lambda: nothing isolates functions on this machine " +
		"(lambda.unsafe = true runs them in spite of it)")
)

// A ThrottledError is that of a call for which there is no process: try again later.
type ThrottledError struct {
	Function string
	Reason   string // one of AWS's words, below
}

// Reasons of throttling (Lambda API reference, TooManyRequestsException).
const (
	ReasonReserved = "ReservedFunctionConcurrentInvocationLimitExceeded"
	ReasonAll      = "ConcurrentInvocationLimitExceeded"
)

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("lambda: function %s: rate exceeded (%s)", e.Function, e.Reason)
}

// A Function is a version of a function, as it runs. It must not change.
type Function struct {
	Name     string
	Version  string // "$LATEST" or a number
	Revision string // another one whenever something below is
	ARN      string // of the version

	Runtime     string // "provided.al2023", "python3.12", "nodejs20.x"
	Handler     string
	Role        string
	Timeout     time.Duration // of a call
	Memory      int           // MB
	Environment map[string]string
	// Reserved is how many calls there may be at once of all versions together;
	// -1: those that others leave.
	Reserved int

	// Open returns the folder with the code, which stays until release is called.
	Open func() (dir string, release func(), err error)
}

// Functions finds functions. Store is one.
type Functions interface {
	// Function returns the version that a name and a qualifier name: a version, an
	// alias, or "" for $LATEST. ErrNotFound if there is none.
	Function(name, qualifier string) (*Function, error)
	// Reserved is the sum of all functions' reserved concurrency.
	Reserved() int
}

// A Key is an access key of the bridge's own APIs.
type Key struct {
	ID, Secret, Token string
	Expires           time.Time
}

// Keys gives processes access keys of their function's role.
type Keys interface {
	// Granted says whether a function's role has any right, without which its processes
	// have no key.
	Granted(f *Function) bool
	// Give makes a key for a process, for so long; ok is false if there is none for it.
	Give(f *Function, life time.Duration) (k Key, ok bool)
	// End ends the key of a process that is gone.
	End(id string)
}

// A Call is what a function is called with.
type Call struct {
	Function, Qualifier string
	Payload             []byte // JSON; none is {}
	RequestID           string // "": one is made
	ClientContext       string // JSON, "" for none
	Depth               int    // how many calls of functions led to this one
}

// A Result is what came of a call that a process was found for.
type Result struct {
	Payload []byte // what the function answered, or the error object
	// Failed is "Unhandled" if Payload is an error object: the function told an
	// error, ended, or took too long.
	Failed  string
	Log     []byte // the last of it, at most TailSize bytes
	Version string // that was called
}

// unhandled is what all that goes wrong in a function is called.
const unhandled = "Unhandled"
