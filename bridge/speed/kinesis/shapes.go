package kinesis

import "time"

// The shapes of the API, with the names and the order of its model (version
// 2013-12-02, as the SDKs of 2026 have it). A member that may be absent is a
// pointer, and a required one of a request too: the wire layer refuses a
// request without it before an operation sees it. So are a nil slice or map and
// the zero Sequence: absent. A required list of an answer is written though it
// is nil or empty, since clients count on it.
//
// Tags say what the model demands of requests: aws of the member, each of the
// elements of a list or the values of a map, key of a map's keys. min and max
// are of a number's value or else of a length: characters of strings, bytes of
// blobs. A pattern is one of Patterns.

// Patterns are what the tags call by name.
var Patterns = map[string]string{
	"name":         `[a-zA-Z0-9_.-]+`,
	"hash":         `0|([1-9]\d{0,38})`,
	"sequence":     `0|([1-9]\d{0,128})`,
	"stream-arn":   `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`,
	"resource-arn": `arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+`,
	"consumer-arn": `^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`,
	"stream-id":    `[a-z0-9]{20}-[a-z0-9]{3}`,
}

// A StreamRef names a stream: by name or ARN, or by both if they agree.
// StreamId is taken and has no effect.
type StreamRef struct {
	StreamName *string `aws:"min=1,max=128,pattern=name"`
	StreamARN  *string `aws:"min=1,max=2048,pattern=stream-arn"`
	StreamId   *string `aws:"min=1,max=24,pattern=stream-id"`
}

type AddTagsToStreamInput struct {
	StreamRef
	Tags map[string]string `aws:"required,min=1,max=200" key:"min=1,max=128" each:"max=256"`
}

type StreamModeDetails struct {
	StreamMode *string `aws:"required,enum=PROVISIONED|ON_DEMAND"`
}

type CreateStreamInput struct {
	StreamName          *string `aws:"required,min=1,max=128,pattern=name"`
	ShardCount          *int32  `aws:"min=1"`
	StreamModeDetails   *StreamModeDetails
	Tags                map[string]string `aws:"min=1,max=200" key:"min=1,max=128" each:"max=256"`
	WarmThroughputMiBps *int32
	MaxRecordSizeInKiB  *int32 `aws:"min=1024,max=10240"`

	RecordDistributionStrategy *string `aws:"enum=AUTO|USER_PARTITION_KEY"`
}

type DecreaseStreamRetentionPeriodInput struct {
	StreamRef
	RetentionPeriodHours *int32 `aws:"required"`
}

type DeleteResourcePolicyInput struct {
	ResourceARN *string `aws:"required,min=1,max=2048,pattern=resource-arn"`
	StreamId    *string `aws:"min=1,max=24,pattern=stream-id"`
}

type DeleteStreamInput struct {
	StreamRef
	EnforceConsumerDeletion *bool
}

type DeregisterStreamConsumerInput struct {
	StreamARN    *string `aws:"min=1,max=2048,pattern=stream-arn"`
	ConsumerName *string `aws:"min=1,max=128,pattern=name"`
	ConsumerARN  *string `aws:"min=1,max=2048,pattern=consumer-arn"`
	StreamId     *string `aws:"min=1,max=24,pattern=stream-id"`
}

type DescribeLimitsInput struct{}

type DescribeLimitsOutput struct {
	ShardLimit               int32
	OpenShardCount           int32
	OnDemandStreamCount      int32
	OnDemandStreamCountLimit int32
}

type DescribeStreamInput struct {
	StreamRef
	Limit                 *int32  `aws:"min=1,max=10000"`
	ExclusiveStartShardId *string `aws:"min=1,max=128,pattern=name"`
}

type HashKeyRange struct {
	StartingHashKey string
	EndingHashKey   string
}

type SequenceNumberRange struct {
	StartingSequenceNumber string
	EndingSequenceNumber   *string
}

type Shard struct {
	ShardId               string
	ParentShardId         *string
	AdjacentParentShardId *string
	HashKeyRange          HashKeyRange
	SequenceNumberRange   SequenceNumberRange
}

type EnhancedMetrics struct {
	ShardLevelMetrics []string `aws:"required"`
}

