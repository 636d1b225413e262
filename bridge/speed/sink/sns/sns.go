// Package sns publishes to topics and endpoints of SNS, several messages in a
// request.
package sns

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

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

var service = awsapi.Service{ID: "SNS", Name: "sns", Version: "2010-03-31"}

// A Client publishes. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

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
		in := url.Values{"TargetArn": {target}}
		ms[0].put(in, "")
		errs[0] = c.api.Query(ctx, "Publish", in, nil)
		return errs
	}
	in := url.Values{"TopicArn": {target}}
	for i := range ms {
		prefix := "PublishBatchRequestEntries.member." + strconv.Itoa(i+1) + "."
		in.Set(prefix+"Id", strconv.Itoa(i))
		ms[i].put(in, prefix)
	}
	var out struct {
		Successful []struct{}           `xml:"PublishBatchResult>Successful>member"`
		Failed     []awsapi.FailedEntry `xml:"PublishBatchResult>Failed>member"`
	}
	err := c.api.Query(ctx, "PublishBatch", in, &out)
	return awsapi.ByID(errs, len(out.Successful), out.Failed, err)
}

// put adds the message's parameters, whose names begin with prefix.
func (m *Message) put(in url.Values, prefix string) {
	in.Set(prefix+"Message", m.Text)
	if m.JSON {
		in.Set(prefix+"MessageStructure", "json")
	}
	if m.Group != "" {
		in.Set(prefix+"MessageGroupId", m.Group)
	}
	if m.ID != "" {
		in.Set(prefix+"MessageDeduplicationId", m.ID)
	}
}
