// Package cloudwatch puts metrics into CloudWatch, many in a request, and sets
// the state of alarms.
package cloudwatch

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// MaxData is how many data a PutMetricData has (CloudWatch quotas). Each is far
// below a 1000th of the 1 MB of a request.
const MaxData = 1000

// A Datum is one value of a metric without dimensions.
type Datum struct {
	Name  string
	Value float64
	Unit  string // as CloudWatch spells it: "Count/Second"
	Time  time.Time
}

var service = awsapi.Service{ID: "CloudWatch", Name: "monitoring", Version: "2010-08-01"}

// A Client calls CloudWatch. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked. It speaks the query protocol: CloudWatch
// takes it as ever, and what stands for it elsewhere knows no other (moto 5.2 answers
// CBOR with 404).
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

// Put puts data into a namespace: all or none.
func (c *Client) Put(ctx context.Context, namespace string, data []Datum) error {
	in := url.Values{"Namespace": {namespace}}
	for i, d := range data {
		prefix := "MetricData.member." + strconv.Itoa(i+1) + "."
		in.Set(prefix+"MetricName", d.Name)
		in.Set(prefix+"Value", strconv.FormatFloat(d.Value, 'g', -1, 64))
		in.Set(prefix+"Timestamp", d.Time.UTC().Format("2006-01-02T15:04:05.999Z"))
		if d.Unit != "" {
			in.Set(prefix+"Unit", d.Unit)
		}
	}
	return c.api.Query(ctx, "PutMetricData", in, nil)
}

// SetAlarm puts an alarm into a state: OK, ALARM or INSUFFICIENT_DATA.
func (c *Client) SetAlarm(ctx context.Context, name, state, reason string) error {
	return c.api.Query(ctx, "SetAlarmState",
		url.Values{"AlarmName": {name}, "StateValue": {state}, "StateReason": {reason}}, nil)
}
