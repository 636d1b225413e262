package control

import "time"

// The shapes of the API, by its model (version 2015-08-04), as package
// speed/kinesis has its own. What CreateDeliveryStream and UpdateDestination say of
// a destination is read from the request's body, since it is the document that
// files declare, too.

// Patterns are what the tags call by name.
var Patterns = map[string]string{
	"name":        `[a-zA-Z0-9_.-]+`,
	"version":     `[0-9]+`,
	"destination": `[a-zA-Z0-9-]+`,
	"tag":         `[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*`,
}

// A Tag is one of a delivery stream.
type Tag struct {
	Key   *string `aws:"required,min=1,max=128,pattern=tag"`
	Value *string `aws:"max=256,pattern=tag"`
}

// Ref names a delivery stream.
type Ref struct {
	DeliveryStreamName *string `aws:"required,min=1,max=64,pattern=name"`
}

// Name is the delivery stream's.
func (r Ref) Name() string {
	if r.DeliveryStreamName == nil {
		return ""
	}
	return *r.DeliveryStreamName
}

type CreateInput struct {
	Ref
	Tags []Tag `aws:"min=1,max=50"`
}

type CreateOutput struct{ DeliveryStreamARN *string }

type DescribeInput struct {
	Ref
	Limit                       *int32  `aws:"min=1,max=10000"`
	ExclusiveStartDestinationId *string `aws:"min=1,max=100,pattern=destination"`
}

type ListInput struct {
	Limit                            *int32  `aws:"min=1,max=10000"`
	DeliveryStreamType               *string `aws:"enum=DirectPut|KinesisStreamAsSource|MSKAsSource|DatabaseAsSource"`
	ExclusiveStartDeliveryStreamName *string `aws:"min=1,max=64,pattern=name"`
}

type ListOutput struct {
	DeliveryStreamNames    []string `aws:"required"`
	HasMoreDeliveryStreams *bool
}

type UpdateInput struct {
	Ref
	CurrentDeliveryStreamVersionId *string `aws:"required,min=1,max=50,pattern=version"`
	DestinationId                  *string `aws:"required,min=1,max=100,pattern=destination"`
}

type Empty struct{}

type DeleteInput struct {
	Ref
	AllowForceDelete *bool
}

type Record struct {
	Data []byte `aws:"required,max=1024000"`
}

type PutRecordInput struct {
	Ref
	Record *Record `aws:"required"`
}

type PutRecordOutput struct {
	RecordId  *string
	Encrypted *bool
}

type PutRecordBatchInput struct {
	Ref
	Records []Record `aws:"required,min=1,max=500"`
}

type PutRecordBatchOutput struct {
	FailedPutCount   *int32
	Encrypted        *bool
	RequestResponses []PutResponse `aws:"required"`
}

type PutResponse struct{ RecordId, ErrorCode, ErrorMessage *string }

type TagInput struct {
	Ref
	Tags []Tag `aws:"required,min=1,max=50"`
}

type UntagInput struct {
	Ref
	TagKeys []string `aws:"required,min=1,max=50" each:"min=1,max=128"`
}

type ListTagsInput struct {
	Ref
	ExclusiveStartTagKey *string `aws:"min=1,max=128"`
	Limit                *int32  `aws:"min=1,max=50"`
}

// A TagEntry is a Tag as it is told.
type TagEntry struct{ Key, Value *string }

type ListTagsOutput struct {
	Tags        []TagEntry `aws:"required"`
	HasMoreTags *bool      `aws:"required"`
}

type StartEncryptionInput struct {
	Ref
	DeliveryStreamEncryptionConfigurationInput *struct {
		KeyARN  *string `aws:"min=1,max=512"`
		KeyType *string `aws:"required,enum=AWS_OWNED_CMK|CUSTOMER_MANAGED_CMK"`
	}
}

type StopEncryptionInput struct{ Ref }

// A Description is what DescribeDeliveryStream tells; Destination is a block in the
// terms of the API.
type Description struct {
	Name, ARN, Status, Type, Version string
	Created, Updated                 time.Time
	SourceARN, SourceRole            string
	SourceStart                      time.Time
	Encryption, KeyARN, KeyType      string
	Destination                      map[string]any
}
