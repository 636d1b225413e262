// Command echo is a function of the tests with AWS's own client: it gives its event
// back with how often it was called. It is in no testdata, of which go mod tidy does
// not see what is imported.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type answer struct {
	Event json.RawMessage `json:"event"`
	N     int             `json:"n"`
	Left  bool            `json:"left"`
	ARN   string          `json:"arn"`
}

var calls int

func handle(ctx context.Context, event json.RawMessage) (any, error) {
	calls++
	var in struct {
		Do string `json:"do"`
	}
	if err := json.Unmarshal(event, &in); err != nil {
		return nil, err
	}
	switch in.Do {
	case "fail":
		return nil, errors.New("no good")
	case "exit":
		os.Exit(7)
	case "sleep":
		time.Sleep(time.Minute)
	}
	about, _ := lambdacontext.FromContext(ctx)
	fmt.Println("called", about.AwsRequestID)
	until, _ := ctx.Deadline()
	return answer{event, calls, time.Until(until) > time.Second, about.InvokedFunctionArn}, nil
}

func main() { lambda.Start(handle) }
