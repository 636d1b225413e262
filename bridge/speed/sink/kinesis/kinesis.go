// Package kinesis puts records into data streams of Kinesis, or of a bridge
// elsewhere, many in a request.
package kinesis

import (
	"context"

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
	name, streamARN := &stream, (*string)(nil)
	if arn.Is(stream) {
		name, streamARN = nil, &stream
	}
	errs := make([]error, len(rs))
	if len(rs) == 1 {
		_, errs[0] = c.api.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: name, StreamARN: streamARN,
			PartitionKey: &rs[0].Key, Data: some(rs[0].Data)})
		return errs
	}
	entries := make([]types.PutRecordsRequestEntry, len(rs))
	for i := range rs {
		entries[i] = types.PutRecordsRequestEntry{PartitionKey: &rs[i].Key, Data: some(rs[i].Data)}
	}
	out, err := c.api.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: name, StreamARN: streamARN, Records: entries})
	told := 0
	if err == nil {
		told = len(out.Records)
		for i, r := range out.Records {
			if r.ErrorCode != nil && i < len(errs) {
				errs[i] = &awsapi.PartError{Code: *r.ErrorCode, Message: aws.ToString(r.ErrorMessage)}
			}
		}
	}
	return awsapi.Whole(errs, told, err)
}

// some gives the client data where there is none: it wants it.
func some(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
