// Package logs writes events into log streams of CloudWatch Logs, many in a
// request.
package logs

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a PutLogEvents (CloudWatch Logs quotas): each event counts Overhead
// bytes more than its message, and all are within Span.
const (
	MaxEvents = 10_000
	MaxBytes  = 1 << 20
	Overhead  = 26
	Span      = 24 * 60 * 60 * 1000 // ms
)

// An Event is one line of a log.
type Event struct {
	Time    int64  `json:"timestamp"` // epoch ms
	Message string `json:"message"`
}

// ErrRejected means that the service drops an event for its time, and that of
// later tries: older than 14 days or than the group's retention, or more than 2
// hours ahead.
var ErrRejected = errors.New("logs: the event's time is not taken: older than 14 days or its group's retention, " +
	"or 2 hours ahead")

var service = awsapi.Service{ID: "CloudWatch Logs", Name: "logs", JSON: "1.1", Target: "Logs_20140328"}

// A Client writes. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

// An answer says which events are not taken: those before an index, two times, and
// those from an index on.
type answer struct {
	Rejected *struct {
		TooOld  *int `json:"tooOldLogEventEndIndex"`
		Expired *int `json:"expiredLogEventEndIndex"`
		TooNew  *int `json:"tooNewLogEventStartIndex"`
	} `json:"rejectedLogEventsInfo"`
}

// Put writes events, in the order of their times, into a stream of a group. A
// stream that is not there is made; a group is not. It returns one error for each.
func (c *Client) Put(ctx context.Context, group, stream string, events []Event) []error {
	name := map[string]string{"logGroupName": group, "logStreamName": stream}
	in := map[string]any{"logGroupName": group, "logStreamName": stream, "logEvents": events}
	errs := make([]error, len(events))
	var out answer
	err := c.api.Call(ctx, "PutLogEvents", in, &out)
	if awsapi.Code(err) == "ResourceNotFoundException" {
		why := c.api.Call(ctx, "CreateLogStream", name, nil)
		if why == nil || awsapi.Code(why) == "ResourceAlreadyExistsException" {
			err = c.api.Call(ctx, "PutLogEvents", in, &out)
		}
	}
	if err == nil {
		out.reject(errs)
	}
	for i := range errs {
		if err != nil {
			errs[i] = err
		}
	}
	return errs
}

// reject marks what is not taken.
func (a *answer) reject(errs []error) {
	r := a.Rejected
	if r == nil {
		return
	}
	for i := range errs {
		if r.TooOld != nil && i < *r.TooOld || r.Expired != nil && i < *r.Expired || r.TooNew != nil && i >= *r.TooNew {
			errs[i] = ErrRejected
		}
	}
}
