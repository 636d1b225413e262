package kinesis

import "context"

var errNotYet = errorf(InternalFailure, "not yet")

func (a API) AddTagsToStream(ctx context.Context, in *AddTagsToStreamInput) error { return errNotYet }

func (a API) CreateStream(ctx context.Context, in *CreateStreamInput) error { return errNotYet }

func (a API) DecreaseStreamRetentionPeriod(ctx context.Context, in *DecreaseStreamRetentionPeriodInput) error {
	return errNotYet
}

func (a API) DeleteResourcePolicy(ctx context.Context, in *DeleteResourcePolicyInput) error {
	return errNotYet
}

func (a API) DeleteStream(ctx context.Context, in *DeleteStreamInput) error { return errNotYet }

func (a API) DeregisterStreamConsumer(ctx context.Context, in *DeregisterStreamConsumerInput) error {
	return errNotYet
}

func (a API) DescribeLimits(ctx context.Context, in *DescribeLimitsInput) (*DescribeLimitsOutput, error) {
	return nil, errNotYet
}

func (a API) DescribeStream(ctx context.Context, in *DescribeStreamInput) (*DescribeStreamOutput, error) {
	return nil, errNotYet
}

func (a API) DescribeStreamConsumer(ctx context.Context, in *DescribeStreamConsumerInput) (*DescribeStreamConsumerOutput, error) {
	return nil, errNotYet
}

func (a API) DescribeStreamSummary(ctx context.Context, in *DescribeStreamSummaryInput) (*DescribeStreamSummaryOutput, error) {
	return nil, errNotYet
}

func (a API) DisableEnhancedMonitoring(ctx context.Context, in *DisableEnhancedMonitoringInput) (*EnhancedMonitoringOutput, error) {
	return nil, errNotYet
}

func (a API) EnableEnhancedMonitoring(ctx context.Context, in *EnableEnhancedMonitoringInput) (*EnhancedMonitoringOutput, error) {
	return nil, errNotYet
}

func (a API) GetResourcePolicy(ctx context.Context, in *GetResourcePolicyInput) (*GetResourcePolicyOutput, error) {
	return nil, errNotYet
}

func (a API) IncreaseStreamRetentionPeriod(ctx context.Context, in *IncreaseStreamRetentionPeriodInput) error {
	return errNotYet
}

func (a API) ListShards(ctx context.Context, in *ListShardsInput) (*ListShardsOutput, error) {
	return nil, errNotYet
}

func (a API) ListStreamConsumers(ctx context.Context, in *ListStreamConsumersInput) (*ListStreamConsumersOutput, error) {
	return nil, errNotYet
}

func (a API) ListStreams(ctx context.Context, in *ListStreamsInput) (*ListStreamsOutput, error) {
	return nil, errNotYet
}

func (a API) ListTagsForResource(ctx context.Context, in *ListTagsForResourceInput) (*ListTagsForResourceOutput, error) {
	return nil, errNotYet
}

func (a API) ListTagsForStream(ctx context.Context, in *ListTagsForStreamInput) (*ListTagsForStreamOutput, error) {
	return nil, errNotYet
}

func (a API) MergeShards(ctx context.Context, in *MergeShardsInput) error { return errNotYet }

func (a API) PutResourcePolicy(ctx context.Context, in *PutResourcePolicyInput) error {
	return errNotYet
}

func (a API) RegisterStreamConsumer(ctx context.Context, in *RegisterStreamConsumerInput) (*RegisterStreamConsumerOutput, error) {
	return nil, errNotYet
}

func (a API) RemoveTagsFromStream(ctx context.Context, in *RemoveTagsFromStreamInput) error {
	return errNotYet
}

func (a API) SplitShard(ctx context.Context, in *SplitShardInput) error { return errNotYet }

func (a API) StartStreamEncryption(ctx context.Context, in *StartStreamEncryptionInput) error {
	return errNotYet
}

func (a API) StopStreamEncryption(ctx context.Context, in *StopStreamEncryptionInput) error {
	return errNotYet
}

func (a API) TagResource(ctx context.Context, in *TagResourceInput) error { return errNotYet }

func (a API) UntagResource(ctx context.Context, in *UntagResourceInput) error { return errNotYet }

func (a API) UpdateShardCount(ctx context.Context, in *UpdateShardCountInput) (*UpdateShardCountOutput, error) {
	return nil, errNotYet
}

func (a API) UpdateStreamMode(ctx context.Context, in *UpdateStreamModeInput) error { return errNotYet }
