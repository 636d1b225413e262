package kinesis

import (
	"context"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// describeShards is the most shards that one DescribeStream gives, whatever
// was asked for (API reference).
const describeShards = 100

// hours is a retention as the API says it: 8,760 is the longest, also for a
// stream whose records stay for ever.
func hours(retention time.Duration) int32 {
	if retention == 0 {
		return maxHours
	}
	return int32(min((retention+time.Hour-1)/time.Hour, maxHours))
}

// DescribeStream describes a stream and its shards.
func (a API) DescribeStream(ctx context.Context, in *DescribeStreamInput) (*DescribeStreamOutput, error) {
	if err := a.rate("DescribeStream", 10); err != nil {
		return nil, err
	}
	st, err := a.find(in.StreamRef)
	if err != nil {
		return nil, err
	}
	after, err := afterShard(in.ExclusiveStartShardId)
	if err != nil {
		return nil, err
	}
	d := StreamDescription{
		StreamName: st.Name, StreamARN: a.streamARN(st.Name), StreamStatus: st.status, StreamModeDetails: st.mode(),
		RetentionPeriodHours: hours(st.Retention), StreamCreationTimestamp: st.Created,
		EnhancedMonitoring: []EnhancedMetrics{{st.Metrics}}, EncryptionType: st.encryptionType(), KeyId: st.key(),
	}
	all, err := a.listed(st)
	if err != nil {
		return nil, err
	}
	limit := describeShards
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	for i := range all {
		if all[i].Index <= after {
			continue
		}
		if len(d.Shards) == limit {
			d.HasMoreShards = true
			break
		}
		d.Shards = append(d.Shards, shapeOf(&all[i]))
	}
	return &DescribeStreamOutput{d}, nil
}

// DescribeStreamSummary describes a stream without its shards.
func (a API) DescribeStreamSummary(ctx context.Context, in *DescribeStreamSummaryInput) (*DescribeStreamSummaryOutput,
	error) {
	if err := a.rate("DescribeStreamSummary", 20); err != nil {
		return nil, err
	}
	st, err := a.find(in.StreamRef)
	if err != nil {
		return nil, err
	}
	consumers, size := int32(len(a.s.consumers(st))), int32(st.maxRecord()>>10)
	d := StreamDescriptionSummary{
		StreamName: st.Name, StreamARN: a.streamARN(st.Name), StreamStatus: st.status, StreamModeDetails: st.mode(),
		RetentionPeriodHours: hours(st.Retention), StreamCreationTimestamp: st.Created,
		EnhancedMonitoring: []EnhancedMetrics{{st.Metrics}}, EncryptionType: st.encryptionType(), KeyId: st.key(),
		ConsumerCount: &consumers, MaxRecordSizeInKiB: &size, RecordDistributionStrategy: st.distribution(),
	}
	if a.s.hasShards(st) {
		d.OpenShardCount = int32(len(a.s.open(st.Name)))
	}
	if st.Warm > 0 {
		d.WarmThroughput = &WarmThroughputObject{&st.Warm, &d.OpenShardCount} // a shard takes 1 MiB/s
	}
	return &DescribeStreamSummaryOutput{d}, nil
}

// ListStreams lists streams by name, at most 100 where no Limit is given.
func (a API) ListStreams(ctx context.Context, in *ListStreamsInput) (*ListStreamsOutput, error) {
	if err := a.rate("ListStreams", 5); err != nil {
		return nil, err
	}
	var after string
	if in.ExclusiveStartStreamName != nil {
		after = *in.ExclusiveStartStreamName
	}
	if in.NextToken != nil {
		if in.ExclusiveStartStreamName != nil {
			return nil, errorf(InvalidArgument, "NextToken and ExclusiveStartStreamName cannot be provided together.")
		}
		t, err := a.redeem("ListStreams", *in.NextToken)
		if err != nil {
			return nil, err
		}
		after = t.After
	}
	limit := 100
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	all, err := a.s.all()
	if err != nil {
		return nil, err
	}
	out := &ListStreamsOutput{}
	for _, st := range all {
		if st.Name <= after {
			continue
		}
		if len(out.StreamNames) == limit {
			out.HasMoreStreams = true
			out.NextToken = a.issue(token{Op: "ListStreams", After: out.StreamNames[limit-1]})
			break
		}
		out.StreamNames = append(out.StreamNames, st.Name)
		out.StreamSummaries = append(out.StreamSummaries, StreamSummary{
			StreamName: st.Name, StreamARN: a.streamARN(st.Name), StreamStatus: st.status,
			StreamModeDetails: st.mode(), StreamCreationTimestamp: &st.Created,
		})
	}
	return out, nil
}

// DescribeLimits says how many shards and on-demand streams there are and may
// be.
func (a API) DescribeLimits(ctx context.Context, in *DescribeLimitsInput) (*DescribeLimitsOutput, error) {
	if err := a.rate("DescribeLimits", 1); err != nil {
		return nil, err
	}
	all, err := a.s.all()
	if err != nil {
		return nil, err
	}
	out := &DescribeLimitsOutput{
		ShardLimit: int32(a.s.opts.MaxShards), OpenShardCount: int32(a.s.openShards()),
		OnDemandStreamCountLimit: onDemandStreams}
	if !a.s.opts.Emulate {
		out.OnDemandStreamCountLimit = streams.MaxShards // each has at least one
	}
	for _, st := range all {
		if st.Mode == onDemand {
			out.OnDemandStreamCount++
		}
	}
	return out, nil
}
