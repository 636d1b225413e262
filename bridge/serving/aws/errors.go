package aws

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

// Errors of this package's own.
var (
	errBusy             = errors.New("too many requests are under way, try again")
	errUnknownOperation = errors.New("unknown operation")
)

// An Error is an error as AWS says it.
type Error = wire.Error

// table has the names and codes of all errors; the first row that applies
// counts. Where message is empty the error's own text is told. Signatures: the
// common errors of AWS's JSON services; a client whose clock is off corrects
// itself by InvalidSignatureException and the answer's Date. The rest: AWS IoT
// API reference.
var table = []struct {
	is      error
	code    string
	status  int
	message string
}{
	{sigv4.ErrMissing, "MissingAuthenticationTokenException", 403, "Missing Authentication Token"},
	{sigv4.ErrBoth, "InvalidSignatureException", 403, ""},
	{sigv4.ErrIncomplete, "IncompleteSignatureException", 403, ""},
	{sigv4.ErrUnknownKey, "UnrecognizedClientException", 403, "The security token included in the request is invalid."},
	{sigv4.ErrMismatch, "InvalidSignatureException", 403, ""},
	{sigv4.ErrTime, "InvalidSignatureException", 403, ""},
	{sigv4.ErrTooLarge, "RequestEntityTooLargeException", 413, ""},
	{sigv4.ErrBody, "SerializationException", 400, ""},
	{errBusy, "ThrottlingException", 429, ""},
	{errUnknownOperation, "UnknownOperationException", 404, ""},
	{registry.ErrExists, "ResourceAlreadyExistsException", 409, ""},
	{registry.ErrNotFound, "ResourceNotFoundException", 404, ""},
	{registry.ErrConflict, "ConflictingResourceUpdateException", 409, ""},
	{authz.ErrMalformed, "MalformedPolicyException", 400, ""},
	{registry.ErrInvalid, "InvalidRequestException", 400, ""},
	{index.ErrQuery, "InvalidQueryException", 400, ""},
	{index.ErrNotReady, "IndexNotReadyException", 400, ""},
	{index.ErrNoIndex, "ResourceNotFoundException", 404, ""},
	{index.ErrAggregation, "InvalidAggregationException", 400, ""},
	{context.Canceled, "ServiceUnavailableException", 503, "the bridge is stopping"},
	{context.DeadlineExceeded, "ServiceUnavailableException", 503, "it took too long"},
}

// errorOf says err in AWS's words. What is in no row is the bridge's own fault
// and not told to the caller.
func errorOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*iotsql.SyntaxError](err); ok {
		return &Error{Code: "SqlParseException", Status: 400, Message: err.Error()}
	}
	for _, row := range table {
		if errors.Is(err, row.is) {
			e := &Error{Code: row.code, Status: row.status, Message: row.message}
			if e.Message == "" {
				e.Message = err.Error()
			}
			return e
		}
	}
	return &Error{Code: "InternalException", Status: 500, Message: "an unexpected error has occurred; the bridge's log has it under this request's id"}
}
