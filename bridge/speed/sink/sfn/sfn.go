// Package sfn starts executions of state machines of Step Functions.
package sfn

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Limits of StartExecution.
const (
	MaxName  = 80      // characters
	MaxInput = 262_144 // bytes
)

var service = awsapi.Service{ID: "SFN", Name: "states", JSON: "1.0", Target: "AWSStepFunctions"}

// A Client starts executions. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

// Start starts an execution of the machine of that ARN. One of that name that is
// there already was started by an earlier try: that is done. Express machines do
// not know names, and start again.
func (c *Client) Start(ctx context.Context, machine, name, input string) error {
	err := c.api.Call(ctx, "StartExecution",
		map[string]string{"stateMachineArn": machine, "name": name, "input": input}, nil)
	if awsapi.Code(err) == "ExecutionAlreadyExists" {
		return nil
	}
	return err
}
