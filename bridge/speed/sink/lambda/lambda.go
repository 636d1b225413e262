// Package lambda calls functions of Lambda.
package lambda

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// MaxEvent is how many bytes an event has that nobody waits for (Lambda quotas).
const MaxEvent = 1 << 20

// A Client calls functions. Several goroutines may use it.
type Client struct{ api *lambda.Client }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{lambda.NewFromConfig(c)} }

// Event has a function called with an event, some time later: it returns when
// Lambda has the event. function is an ARN, which may end in a version or alias.
func (c *Client) Event(ctx context.Context, function string, event []byte) error {
	_, err := c.api.Invoke(ctx, &lambda.InvokeInput{FunctionName: &function, InvocationType: types.InvocationTypeEvent,
		Payload: event})
	return err
}
