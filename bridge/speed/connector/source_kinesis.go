package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/arn"
	sinkkinesis "github.com/tidemill/tidemill/bridge/speed/sink/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Remote returns a stream of Kinesis, or of a bridge elsewhere, as a source.
// stream is its name or ARN.
func Remote(c aws.Config, stream string) Source {
	return &polling{&remote{kinesis.NewFromConfig(c), stream}, stream}
}

type remote struct {
	api    *kinesis.Client
	stream string // name or ARN
}

func (r *remote) shards(ctx context.Context) ([]Shard, error) {
	var all []Shard
	in := &kinesis.ListShardsInput{}
	in.StreamName, in.StreamARN = sinkkinesis.Refer(r.stream)
	for {
		out, err := r.api.ListShards(ctx, in)
		if err != nil {
			return nil, remoteError(err)
		}
		for _, s := range out.Shards {
			hashes := types.HashKeyRange{}
			if s.HashKeyRange != nil {
				hashes = *s.HashKeyRange
			}
			sh, err := newShard(aws.ToString(s.ShardId), aws.ToString(hashes.StartingHashKey),
				aws.ToString(hashes.EndingHashKey), s.ParentShardId, s.AdjacentParentShardId)
			if err != nil {
				return nil, err
			}
			all = append(all, sh)
		}
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

// newShard makes a Shard of what the API says of it.
func newShard(id, start, end string, parents ...*string) (Shard, error) {
	s := Shard{ID: id}
	var err, err2 error
	s.Range.Start, err = streams.ParseHash(start)
	s.Range.End, err2 = streams.ParseHash(end)
	for _, p := range parents {
		if p != nil && *p != "" {
			s.Parents = append(s.Parents, *p)
		}
	}
	if err := errors.Join(err, err2); err != nil {
		return s, fmt.Errorf("shard %s: %w", id, err)
	}
	return s, nil
}

func (r *remote) iterator(ctx context.Context, shard string, from Position) (string, error) {
	in := &kinesis.GetShardIteratorInput{ShardId: &shard}
	in.StreamName, in.StreamARN = sinkkinesis.Refer(r.stream)
	kind, seq, at := iteratorOf(from)
	in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp = types.ShardIteratorType(kind), seq, at
	out, err := r.api.GetShardIterator(ctx, in)
	if err != nil {
		return "", remoteError(err)
	}
	return aws.ToString(out.ShardIterator), nil
}

func (r *remote) records(ctx context.Context, _, iterator string) (Page, string, error) {
	in := &kinesis.GetRecordsInput{ShardIterator: &iterator, Limit: aws.Int32(pageRecords)}
	if arn.Is(r.stream) {
		in.StreamARN = &r.stream
	}
	out, err := r.api.GetRecords(ctx, in)
	if err != nil {
		return Page{}, "", remoteError(err)
	}
	p := Page{Records: make([]Record, len(out.Records))}
	for i, rec := range out.Records {
		p.Records[i] = Record{aws.ToString(rec.SequenceNumber), aws.ToString(rec.PartitionKey),
			aws.ToTime(rec.ApproximateArrivalTimestamp), rec.Data}
	}
	p.Behind = time.Duration(aws.ToInt64(out.MillisBehindLatest)) * time.Millisecond
	return p, aws.ToString(out.NextShardIterator), nil
}

func (r *remote) tip(string) uint64 { return 0 }

// Between two reads of a shard: five a second are allowed to all readers of it
// together, and the client library takes one a second.
const (
	behindWait = 200 * time.Millisecond
	tipWait    = time.Second
)

func (r *remote) idle(ctx context.Context, _ string, last *Page, _ uint64) error {
	if last.Behind > 0 || len(last.Records) == pageRecords {
		return sleep(ctx, behindWait)
	}
	return sleep(ctx, jitter(tipWait))
}

func remoteError(err error) error {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return codeError(e.ErrorCode(), err)
	}
	return err
}