type StreamDescription struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       *StreamModeDetails
	Shards                  []Shard `aws:"required"`
	HasMoreShards           bool
	RetentionPeriodHours    int32
	StreamCreationTimestamp time.Time
	EnhancedMonitoring      []EnhancedMetrics `aws:"required"`
	EncryptionType          *string
	KeyId                   *string
}

type DescribeStreamOutput struct {
	StreamDescription StreamDescription
}

type DescribeStreamConsumerInput struct {
	StreamARN    *string `aws:"min=1,max=2048,pattern=stream-arn"`
	ConsumerName *string `aws:"min=1,max=128,pattern=name"`
	ConsumerARN  *string `aws:"min=1,max=2048,pattern=consumer-arn"`
	StreamId     *string `aws:"min=1,max=24,pattern=stream-id"`
}

type ConsumerDescription struct {
	ConsumerName              string
	ConsumerARN               string
	ConsumerStatus            string
	ConsumerCreationTimestamp time.Time
	StreamARN                 string
}

type DescribeStreamConsumerOutput struct {
	ConsumerDescription ConsumerDescription
}

type DescribeStreamSummaryInput struct {
	StreamRef
}

type WarmThroughputObject struct {
	TargetMiBps  *int32
	CurrentMiBps *int32
}

type StreamDescriptionSummary struct {
	StreamName              string
	StreamARN               string
	StreamId                *string
	StreamStatus            string
	StreamModeDetails       *StreamModeDetails
	RetentionPeriodHours    int32
	StreamCreationTimestamp time.Time
	EnhancedMonitoring      []EnhancedMetrics `aws:"required"`
	EncryptionType          *string
	KeyId                   *string
	OpenShardCount          int32
	ConsumerCount           *int32
	WarmThroughput          *WarmThroughputObject
	MaxRecordSizeInKiB      *int32

	RecordDistributionStrategy *string
}

type DescribeStreamSummaryOutput struct {
	StreamDescriptionSummary StreamDescriptionSummary
}

type DisableEnhancedMonitoringInput struct {
	StreamRef
	ShardLevelMetrics []string `aws:"required,min=1,max=7" each:"enum=IncomingBytes|IncomingRecords|OutgoingBytes|OutgoingRecords|WriteProvisionedThroughputExceeded|ReadProvisionedThroughputExceeded|IteratorAgeMilliseconds|ALL"`
}

type EnhancedMonitoringOutput struct {
	StreamName               *string
	CurrentShardLevelMetrics []string `aws:"required"`
	DesiredShardLevelMetrics []string `aws:"required"`
	StreamARN                *string
}

type EnableEnhancedMonitoringInput struct {
	StreamRef
	ShardLevelMetrics []string `aws:"required,min=1,max=7" each:"enum=IncomingBytes|IncomingRecords|OutgoingBytes|OutgoingRecords|WriteProvisionedThroughputExceeded|ReadProvisionedThroughputExceeded|IteratorAgeMilliseconds|ALL"`
}

type GetRecordsInput struct {
	ShardIterator *string `aws:"required,min=1,max=512"`
	Limit         *int32  `aws:"min=1,max=10000"`
	StreamARN     *string `aws:"min=1,max=2048,pattern=stream-arn"`
	StreamId      *string `aws:"min=1,max=24,pattern=stream-id"`
	DryRun        *bool
}

type Record struct {
	SequenceNumber              Sequence
	ApproximateArrivalTimestamp time.Time
	Data                        []byte
	PartitionKey                string
	EncryptionType              *string
}

type ChildShard struct {
	ShardId      string
	ParentShards []string `aws:"required"`
	HashKeyRange HashKeyRange
}

type GetRecordsOutput struct {
	Records            []Record `aws:"required"`
	NextShardIterator  *string
	MillisBehindLatest *int64
	ChildShards        []ChildShard
}

type GetResourcePolicyInput struct {
	ResourceARN *string `aws:"required,min=1,max=2048,pattern=resource-arn"`
	StreamId    *string `aws:"min=1,max=24,pattern=stream-id"`
}

type GetResourcePolicyOutput struct {
	Policy string
}

