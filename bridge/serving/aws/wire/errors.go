package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/sigv4"
)

// Codes of errors that all services have.
const (
	serialization   = "SerializationException"
	validation      = "ValidationException"
	invalidRequest  = "InvalidRequestException"
	internalFailure = "InternalFailure" // the name on the wire of JSON protocols
)

var (
	// ErrDenied is what a caller may not do. A service may have its own word for
	// it.
	ErrDenied = errors.New("the caller is not allowed to do this")

	errBusy             = errors.New("too many requests are under way, try again")
	errNoRoom           = errors.New("there is no room for new data")
	errUnknownOperation = errors.New("unknown operation")
)

// An Error is an error as AWS says it. In RESTJSON its name is in the header
// X-Amzn-Errortype, and the rest is the body.
type Error struct {
	Code    string `json:"-"`
	Status  int    `json:"-"` // of RESTJSON; the JSON protocols say 400 for all that is the caller's fault
	Message string `json:"message"`
	// Of ResourceAlreadyExistsException.
	ResourceID  string `json:"resourceId,omitempty"`
	ResourceARN string `json:"resourceArn,omitempty"`
	// Of Lambda's errors: "User" or "Service", and why there are too many requests.
	Type   string `json:"Type,omitempty"`
	Reason string `json:"Reason,omitempty"`
	// RetryAfter tells the client when to try again, in seconds; 0: nothing.
	RetryAfter int `json:"-"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf returns an Error with a message of its own.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
}

// internal says whether the fault is the bridge's.
func (e *Error) internal() bool { return e.Status == http.StatusInternalServerError }

// A Rule gives some errors their names; it returns nil for others.
type Rule func(error) *Error

// Is names the errors that wrap one. Their own text is told.
func Is(target error, code string, status int) Rule { return Say(target, code, status, "") }

// Say is Is with a message in the place of the errors' own text.
func Say(target error, code string, status int, message string) Rule {
	return func(err error) *Error {
		if !errors.Is(err, target) {
			return nil
		}
		e := &Error{Code: code, Status: status, Message: message}
		if message == "" {
			e.Message = err.Error()
		}
		return e
	}
}

// As names the errors of a type. f may return nil.
func As[E error](f func(E) *Error) Rule {
	return func(err error) *Error {
		if e, ok := errors.AsType[E](err); ok {
			return f(e)
		}
		return nil
	}
}

// noRoom is what callers read while new data is refused: no path of this machine.
const noRoom = "The service has too little room for new data. Try again later."

// common are the errors of all services, after each one's own. Signatures: the
// common errors of AWS's JSON services; a client whose clock is off corrects
// itself by InvalidSignatureException and the answer's Date.
var common = []Rule{
	As(func(e shape.TypeError) *Error { return &Error{Code: serialization, Status: 400, Message: string(e)} }),
	As(func(e shape.ValidationError) *Error { return &Error{Code: validation, Status: 400, Message: string(e)} }),
	Say(sigv4.ErrMissing, "MissingAuthenticationTokenException", 403, "Missing Authentication Token"),
	Is(sigv4.ErrBoth, "InvalidSignatureException", 403),
	Is(sigv4.ErrIncomplete, "IncompleteSignatureException", 403),
	Say(sigv4.ErrUnknownKey, "UnrecognizedClientException", 403,
		"The security token included in the request is invalid."),
	Is(sigv4.ErrMismatch, "InvalidSignatureException", 403),
	Is(sigv4.ErrTime, "InvalidSignatureException", 403),
	Is(sigv4.ErrTooLarge, "RequestEntityTooLargeException", 413),
	Is(sigv4.ErrBody, serialization, 400),
	Is(shape.ErrSyntax, serialization, 400),
	Is(errBusy, "ThrottlingException", 429),
	Say(errNoRoom, "ServiceUnavailableException", 503, noRoom),
	Is(errUnknownOperation, "UnknownOperationException", 404),
	Is(ErrDenied, "AccessDeniedException", 403),
	Say(context.Canceled, "ServiceUnavailableException", 503, "the bridge is stopping"),
	Say(context.DeadlineExceeded, "ServiceUnavailableException", 503, "it took too long"),
}

// errorOf says err in AWS's words, by the rules of its service. What no rule
// knows is the bridge's own fault and not told to the caller.
func errorOf(err error, rules []Rule) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	for _, of := range [][]Rule{rules, common} {
		for _, rule := range of {
			if e := rule(err); e != nil {
				return e
			}
		}
	}
	return &Error{Code: "InternalException", Status: 500,
		Message: "an unexpected error has occurred; the bridge's log has it under this request's id"}
}
