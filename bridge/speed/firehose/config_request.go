package firehose

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// request is CreateDeliveryStream's document. The blocks of the parts stand in
// the file of their part.
type request struct {
	DeliveryStreamName               string
	DeliveryStreamType               string
	DirectPutSourceConfiguration     json.RawMessage
	KinesisStreamSourceConfiguration *sourceBlock
	MSKSourceConfiguration           json.RawMessage
	DatabaseSourceConfiguration      json.RawMessage

	ExtendedS3DestinationConfiguration                 *extendedBlock
	S3DestinationConfiguration                         *extendedBlock
	RedshiftDestinationConfiguration                   *redshiftBlock
	ElasticsearchDestinationConfiguration              *searchBlock
	AmazonopensearchserviceDestinationConfiguration    *searchBlock
	HttpEndpointDestinationConfiguration               *endpointBlock
	SplunkDestinationConfiguration                     *splunkBlock
	AmazonOpenSearchServerlessDestinationConfiguration json.RawMessage
	SnowflakeDestinationConfiguration                  json.RawMessage
	IcebergDestinationConfiguration                    json.RawMessage

	DeliveryStreamEncryptionConfigurationInput json.RawMessage
	Tags                                       json.RawMessage

	Tidemill *houseBlock // what AWS has no word for

	DeliveryStreamDescription *description // instead of all others: what DescribeDeliveryStream answers
}

// refused returns the members that are known and never served.
func (q *request) refused() (names []string) {
	for name, raw := range map[string]json.RawMessage{
		"MSKSourceConfiguration":                             q.MSKSourceConfiguration,
		"DatabaseSourceConfiguration":                        q.DatabaseSourceConfiguration,
		"AmazonOpenSearchServerlessDestinationConfiguration": q.AmazonOpenSearchServerlessDestinationConfiguration,
		"SnowflakeDestinationConfiguration":                  q.SnowflakeDestinationConfiguration,
		"IcebergDestinationConfiguration":                    q.IcebergDestinationConfiguration,
	} {
		if raw != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A description is an exported delivery stream. What tells of its state is
// passed over.
type description struct {
	DeliveryStreamName string
	DeliveryStreamType string
	Source             struct {
		DirectPutSourceDescription     json.RawMessage
		KinesisStreamSourceDescription *sourceBlock
		MSKSourceDescription           json.RawMessage
		DatabaseSourceDescription      json.RawMessage
	}
	Destinations []map[string]json.RawMessage

	DeliveryStreamEncryptionConfiguration json.RawMessage

	DeliveryStreamARN, DeliveryStreamStatus, VersionId, FailureDescription json.RawMessage
	CreateTimestamp, LastUpdateTimestamp, HasMoreDestinations              json.RawMessage
}

// describedAs are the members that a description has another name for, within
// the block of a destination.
var describedAs = map[string]string{
	"S3DestinationDescription":    "S3Configuration",
	"S3BackupDescription":         "S3BackupConfiguration",
	"VpcConfigurationDescription": "VpcConfiguration",
}

// exported returns the document of the request that would make a described delivery
// stream. Passwords, tokens and access keys are not in a description: whoever
// declares it adds them.
func (d *description) exported() (doc []byte, err error) {
	if len(d.Destinations) != 1 {
		return nil, fmt.Errorf("Destinations: %d, want one", len(d.Destinations)) //lint:ignore ST1005 a member
	}
	all := map[string]any{"DeliveryStreamName": d.DeliveryStreamName}
	for name, is := range map[string]struct {
		there bool
		value any
	}{
		"DeliveryStreamType": {d.DeliveryStreamType != "", d.DeliveryStreamType},
		"KinesisStreamSourceConfiguration": {d.Source.KinesisStreamSourceDescription != nil,
			d.Source.KinesisStreamSourceDescription},
		"MSKSourceConfiguration": {d.Source.MSKSourceDescription != nil, d.Source.MSKSourceDescription},
		"DatabaseSourceConfiguration": {d.Source.DatabaseSourceDescription != nil,
			d.Source.DatabaseSourceDescription},
		"DeliveryStreamEncryptionConfigurationInput": {d.DeliveryStreamEncryptionConfiguration != nil,
			d.DeliveryStreamEncryptionConfiguration},
	} {
		if is.there {
			all[name] = is.value
		}
	}
	to := d.Destinations[0]
	delete(to, "DestinationId")
	if to["ExtendedS3DestinationDescription"] != nil {
		delete(to, "S3DestinationDescription") // the same with less
	}
	for name, block := range to {
		kind, ok := strings.CutSuffix(name, "DestinationDescription")
		if !ok {
			return nil, fmt.Errorf("%.100s: unknown member", name)
		}
		all[kind+"DestinationConfiguration"] = asConfiguration(block)
	}
	return json.Marshal(all)
}

// asConfiguration renames what a description calls otherwise.
func asConfiguration(raw json.RawMessage) json.RawMessage {
	var block map[string]json.RawMessage
	if json.Unmarshal(raw, &block) != nil {
		return raw // told by whoever reads it as a block
	}
	for from, to := range describedAs {
		if part, ok := block[from]; ok {
			delete(block, from)
			block[to] = part
		}
	}
	renamed, err := json.Marshal(block)
	if err != nil {
		return raw
	}
	return renamed
}
