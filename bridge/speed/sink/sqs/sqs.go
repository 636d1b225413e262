// Package sqs sends messages to queues of SQS, several in a request.
package sqs

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a SendMessageBatch (SQS quotas, since 2025).
const (
	MaxMessages = 10
	MaxBytes    = 1 << 20
)

// A Message is what a queue takes. Group and ID are of FIFO queues: order is kept
// within a group, and what has the ID of a message of the last 5 minutes is
// dropped.
type Message struct{ Body, Group, ID string }

// IsFIFO says whether a queue or topic of that URL or ARN is FIFO.
func IsFIFO(name string) bool { return strings.HasSuffix(name, ".fifo") }

var service = awsapi.Service{ID: "SQS", Name: "sqs", JSON: "1.0", Target: "AmazonSQS"}

// A Client sends. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked. What the answer says the message's
// checksum is is not looked at: it comes too late for anything but a duplicate.
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

// An entry is a message as SQS takes it.
type entry struct {
	ID              string `json:"Id,omitempty"`
	QueueURL        string `json:"QueueUrl,omitempty"`
	Body            string `json:"MessageBody"`
	Group           string `json:"MessageGroupId,omitempty"`
	DeduplicationID string `json:"MessageDeduplicationId,omitempty"`
}

// Send sends messages to the queue of that URL in one request: at most
// MaxMessages of at most MaxBytes together. It returns one error for each.
func (c *Client) Send(ctx context.Context, queue string, ms []Message) []error {
	errs := make([]error, len(ms))
	if len(ms) == 1 {
		errs[0] = c.api.Call(ctx, "SendMessage",
			entry{QueueURL: queue, Body: ms[0].Body, Group: ms[0].Group, DeduplicationID: ms[0].ID}, nil)
		return errs
	}
	entries := make([]entry, len(ms))
	for i, m := range ms {
		entries[i] = entry{ID: strconv.Itoa(i), Body: m.Body, Group: m.Group, DeduplicationID: m.ID}
	}
	var out struct {
		Successful []struct{}
		Failed     []awsapi.FailedEntry
	}
	err := c.api.Call(ctx, "SendMessageBatch", map[string]any{"QueueUrl": queue, "Entries": entries}, &out)
	return awsapi.ByID(errs, len(out.Successful), out.Failed, err)
}
