// Package cloudwatch puts metrics into CloudWatch, many in a request, and sets
// the state of alarms.
package cloudwatch

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"
)

// MaxData is how many data a PutMetricData has (CloudWatch quotas). Each is far
// below a 1000th of the 1 MB of a request.
const MaxData = 1000

// A Datum is one value of a metric without dimensions.
type Datum struct {
	Name  string
	Value float64
	Unit  string // one of Units
	Time  time.Time
}

// A Client calls CloudWatch. Several goroutines may use it.
type Client struct{ api *cloudwatch.Client }

// New returns a client. Nothing is asked. It speaks the query protocol: CloudWatch
// takes it as ever, and what stands for it elsewhere knows no other (moto 5.2 answers
// CBOR with 404).
func New(c aws.Config) *Client { return &Client{cloudwatch.NewFromConfig(c, Query)} }

// Query has a client speak the query protocol.
func Query(o *cloudwatch.Options) { o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801) }

// Units are the names of units, in the spelling that is taken.
func Units() (names []string) {
	for _, u := range types.StandardUnit("").Values() {
		names = append(names, string(u))
	}
	return names
}

// Put puts data into a namespace: all or none.
func (c *Client) Put(ctx context.Context, namespace string, data []Datum) error {
	in := &cloudwatch.PutMetricDataInput{Namespace: &namespace, MetricData: make([]types.MetricDatum, len(data))}
	for i := range data {
		in.MetricData[i] = types.MetricDatum{MetricName: &data[i].Name, Value: &data[i].Value,
			Unit: types.StandardUnit(data[i].Unit), Timestamp: &data[i].Time}
	}
	_, err := c.api.PutMetricData(ctx, in)
	return err
}

// SetAlarm puts an alarm into a state: OK, ALARM or INSUFFICIENT_DATA.
func (c *Client) SetAlarm(ctx context.Context, name, state, reason string) error {
	_, err := c.api.SetAlarmState(ctx, &cloudwatch.SetAlarmStateInput{AlarmName: &name,
		StateValue: types.StateValue(state), StateReason: &reason})
	return err
}
