package send

import (
	"cmp"
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/lambda"
	"github.com/tidemill/tidemill/bridge/speed/sink/sfn"
)

// machines are clients with the region that their machines are in.
type machines struct {
	*sfn.Client
	region string
}

func addCalls(o *Options, add adding) {
	functions := newClients(o, "lambda", lambda.New)
	add("lambda", 16, lambda.MaxEvent, inOrder(func(ctx context.Context, d *action.Delivery) error {
		function := d.Parameter("functionArn")
		// Nobody else has functions under ARNs of the bridge's own.
		own := arn.Of("lambda", o.Region, o.Account, "")
		if o.Functions != nil && (strings.HasPrefix(function, own) || o.Functions.HasFunction(function)) {
			return o.Functions.InvokeEvent(ctx, function, d.ID, d.Data)
		}
		c, err := functions.in(ctx, arnRegion(function))
		if err != nil {
			return err
		}
		return c.Event(ctx, function, d.Data)
	}))
	flows := newClients(o, "stepFunctions", func(c aws.Config) machines { return machines{sfn.New(c), c.Region} })
	add("stepFunctions", 16, sfn.MaxInput, inOrder(func(ctx context.Context, d *action.Delivery) error {
		c, err := flows.in(ctx, "")
		if err != nil {
			return err
		}
		machine := arn.Of("states", c.region, cmp.Or(o.Machines, o.Account),
			"stateMachine:"+d.Parameter("stateMachineName"))
		return c.Start(ctx, machine, d.Parameter("executionNamePrefix")+d.ID, string(d.Data))
	}))
}
