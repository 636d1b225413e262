// Package firehose puts records into delivery streams of Firehose, or of a
// bridge elsewhere, many in a request.
package firehose

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a PutRecordBatch, and of one record (Firehose quotas).
const (
	MaxRecords = 500
	MaxBytes   = 4 << 20
	MaxRecord  = 1000 << 10
)

var service = awsapi.Service{ID: "Firehose", Name: "firehose", JSON: "1.1", Target: "Firehose_20150804"}

// A Client puts records. Several goroutines may use it.
type Client struct{ api *awsapi.Caller }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{service.Caller(c)} }

type record struct{ Data []byte }

// Put puts one record.
func (c *Client) Put(ctx context.Context, stream string, data []byte) error {
	return c.api.Call(ctx, "PutRecord", struct {
		DeliveryStreamName string
		Record             record
	}{stream, record{awsapi.Bytes(data)}}, nil)
}

// PutBatch puts records in one request: at most MaxRecords of at most MaxBytes
// together. It returns one error for each.
func (c *Client) PutBatch(ctx context.Context, stream string, data [][]byte) []error {
	in := struct {
		DeliveryStreamName string
		Records            []record
	}{stream, make([]record, len(data))}
	for i := range data {
		in.Records[i].Data = awsapi.Bytes(data[i])
	}
	var out struct {
		FailedPutCount   int
		RequestResponses []struct{ ErrorCode, ErrorMessage string }
	}
	errs := make([]error, len(data))
	err := c.api.Call(ctx, "PutRecordBatch", in, &out)
	answered := 0
	if err == nil {
		answered = len(out.RequestResponses)
		for i, r := range out.RequestResponses {
			if r.ErrorCode != "" && i < len(errs) {
				errs[i] = &awsapi.PartError{Code: r.ErrorCode, Message: r.ErrorMessage}
			}
		}
		if answered == 0 && out.FailedPutCount == 0 {
			answered = len(data) // stand-ins say that nothing failed, and no more
		}
	}
	return awsapi.Whole(errs, answered, err)
}
