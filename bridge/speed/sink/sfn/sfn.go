// Package sfn starts executions of state machines of Step Functions.
package sfn

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Limits of StartExecution.
const (
	MaxName  = 80      // characters
	MaxInput = 262_144 // bytes
)

// A Client starts executions. Several goroutines may use it.
type Client struct{ api *sfn.Client }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{sfn.NewFromConfig(c)} }

// Start starts an execution of the machine of that ARN. One of that name that is
// there already was started by an earlier try: that is done. Express machines do
// not know names, and start again.
func (c *Client) Start(ctx context.Context, machine, name, input string) error {
	_, err := c.api.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &machine, Name: &name, Input: &input})
	if awsapi.Code(err) == "ExecutionAlreadyExists" {
		return nil
	}
	return err
}