type GetShardIteratorInput struct {
	StreamRef
	ShardId                *string `aws:"required,min=1,max=128,pattern=name"`
	ShardIteratorType      *string `aws:"required,enum=AT_SEQUENCE_NUMBER|AFTER_SEQUENCE_NUMBER|TRIM_HORIZON|LATEST|AT_TIMESTAMP"`
	StartingSequenceNumber *string `aws:"pattern=sequence"`
	Timestamp              *time.Time
	DryRun                 *bool
}

type GetShardIteratorOutput struct {
	ShardIterator *string
}

type IncreaseStreamRetentionPeriodInput struct {
	StreamRef
	RetentionPeriodHours *int32 `aws:"required"`
}

type ShardFilter struct {
	Type      *string `aws:"required,enum=AFTER_SHARD_ID|AT_TRIM_HORIZON|FROM_TRIM_HORIZON|AT_LATEST|AT_TIMESTAMP|FROM_TIMESTAMP"`
	ShardId   *string `aws:"min=1,max=128,pattern=name"`
	Timestamp *time.Time
}

type ListShardsInput struct {
	StreamRef
	NextToken               *string `aws:"min=1,max=1048576"`
	ExclusiveStartShardId   *string `aws:"min=1,max=128,pattern=name"`
	MaxResults              *int32  `aws:"min=1,max=10000"`
	StreamCreationTimestamp *time.Time
	ShardFilter             *ShardFilter
}

type ListShardsOutput struct {
	Shards    []Shard `aws:"required"`
	NextToken *string
}

type ListStreamConsumersInput struct {
	StreamARN               *string `aws:"required,min=1,max=2048,pattern=stream-arn"`
	NextToken               *string `aws:"min=1,max=1048576"`
	MaxResults              *int32  `aws:"min=1,max=10000"`
	StreamCreationTimestamp *time.Time
	StreamId                *string `aws:"min=1,max=24,pattern=stream-id"`
}

type Consumer struct {
	ConsumerName              string
	ConsumerARN               string
	ConsumerStatus            string
	ConsumerCreationTimestamp time.Time
}

type ListStreamConsumersOutput struct {
	Consumers []Consumer `aws:"required"`
	NextToken *string
}

type ListStreamsInput struct {
	Limit                    *int32  `aws:"min=1,max=10000"`
	ExclusiveStartStreamName *string `aws:"min=1,max=128,pattern=name"`
	NextToken                *string `aws:"min=1,max=1048576"`
}

type StreamSummary struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       *StreamModeDetails
	StreamCreationTimestamp *time.Time
}

type ListStreamsOutput struct {
	StreamNames     []string `aws:"required"`
	HasMoreStreams  bool
	NextToken       *string
	StreamSummaries []StreamSummary `aws:"required"`
}

type ListTagsForResourceInput struct {
	ResourceARN *string `aws:"required,min=1,max=2048,pattern=resource-arn"`
	StreamId    *string `aws:"min=1,max=24,pattern=stream-id"`
}

type Tag struct {
	Key   string
	Value *string
}

type ListTagsForResourceOutput struct {
	Tags []Tag `aws:"required"`
}

type ListTagsForStreamInput struct {
	StreamRef
	ExclusiveStartTagKey *string `aws:"min=1,max=128"`
	Limit                *int32  `aws:"min=1,max=50"`
}

type ListTagsForStreamOutput struct {
	Tags        []Tag `aws:"required"`
	HasMoreTags bool
}

type MergeShardsInput struct {
	StreamRef
	ShardToMerge         *string `aws:"required,min=1,max=128,pattern=name"`
	AdjacentShardToMerge *string `aws:"required,min=1,max=128,pattern=name"`
}

type PutRecordInput struct {
	StreamRef
	Data                      []byte  `aws:"required,max=10485760"`
	PartitionKey              *string `aws:"min=1,max=256"` // required unless the stream distributes by itself
	ExplicitHashKey           *string `aws:"pattern=hash"`
	SequenceNumberForOrdering *string `aws:"pattern=sequence"`
	DryRun                    *bool
}

type PutRecordOutput struct {
	ShardId        string
	SequenceNumber Sequence
	EncryptionType *string
}

type PutRecordsRequestEntry struct {
	Data            []byte  `aws:"required,max=10485760"`
	ExplicitHashKey *string `aws:"pattern=hash"`
	PartitionKey    *string `aws:"min=1,max=256"` // likewise
}

