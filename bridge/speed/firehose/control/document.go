package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/secretname"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/shadow"
)

// A block is a part of a document.
type block = map[string]any

const (
	createSuffix   = "DestinationConfiguration" // after the kind, when it is made
	describeSuffix = "DestinationDescription"   // when it is described
	updateSuffix   = "DestinationUpdate"        // when it is changed
)

// inDescription are the members that are called otherwise there, and inUpdate those
// of an update.
var (
	inDescription = map[string]string{"S3Configuration": "S3DestinationDescription",
		"S3BackupConfiguration": "S3BackupDescription", "VpcConfiguration": "VpcConfigurationDescription"}
	inUpdate = map[string]string{"S3Update": "S3Configuration", "S3BackupUpdate": "S3BackupConfiguration"}
)

// described is the one destination of a configuration as DescribeDeliveryStream has it.
func described(c *firehose.Config) (block, error) {
	doc, err := shadow.ParseObject([]byte(c.Document.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("delivery stream %s: its document: %w", c.Name, err)
	}
	d, _ := doc[string(c.Kind)+createSuffix].(block)
	d = renamed(d, inDescription)
	fill(d, c)
	all := block{"DestinationId": destinationID, string(c.Kind) + describeSuffix: d}
	if c.Kind == firehose.ExtendedS3 {
		plain := block{}
		for _, name := range []string{"RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix", "BufferingHints",
			"CompressionFormat", "EncryptionConfiguration", "CloudWatchLoggingOptions"} {
			if v, ok := d[name]; ok {
				plain[name] = v
			}
		}
		all["S3"+describeSuffix] = plain
	}
	return all, nil
}

// renamed copies a block without its secrets, and with other names for some
// members.
func renamed(b block, names map[string]string) block {
	out := make(block, len(b))
	for name, v := range b {
		if secretname.Is(name) || v == nil {
			continue
		}
		if inner, ok := v.(block); ok {
			v = renamed(inner, names)
		}
		if n, ok := names[name]; ok {
			name = n
		}
		out[name] = v
	}
	return out
}

// fill adds what a description always has.
func fill(d block, c *firehose.Config) {
	add := func(to block, name string, v any) {
		if _, ok := to[name]; !ok {
			to[name] = v
		}
	}
	hints := func(b firehose.Buffer) block {
		return block{"SizeInMBs": json.Number(fmt.Sprint(b.Size >> 20)),
			"IntervalInSeconds": json.Number(fmt.Sprint(int(b.Interval.Seconds())))}
	}
	objects := func(b block, o *firehose.Objects) {
		add(b, "BufferingHints", hints(o.Buffer))
		add(b, "CompressionFormat", o.Compression.String())
		add(b, "EncryptionConfiguration", block{"NoEncryptionConfig": "NoEncryption"})
		add(b, "CloudWatchLoggingOptions", block{"Enabled": false})
	}
	inner, _ := d["S3DestinationDescription"].(block)
	if inner != nil {
		objects(inner, &c.Objects)
		add(d, "CloudWatchLoggingOptions", block{"Enabled": false})
		add(d, "RetryOptions", block{"DurationInSeconds": json.Number(fmt.Sprint(int(c.Retry.Seconds())))})
	} else {
		objects(d, &c.Objects)
	}
	if b, _ := d["S3BackupDescription"].(block); b != nil && c.SourceBackup != nil {
		objects(b, c.SourceBackup)
	}
	switch c.Kind {
	case firehose.ExtendedS3, firehose.ToRedshift:
		add(d, "S3BackupMode", "Disabled")
	case firehose.Elasticsearch, firehose.OpenSearch:
		add(d, "BufferingHints", hints(c.Buffer))
		add(d, "IndexRotationPeriod", c.Search.Rotation)
		add(d, "S3BackupMode", "FailedDocumentsOnly")
	case firehose.ToEndpoint:
		add(d, "BufferingHints", hints(c.Buffer))
		add(d, "S3BackupMode", "FailedDataOnly")
	case firehose.ToSplunk:
		add(d, "BufferingHints", hints(c.Buffer))
		add(d, "HECAcknowledgmentTimeoutInSeconds", json.Number(fmt.Sprint(int(c.Splunk.AckTimeout.Seconds()))))
		add(d, "S3BackupMode", "FailedEventsOnly")
	}
	if c.Kind != firehose.PlainS3 {
		add(d, "ProcessingConfiguration", block{"Enabled": false, "Processors": []any{}})
	}
}

// updated is a document after UpdateDestination: what it gives of the same
// destination is put over what is there, another one takes its place.
func updated(document, update []byte) (json.RawMessage, error) {
	doc, err := shadow.ParseObject(document)
	if err != nil {
		return nil, err
	}
	change, err := shadow.ParseObject(update)
	if err != nil {
		return nil, err
	}
	var kind string
	var new block
	for name, v := range change {
		switch k, ok := strings.CutSuffix(name, updateSuffix); {
		case ok && kind == "":
			if new, ok = v.(block); !ok {
				return nil, fmt.Errorf("%.100s: want an object", name)
			}
			kind = k
		case ok:
			return nil, errors.New("want one destination")
		case name != "DeliveryStreamName" && name != "CurrentDeliveryStreamVersionId" && name != "DestinationId":
			return nil, fmt.Errorf("%.100s: unknown member", name)
		}
	}
	if kind == "" {
		return nil, errors.New("want a destination")
	}
	new = configured(new)
	for name := range doc {
		old, ok := strings.CutSuffix(name, createSuffix)
		if !ok {
			continue
		}
		was, _ := doc[name].(block)
		delete(doc, name)
		if old == kind || isS3(old) && isS3(kind) {
			new = merged(was, new)
			if isS3(old) && old != kind && old == string(firehose.ExtendedS3) {
				kind = old // an update of the old kind leaves the rest of the new one
			}
		}
		break
	}
	doc[kind+createSuffix] = new
	return json.Marshal(doc)
}

func isS3(kind string) bool {
	return kind == string(firehose.ExtendedS3) || kind == string(firehose.PlainS3)
}

// configured has an update's members called as a configuration's.
func configured(b block) block {
	out := make(block, len(b))
	for name, v := range b {
		if n, ok := inUpdate[name]; ok {
			name = n
		}
		out[name] = v
	}
	return out
}

// whole are members that are replaced, and not merged: what they have goes together.
var whole = map[string]bool{"BufferingHints": true, "ProcessingConfiguration": true, "EncryptionConfiguration": true,
	"CloudWatchLoggingOptions": true, "RetryOptions": true, "DocumentIdOptions": true, "RequestConfiguration": true,
	"DataFormatConversionConfiguration": true, "DynamicPartitioningConfiguration": true, "CopyCommand": true}

// merged is old with what new has.
func merged(old, new block) block {
	out := make(block, len(old)+len(new))
	for name, v := range old {
		out[name] = v
	}
	for name, v := range new {
		a, ok := out[name].(block)
		b, both := v.(block)
		if ok && both && !whole[name] {
			v = merged(a, b)
		}
		out[name] = v
	}
	return out
}
