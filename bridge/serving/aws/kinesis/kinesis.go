// Package kinesis is Kinesis Data Streams as AWS's SDKs speak it: the table of
// its operations, API version 2013-12-02, in JSON 1.1 or CBOR. What they do is
// speed/kinesis.
package kinesis

import (
	"context"
	"net/http"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

const (
	// maxBody is PutRecords' 10 MiB as base64, and names and commas around its
	// 500 records with keys of 256 characters.
	maxBody = 16 << 20
	// maxCalls are under way at once. Their bodies have come, and memory bounds
	// those.
	maxCalls = 2048
	// maxSubscriptions are under way at once; each waits for most of its life.
	maxSubscriptions = 1024
)

// api is the service as one caller sees it.
type api = kinesis.API

// Service serves s.
func Service(s *kinesis.Service) *wire.Service {
	return &wire.Service{
		Name:       "kinesis",
		Signing:    []string{"kinesis"},
		Protocol:   wire.JSON{Target: "Kinesis_20131202", Version: "1.1", CBOR: true},
		MaxBody:    maxBody,
		Concurrent: maxCalls,
		Errors: []wire.Rule{wire.As(func(e *kinesis.Error) *wire.Error {
			if e.Code == kinesis.InternalFailure {
				return nil // the log has it
			}
			return &wire.Error{Code: e.Code, Status: http.StatusBadRequest, Message: e.Message}
		})},
		Operations: []wire.Operation{
			changes(s, command(s, "AddTagsToStream", api.AddTagsToStream)),
			changes(s, command(s, "CreateStream", api.CreateStream)),
			changes(s, command(s, "DecreaseStreamRetentionPeriod", api.DecreaseStreamRetentionPeriod)),
			changes(s, command(s, "DeleteResourcePolicy", api.DeleteResourcePolicy)),
			changes(s, command(s, "DeleteStream", api.DeleteStream)),
			changes(s, command(s, "DeregisterStreamConsumer", api.DeregisterStreamConsumer)),
			query(s, "DescribeLimits", api.DescribeLimits),
			query(s, "DescribeStream", api.DescribeStream),
			query(s, "DescribeStreamConsumer", api.DescribeStreamConsumer),
			query(s, "DescribeStreamSummary", api.DescribeStreamSummary),
			changes(s, query(s, "DisableEnhancedMonitoring", api.DisableEnhancedMonitoring)),
			changes(s, query(s, "EnableEnhancedMonitoring", api.EnableEnhancedMonitoring)),
			getRecords(s),
			query(s, "GetResourcePolicy", api.GetResourcePolicy),
			query(s, "GetShardIterator", api.GetShardIterator),
			changes(s, command(s, "IncreaseStreamRetentionPeriod", api.IncreaseStreamRetentionPeriod)),
			query(s, "ListShards", api.ListShards),
			query(s, "ListStreamConsumers", api.ListStreamConsumers),
			query(s, "ListStreams", api.ListStreams),
			query(s, "ListTagsForResource", api.ListTagsForResource),
			query(s, "ListTagsForStream", api.ListTagsForStream),
			changes(s, command(s, "MergeShards", api.MergeShards)),
			stores(query(s, "PutRecord", api.PutRecord)),
			stores(query(s, "PutRecords", api.PutRecords)),
			changes(s, command(s, "PutResourcePolicy", api.PutResourcePolicy)),
			changes(s, query(s, "RegisterStreamConsumer", api.RegisterStreamConsumer)),
			changes(s, command(s, "RemoveTagsFromStream", api.RemoveTagsFromStream)),
			changes(s, command(s, "SplitShard", api.SplitShard)),
			changes(s, command(s, "StartStreamEncryption", api.StartStreamEncryption)),
			changes(s, command(s, "StopStreamEncryption", api.StopStreamEncryption)),
			subscribeToShard(s),
			changes(s, command(s, "TagResource", api.TagResource)),
			changes(s, command(s, "UntagResource", api.UntagResource)),
			changes(s, query(s, "UpdateShardCount", api.UpdateShardCount)),
			changes(s, command(s, "UpdateStreamMode", api.UpdateStreamMode)),
		},
	}
}

// stores is an operation that puts data.
func stores(op wire.Operation) wire.Operation {
	op.Stores = true
	return op
}

// query is an operation that answers.
func query[In, Out any](s *kinesis.Service, name string,
	f func(api, context.Context, *In) (*Out, error)) wire.Operation {
	return about(s, wire.Query(name, kinesis.Patterns, func(r *wire.Request, in *In) (*Out, error) {
		return f(s.In(r.Region), r.Context(), in)
	}))
}

// command is an operation whose answer is empty.
func command[In any](s *kinesis.Service, name string, f func(api, context.Context, *In) error) wire.Operation {
	return about(s, wire.Command(name, kinesis.Patterns, func(r *wire.Request, in *In) error {
		return f(s.In(r.Region), r.Context(), in)
	}))
}

// changes is an operation that changes control. The audit log has what was asked
// for, and the stream as it was when it was asked for.
func changes(s *kinesis.Service, op wire.Operation) wire.Operation {
	op.Changes = true
	op.Before = func(r *wire.Request) any {
		arn := s.In(r.Region).Resource(r.Input)
		was, err := s.In(r.Region).DescribeStreamSummary(r.Context(),
			&kinesis.DescribeStreamSummaryInput{StreamRef: kinesis.StreamRef{StreamARN: &arn}})
		if err != nil {
			return nil // there is none yet, or it is about a consumer
		}
		return was
	}
	return op
}

// about says what an operation's requests are about.
func about(s *kinesis.Service, op wire.Operation) wire.Operation {
	op.Resource = func(r *wire.Request) string { return s.In(r.Region).Resource(r.Input) }
	return op
}

// getRecords writes its answer by hand, since it is most of what is read.
func getRecords(s *kinesis.Service) wire.Operation {
	op := query(s, "GetRecords", api.GetRecords)
	op.Output, op.Weigh = getRecordsOutput, getRecordsSize
	return op
}

// subscribeToShard pushes events.
func subscribeToShard(s *kinesis.Service) wire.Operation {
	return about(s, wire.Subscription("SubscribeToShard", maxSubscriptions, kinesis.Patterns,
		func(r *wire.Request, in *kinesis.SubscribeToShardInput) (wire.Events, error) {
			sub, err := s.In(r.Region).SubscribeToShard(r.Context(), in)
			if err != nil {
				return nil, err
			}
			return shardEvents{sub}, nil
		}))
}

// shardEvents are the events of a shard. It implements wire.Events.
type shardEvents struct{ *kinesis.Subscription }

// Next implements wire.Events.
func (s shardEvents) Next(ctx context.Context, w *shape.Writer) (string, error) {
	e, err := s.Subscription.Next(ctx)
	if err != nil {
		return "", err
	}
	w.OpenMap()
	writeRecords(w, e.Records)
	if !e.ContinuationSequenceNumber.IsZero() {
		w.Name("ContinuationSequenceNumber")
		w.Digits(e.ContinuationSequenceNumber)
	}
	w.Name("MillisBehindLatest")
	w.Int(e.MillisBehindLatest)
	writeChildren(w, e.ChildShards)
	w.CloseMap()
	return "SubscribeToShardEvent", nil
}
