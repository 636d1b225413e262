// Package lambda calls functions of Lambda.
package lambda

import (
	"context"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// MaxEvent is how many bytes an event has that nobody waits for (Lambda quotas).
const MaxEvent = 1 << 20

var service = awsapi.Service{ID: "Lambda", Name: "lambda"}

// A Client calls functions. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

// Event has a function called with an event, some time later: it returns when
// Lambda has the event. function is an ARN, which may end in a version or alias.
func (c *Client) Event(ctx context.Context, function string, event []byte) error {
	_, err := c.api.Post(ctx, "Invoke", path(function), header("Event"), event)
	return err
}

func path(function string) string {
	return "/2015-03-31/functions/" + url.PathEscape(function) + "/invocations"
}

func header(invocation string) http.Header {
	return http.Header{"X-Amz-Invocation-Type": {invocation}, "Content-Type": {"application/octet-stream"}}
}

// MaxAnswer is how many bytes a function answers, and is given, if somebody waits:
// 6 MB (Lambda quotas), with what is around.
const MaxAnswer = 6<<20 + 64<<10

// Invoke calls a function and waits for its answer. functionError is "Handled" or
// "Unhandled" if the function failed, and the answer says how.
func (c *Client) Invoke(ctx context.Context, function string, event []byte) (answer []byte, functionError string,
	err error) {
	answer, head, err := c.api.Ask(ctx, "Invoke", path(function), header("RequestResponse"), event, MaxAnswer)
	return answer, head.Get("X-Amz-Function-Error"), err
}
