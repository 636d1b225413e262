package server

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/serving/functions"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/sink/s3"
)

// makeDeliveryStreams makes the service of delivery streams and the folder of what
// S3 did not take. What they reach, egress says.
func (a *assembly) makeDeliveryStreams() error {
	// The objects have the mode that the umask leaves them.
	if err := datadir.Private(a.at("s3_failed")); err != nil {
		return err
	}
	kept, err := objects.Open(a.at("s3_failed"), objects.Options{MinFree: int64(a.cfg.Objects.MinFree), Log: a.log})
	if err != nil {
		return err
	}
	a.closes(kept.Close)
	client := a.egress.Client()
	a.closes(func() error { client.CloseIdleConnections(); return nil })
	a.tables = catalogue.New()
	service := func(at firehose.Place) (aws.Config, error) { return awsConfig(at, client) }
	a.firehose = firehose.New(a.store, firehose.Options{
		Invoker: functions.Transforms{Caller: a.caller},
		Source: func(stream string) connector.Source {
			return connector.InProcess(a.store, a.kinesis.In(""), stream)
		},
		Objects: a.objects, Tables: a.tables, Kept: kept, HTTP: client, Dial: a.egress.Dial, AWS: service,
		S3: func(at firehose.Place) (sink.Objects, error) {
			c, err := service(at)
			return s3.New(c), err
		},
		Account: a.cfg.Account, Region: a.cfg.Region, Log: a.log,
	})
	return nil
}

// awsConfig finds a service of AWS, or one like it.
func awsConfig(at firehose.Place, client *http.Client) (aws.Config, error) {
	c, err := awsapi.Place{Region: at.Region, EndpointURL: at.EndpointURL}.Config(context.Background())
	c.HTTPClient = client
	return c, err
}
