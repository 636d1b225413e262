package send

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/firehose"
	"github.com/tidemill/tidemill/bridge/speed/sink/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// addStreams adds those that the bridge has of its own, too: what comes here goes
// elsewhere.
func addStreams(o *Options, add adding) {
	streams := newClients(o, "kinesis", kinesis.New)
	add("kinesis", kinesis.MaxRecords, kinesis.MaxBytes, func(ctx context.Context, ds deliveries) []error {
		return runs(ds, param("streamName"), kinesis.MaxRecords, kinesis.MaxBytes, func(run deliveries) []error {
			c, err := streams.in(ctx, "")
			if err != nil {
				return each(len(run), err)
			}
			return apart(run, func(run deliveries) []error {
				rs := make([]kinesis.Record, len(run))
				for i, d := range run {
					rs[i] = kinesis.Record{Key: d.Parameter("partitionKey"), Data: d.Data}
				}
				return c.Put(ctx, run[0].Parameter("streamName"), rs)
			})
		})
	})
	buffers, known := newClients(o, "firehose", firehose.New), &remembered{}
	add("firehose", firehose.MaxRecords, firehose.MaxBytes, func(ctx context.Context, ds deliveries) []error {
		return runs(ds, param("deliveryStreamName"), firehose.MaxRecords, firehose.MaxBytes,
			func(run deliveries) []error {
				c, err := buffers.in(ctx, "")
				if err != nil {
					return each(len(run), err)
				}
				put := func(run deliveries) []error { return known.records(ctx, c, run) }
				if run[0].Parameter("batchMode") == "true" { // records that were taken would double
					return put(run)
				}
				return apart(run, put)
			})
	})
	add("iotAnalytics", 1, 128<<10, inOrder(channels(o)))
}

// records puts those of deliveries to one delivery stream: one by one if there is
// one and it is no batch, else in requests of as many as go.
func (r *remembered) records(ctx context.Context, c *firehose.Client, run deliveries) []error {
	stream := run[0].Parameter("deliveryStreamName")
	errs := make([]error, len(run))
	parts := r.split(run, errs, func(d *action.Delivery) ([]part, error) {
		records, err := d.Records()
		all := make([]part, len(records))
		for i := range records {
			all[i].data = records[i]
		}
		return all, err
	})
	if len(parts) == 1 && run[0].Parameter("batchMode") != "true" {
		return r.join(run, errs, parts, []error{c.Put(ctx, stream, parts[0].data)})
	}
	var results []error
	for len(results) < len(parts) {
		var data [][]byte
		for size := 0; len(results)+len(data) < len(parts) && len(data) < firehose.MaxRecords; {
			next := parts[len(results)+len(data)].data
			if size += len(next); size > firehose.MaxBytes && len(data) > 0 {
				break
			}
			data = append(data, next)
		}
		results = append(results, c.PutBatch(ctx, stream, data)...)
	}
	return r.join(run, errs, parts, results)
}

// A channelMessage is one of BatchPutMessage.
type channelMessage struct {
	ID      string `json:"messageId"`
	Payload []byte `json:"payload"`
}

// channels puts messages into channels of IoT Analytics, or what speaks its API:
// Amazon's has ended, and so has the SDK's client.
func channels(o *Options) func(ctx context.Context, d *action.Delivery) error {
	configs := newClients(o, "iotAnalytics", func(c aws.Config) aws.Config { return c })
	known := &remembered{}
	return func(ctx context.Context, d *action.Delivery) error {
		c, err := configs.in(ctx, "")
		if err != nil {
			return err
		}
		if c.BaseEndpoint == nil {
			return action.Permanent(fmt.Errorf("no endpoint: IoT Analytics has ended; say which service takes " +
				"its place"))
		}
		errs, ds := make([]error, 1), deliveries{d}
		parts := known.split(ds, errs, func(d *action.Delivery) ([]part, error) {
			all, err := d.Messages()
			parts := make([]part, len(all))
			for i, m := range all {
				parts[i] = part{data: m.Data, id: m.ID}
			}
			return parts, err
		})
		if errs[0] == nil {
			return known.join(ds, errs, parts, putMessages(ctx, o.web(), c, d.Name, parts))[0]
		}
		return errs[0]
	}
}

func putMessages(ctx context.Context, web *http.Client, c aws.Config, channel string, parts []part) []error {
	var in struct {
		Channel  string           `json:"channelName"`
		Messages []channelMessage `json:"messages"`
	}
	in.Channel = channel
	at := map[string]int{}
	for i, p := range parts {
		in.Messages = append(in.Messages, channelMessage{p.id, p.data})
		at[p.id] = i
	}
	body, err := json.Marshal(in)
	if err != nil {
		return each(len(parts), action.Permanent(err))
	}
	r, err := post.Request(ctx, "POST", strings.TrimSuffix(*c.BaseEndpoint, "/")+"/messages/batch", body,
		map[string]string{"Content-Type": "application/json"})
	if err == nil {
		err = awsapi.Sign(ctx, c, "iotanalytics", r, body)
	}
	var out struct {
		Failed []struct {
			ID      string `json:"messageId"`
			Code    string `json:"errorCode"`
			Message string `json:"errorMessage"`
		} `json:"batchPutMessageErrorEntries"`
	}
	if err == nil {
		err = post.Answer(web, r, &out)
	}
	errs := each(len(parts), err)
	for _, f := range out.Failed {
		if i, ours := at[f.ID]; ours {
			errs[i] = &awsapi.PartError{Code: f.Code, Message: f.Message}
		}
	}
	return errs
}
