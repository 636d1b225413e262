// Package sqs sends messages to queues of SQS, several in a request.
package sqs

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

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

// A Client sends. Several goroutines may use it.
type Client struct{ api *sqs.Client }

// New returns a client. Nothing is asked. What the answer says the message's
// checksum is is not looked at: it comes too late for anything but a twin.
func New(c aws.Config) *Client {
	return &Client{sqs.NewFromConfig(c, func(o *sqs.Options) { o.DisableMessageChecksumValidation = true })}
}

// Send sends messages to the queue of that URL in one request: at most
// MaxMessages of at most MaxBytes together. It returns one error for each.
func (c *Client) Send(ctx context.Context, queue string, ms []Message) []error {
	errs := make([]error, len(ms))
	if len(ms) == 1 {
		_, errs[0] = c.api.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: &ms[0].Body,
			MessageGroupId: some(ms[0].Group), MessageDeduplicationId: some(ms[0].ID)})
		return errs
	}
	entries := make([]types.SendMessageBatchRequestEntry, len(ms))
	for i := range ms {
		entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &ms[i].Body,
			MessageGroupId: some(ms[i].Group), MessageDeduplicationId: some(ms[i].ID)}
	}
	out, err := c.api.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &queue, Entries: entries})
	done := 0
	if err == nil {
		done = len(out.Successful)
		for _, f := range out.Failed {
			i, notOurs := strconv.Atoi(aws.ToString(f.Id))
			if notOurs == nil && i >= 0 && i < len(ms) {
				errs[i] = &awsapi.PartError{Code: aws.ToString(f.Code), Message: aws.ToString(f.Message),
					Sender: f.SenderFault}
				done++
			}
		}
	}
	return awsapi.Whole(errs, done, err)
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
