// Package kinesis puts records into data streams of Kinesis, or of a bridge
// elsewhere, many in a request.
package kinesis

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a PutRecords, and of one record, that hold for every stream there is
// (Kinesis quotas before they were raised).
const (
	MaxRecords = 500
	MaxBytes   = 4 << 20
	MaxRecord  = 1 << 20
)

// A Record is what a stream takes.
type Record struct {
	Key  string // 1 to 256 characters
	Data []byte
}

// A Client puts records. Several goroutines may use it.
type Client struct{ api *kinesis.Client }

// New returns a client. Nothing is asked.
func New(c aws.Config) *Client { return &Client{kinesis.NewFromConfig(c)} }

// Put puts records into a stream, given by its name or ARN, in one request: at
// most MaxRecords of at most MaxBytes together. It returns one error for each.
func (c *Client) Put(ctx context.Context, stream string, rs []Record) []error {
	errs := make([]error, len(rs))
	if len(rs) == 1 {
		in := &kinesis.PutRecordInput{PartitionKey: &rs[0].Key, Data: awsapi.Bytes(rs[0].Data)}
		in.StreamName, in.StreamARN = Refer(stream)
		_, errs[0] = c.api.PutRecord(ctx, in)
		return errs
	}
	refused, err := c.PutRecords(ctx, stream, rs)
	if err != nil {
		return awsapi.Whole(errs, 0, err)
	}
	return refused
}

// PutRecords is Put in a PutRecords, also of one record. err is that of the whole
// request; without one, refused has an error for each record, nil for those that
// the stream took.
func (c *Client) PutRecords(ctx context.Context, stream string, rs []Record) (refused []error, err error) {
	in := &kinesis.PutRecordsInput{Records: make([]types.PutRecordsRequestEntry, len(rs))}
	in.StreamName, in.StreamARN = Refer(stream)
	for i := range rs {
		in.Records[i] = types.PutRecordsRequestEntry{PartitionKey: &rs[i].Key, Data: awsapi.Bytes(rs[i].Data)}
	}
	out, err := c.api.PutRecords(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(out.Records) != len(rs) {
		return nil, fmt.Errorf("PutRecords answered for %d records of %d", len(out.Records), len(rs))
	}
	refused = make([]error, len(rs))
	for i, r := range out.Records {
		if r.ErrorCode != nil {
			refused[i] = &awsapi.PartError{Code: *r.ErrorCode, Message: aws.ToString(r.ErrorMessage)}
		}
	}
	return refused, nil
}

// Refused tells whether a record of many may be at fault for what a request met: it
// is too large for the stream, or all are for the service.
func Refused(err error) bool {
	switch awsapi.Code(err) {
	case "ValidationException", "InvalidArgumentException", "RequestEntityTooLarge":
		return true
	}
	return false
}

// Refer sets one of two members of a request: the stream's name or its ARN.
func Refer(stream string) (name, streamARN *string) {
	if arn.Is(stream) {
		return nil, &stream
	}
	return &stream, nil
}
