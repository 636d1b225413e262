// Package firehose puts records into delivery streams of Firehose, or of a
// bridge elsewhere, many in a request.
package firehose

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a PutRecordBatch, and of one record (Firehose quotas).
const (
	MaxRecords = 500
	MaxBytes   = 4 << 20
	MaxRecord  = 1000 << 10
)

// A Client puts records. Several goroutines may use it.
type Client struct{ api *firehose.Client }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{firehose.NewFromConfig(c)} }

// Put puts one record.
func (c *Client) Put(ctx context.Context, stream string, data []byte) error {
	in := &firehose.PutRecordInput{DeliveryStreamName: &stream, Record: &types.Record{Data: data}}
	_, err := c.api.PutRecord(ctx, in)
	return err
}

// PutBatch puts records in one request: at most MaxRecords of at most MaxBytes
// together. It returns one error for each.
func (c *Client) PutBatch(ctx context.Context, stream string, data [][]byte) []error {
	records := make([]types.Record, len(data))
	for i := range data {
		records[i].Data = data[i]
	}
	errs := make([]error, len(data))
	out, err := c.api.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &stream, Records: records})
	told := 0
	if err == nil {
		told = len(out.RequestResponses)
		for i, r := range out.RequestResponses {
			if r.ErrorCode != nil && i < len(errs) {
				errs[i] = &awsapi.PartError{Code: *r.ErrorCode, Message: aws.ToString(r.ErrorMessage)}
			}
		}
		if told == 0 && aws.ToInt32(out.FailedPutCount) == 0 {
			told = len(data) // stand-ins say that nothing failed, and no more
		}
	}
	return awsapi.Whole(errs, told, err)
}
