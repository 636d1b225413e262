package awsapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// A PartError is what a service says to a call that it does not do, or to one part of
// a batch that it took otherwise. It is an APIError of the SDK.
type PartError struct {
	Code, Message string
	Status        int // of HTTP, if the part has one; 0: it has none
	Sender        bool
}

func (e *PartError) Error() string {
	switch {
	case e.Code == "" && e.Message == "":
		return fmt.Sprintf("status %d", e.Status)
	case e.Code == "":
		return fmt.Sprintf("status %d: %s", e.Status, e.Message)
	}
	return fmt.Sprintf("%s: %s", short(e.Code), short(e.Message))
}

// maxQuoted is how much of what a service answers an error quotes, in bytes.
const maxQuoted = 300

func short(text string) string {
	if len(text) > maxQuoted {
		return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return text
}

// ErrorCode, ErrorMessage and ErrorFault implement smithy.APIError.
func (e *PartError) ErrorCode() string    { return e.Code }
func (e *PartError) ErrorMessage() string { return short(e.Message) }
func (e *PartError) ErrorFault() smithy.ErrorFault {
	if e.Sender {
		return smithy.FaultClient
	}
	return smithy.FaultServer
}

// transient are parts of error codes that a later try may not meet, in lower case:
// the service is busy, not well, or its clock, our clock or the credentials are
// about to be set right. The services spell them differently (Common errors of
// each API reference).
var transient = []string{
	"throttl", "throughputexceeded", "requestlimitexceeded", "toomanyrequests", "limitexceeded", "serviceunavailable",
	"slowdown", "internalserver", "internalfailure", "internalerror", "serviceinternal", "internalservice",
	"requesttimeout", "requestexpired", "expiredtoken", "timetooskewed", "priorrequestnotcomplete",
	"transactionconflict", "transactioninprogress", "overlimit", "bandwidthlimit", "kmsinternal", "ec2throttled",
}

// permanent are codes that look like one of transient and are none.
var permanent = []string{"itemcollectionsizelimitexceeded", "messagetoolong", "requestentitytoolarge", "requesttoolarge"}

// Permanent says whether a call that failed with err would fail again, however
// often it is made: the service refused it, or the client cannot even write it
// down. Connections that fail, times that run out and answers that are none are
// not permanent.
func Permanent(err error) bool {
	if _, ok := errors.AsType[*smithy.SerializationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[smithy.InvalidParamsError](err); ok {
		return true
	}
	status := 0
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = r.HTTPStatusCode()
	}
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return PermanentStatus(status)
	}
	if p, ok := errors.AsType[*PartError](err); ok {
		status = p.Status
	}
	code := strings.ToLower(e.ErrorCode())
	for _, c := range permanent {
		if strings.Contains(code, c) {
			return true
		}
	}
	for _, c := range transient {
		if strings.Contains(code, c) {
			return false
		}
	}
	if status == 0 {
		return e.ErrorFault() == smithy.FaultClient
	}
	return PermanentStatus(status)
}

// PermanentStatus is Permanent by the status of an answer of HTTP alone: 4xx but
// for those that ask for another try. 3xx count too, since redirects are not
// followed. 0 is no answer.
func PermanentStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 300 && status < 500
}

// Code returns the code of the service's answer, "" if err is none.
func Code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}
