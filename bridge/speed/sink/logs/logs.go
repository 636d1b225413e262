// Package logs writes events into log streams of CloudWatch Logs, many in a
// request.
package logs

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
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
	Time    int64 // epoch ms
	Message string
}

// ErrRejected means that the service drops an event for its time, and that of
// later tries: older than 14 days or than the group's retention, or more than 2
// hours ahead.
var ErrRejected = errors.New("logs: the event's time is not taken: older than 14 days or its group's retention, " +
	"or 2 hours ahead")

// A Client writes. Several goroutines may use it.
type Client struct{ api *cloudwatchlogs.Client }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{cloudwatchlogs.NewFromConfig(c)} }

// Put writes events, in the order of their times, into a stream of a group. A
// stream that is not there is made; a group is not. It returns one error for each.
func (c *Client) Put(ctx context.Context, group, stream string, events []Event) []error {
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream,
		LogEvents: make([]types.InputLogEvent, len(events))}
	for i := range events {
		in.LogEvents[i] = types.InputLogEvent{Timestamp: &events[i].Time, Message: &events[i].Message}
	}
	errs := make([]error, len(events))
	out, err := c.api.PutLogEvents(ctx, in)
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		_, why := c.api.CreateLogStream(ctx,
			&cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream})
		if _, there := errors.AsType[*types.ResourceAlreadyExistsException](why); why == nil || there {
			out, err = c.api.PutLogEvents(ctx, in)
		}
	}
	if err == nil && out.RejectedLogEventsInfo != nil {
		reject(errs, out.RejectedLogEventsInfo)
	}
	for i := range errs {
		if err != nil {
			errs[i] = err
		}
	}
	return errs
}

// reject marks what the answer says is not taken: the events before an index, two
// times, and those from an index on.
func reject(errs []error, r *types.RejectedLogEventsInfo) {
	for i := range errs {
		if r.TooOldLogEventEndIndex != nil && i < int(*r.TooOldLogEventEndIndex) ||
			r.ExpiredLogEventEndIndex != nil && i < int(*r.ExpiredLogEventEndIndex) ||
			r.TooNewLogEventStartIndex != nil && i >= int(*r.TooNewLogEventStartIndex) {
			errs[i] = ErrRejected
		}
	}
}
