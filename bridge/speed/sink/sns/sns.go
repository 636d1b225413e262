// Package sns publishes to topics and endpoints of SNS, several messages in a
// request.
package sns

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a PublishBatch, and of one message (SNS quotas).
const (
	MaxMessages = 10
	MaxBytes    = 256 << 10
)

// A Message is what subscribers get. Group and ID are of FIFO topics, as of SQS.
type Message struct {
	Text      string
	JSON      bool // an object of a text for each protocol, with default
	Group, ID string
}

// A Client publishes. Several goroutines may use it.
type Client struct{ api *sns.Client }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{sns.NewFromConfig(c)} }

// Batches says whether a target takes several messages at once: topics do, phones
// and applications do not.
func Batches(target string) bool {
	return strings.Count(target, ":") == 5 && !strings.Contains(target, "/")
}

// Publish publishes messages to the target of that ARN in one request: at most
// MaxMessages of at most MaxBytes together, and one if it takes no batches. It
// returns one error for each.
func (c *Client) Publish(ctx context.Context, target string, ms []Message) []error {
	errs := make([]error, len(ms))
	if len(ms) == 1 {
		in := &sns.PublishInput{TargetArn: &target, Message: &ms[0].Text, MessageStructure: ms[0].structure(),
			MessageGroupId: some(ms[0].Group), MessageDeduplicationId: some(ms[0].ID)}
		_, errs[0] = c.api.Publish(ctx, in)
		return errs
	}
	entries := make([]types.PublishBatchRequestEntry, len(ms))
	for i := range ms {
		entries[i] = types.PublishBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), Message: &ms[i].Text,
			MessageStructure: ms[i].structure(), MessageGroupId: some(ms[i].Group),
			MessageDeduplicationId: some(ms[i].ID)}
	}
	out, err := c.api.PublishBatch(ctx, &sns.PublishBatchInput{TopicArn: &target, PublishBatchRequestEntries: entries})
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

func (m *Message) structure() *string {
	if m.JSON {
		return aws.String("json")
	}
	return nil
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