type PutRecordsInput struct {
	StreamRef
	Records []PutRecordsRequestEntry `aws:"required,min=1,max=500"`
	DryRun  *bool
}

type PutRecordsResultEntry struct {
	SequenceNumber Sequence
	ShardId        *string
	ErrorCode      *string
	ErrorMessage   *string
}

type PutRecordsOutput struct {
	FailedRecordCount *int32
	Records           []PutRecordsResultEntry `aws:"required"`
	EncryptionType    *string
}

type PutResourcePolicyInput struct {
	ResourceARN *string `aws:"required,min=1,max=2048,pattern=resource-arn"`
	StreamId    *string `aws:"min=1,max=24,pattern=stream-id"`
	Policy      *string `aws:"required"`
}

type RegisterStreamConsumerInput struct {
	StreamARN    *string           `aws:"required,min=1,max=2048,pattern=stream-arn"`
	ConsumerName *string           `aws:"required,min=1,max=128,pattern=name"`
	StreamId     *string           `aws:"min=1,max=24,pattern=stream-id"`
	Tags         map[string]string `aws:"min=1,max=200" key:"min=1,max=128" each:"max=256"`
}

type RegisterStreamConsumerOutput struct {
	Consumer Consumer
}

type RemoveTagsFromStreamInput struct {
	StreamRef
	TagKeys []string `aws:"required,min=1,max=50" each:"min=1,max=128"`
}

type SplitShardInput struct {
	StreamRef
	ShardToSplit       *string `aws:"required,min=1,max=128,pattern=name"`
	NewStartingHashKey *string `aws:"required,pattern=hash"`
}

type StartStreamEncryptionInput struct {
	StreamRef
	EncryptionType *string `aws:"required,enum=NONE|KMS"`
	KeyId          *string `aws:"required,min=1,max=2048"`
}

type StopStreamEncryptionInput struct {
	StreamRef
	EncryptionType *string `aws:"required,enum=NONE|KMS"`
	KeyId          *string `aws:"required,min=1,max=2048"`
}

type StartingPosition struct {
	Type           *string `aws:"required,enum=AT_SEQUENCE_NUMBER|AFTER_SEQUENCE_NUMBER|TRIM_HORIZON|LATEST|AT_TIMESTAMP"`
	SequenceNumber *string `aws:"pattern=sequence"`
	Timestamp      *time.Time
}

type SubscribeToShardInput struct {
	ConsumerARN      *string           `aws:"required,min=1,max=2048,pattern=consumer-arn"`
	StreamId         *string           `aws:"min=1,max=24,pattern=stream-id"`
	ShardId          *string           `aws:"required,min=1,max=128,pattern=name"`
	StartingPosition *StartingPosition `aws:"required"`
	DryRun           *bool
}

type SubscribeToShardEvent struct {
	Records                    []Record `aws:"required"`
	ContinuationSequenceNumber Sequence // absent at the end of the shard
	MillisBehindLatest         int64
	ChildShards                []ChildShard
}

type TagResourceInput struct {
	Tags        map[string]string `aws:"required,min=1,max=200" key:"min=1,max=128" each:"max=256"`
	ResourceARN *string           `aws:"required,min=1,max=2048,pattern=resource-arn"`
	StreamId    *string           `aws:"min=1,max=24,pattern=stream-id"`
}

type UntagResourceInput struct {
	TagKeys     []string `aws:"required,min=1,max=50" each:"min=1,max=128"`
	ResourceARN *string  `aws:"required,min=1,max=2048,pattern=resource-arn"`
	StreamId    *string  `aws:"min=1,max=24,pattern=stream-id"`
}

type UpdateShardCountInput struct {
	StreamRef
	TargetShardCount *int32  `aws:"required,min=1"`
	ScalingType      *string `aws:"required,enum=UNIFORM_SCALING"`
}

type UpdateShardCountOutput struct {
	StreamName        *string
	CurrentShardCount *int32
	TargetShardCount  *int32
	StreamARN         *string
}

type UpdateStreamModeInput struct {
	StreamARN           *string            `aws:"required,min=1,max=2048,pattern=stream-arn"`
	StreamId            *string            `aws:"min=1,max=24,pattern=stream-id"`
	StreamModeDetails   *StreamModeDetails `aws:"required"`
	WarmThroughputMiBps *int32
}
