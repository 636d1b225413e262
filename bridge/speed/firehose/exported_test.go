package firehose

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/deploy/await"
)

// exported is a delivery stream as people have it: made by a deployment tool,
// with all that it writes out.
const exported = `{
  "DeliveryStreamName": "archive", "DeliveryStreamType": "DirectPut",
  "DeliveryStreamEncryptionConfigurationInput": {"KeyType": "AWS_OWNED_CMK"},
  "Tags": [{"Key": "team", "Value": "plant"}],
  "ExtendedS3DestinationConfiguration": {
    "RoleARN": "arn:aws:iam::123456789012:role/firehose", "BucketARN": "arn:aws:s3:::readings",
    "Prefix": "in/!{timestamp:yyyy/MM/dd}/", "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/!{timestamp:yyyy}/",
    "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300}, "CompressionFormat": "UNCOMPRESSED",
    "EncryptionConfiguration": {"KMSEncryptionConfig": {"AWSKMSKeyARN": "arn:aws:kms:eu-west-1:123456789012:key/x"}},
    "CloudWatchLoggingOptions": {"Enabled": true, "LogGroupName": "/aws/kinesisfirehose/archive", "LogStreamName": "S3"},
    "S3BackupMode": "Disabled", "DataFormatConversionConfiguration": {"Enabled": false}, "DynamicPartitioningConfiguration": {"Enabled": false},
    "ProcessingConfiguration": {"Enabled": false, "Processors": []}
  }
}`

// described is the same as DescribeDeliveryStream tells it.
const described = `{"DeliveryStreamDescription": {
  "DeliveryStreamName": "archive", "DeliveryStreamARN": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/archive",
  "DeliveryStreamStatus": "ACTIVE", "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"}, "DeliveryStreamType": "KinesisStreamAsSource",
  "VersionId": "3", "CreateTimestamp": "2026-03-01T10:00:00.000000+01:00", "LastUpdateTimestamp": 1772366400.5,
  "Source": {"KinesisStreamSourceDescription": {"KinesisStreamARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/in",
    "RoleARN": "arn:aws:iam::123456789012:role/firehose", "DeliveryStartTimestamp": 1772366400.5}},
  "Destinations": [{"DestinationId": "destinationId-000000000001",
    "S3DestinationDescription": {"RoleARN": "r", "BucketARN": "arn:aws:s3:::readings", "CompressionFormat": "GZIP"},
    "ExtendedS3DestinationDescription": {"RoleARN": "r", "BucketARN": "arn:aws:s3:::readings", "Prefix": "", "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
      "CompressionFormat": "GZIP", "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"}, "CloudWatchLoggingOptions": {"Enabled": false},
      "S3BackupMode": "Disabled", "ProcessingConfiguration": {"Enabled": true, "Processors": [
        {"Type": "RecordDeAggregation", "Parameters": [{"ParameterName": "SubRecordType", "ParameterValue": "JSON"}]},
        {"Type": "AppendDelimiterToRecord", "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}]}]}}}],
  "HasMoreDestinations": false}}`

// What AWS's tools write is taken as it is; what has no effect is kept and
// shown.
func TestExported(t *testing.T) {
	at := time.Date(2026, 3, 9, 7, 0, 0, 0, time.UTC)
	c, err := Parse([]byte(exported))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"CloudWatchLoggingOptions", "DataFormatConversionConfiguration",
		"DeliveryStreamEncryptionConfigurationInput", "DynamicPartitioningConfiguration",
		"EncryptionConfiguration", "RoleARN", "S3BackupMode", "Tags"}
	if got := slices.Sorted(maps.Keys(c.Kept)); !slices.Equal(got, want) ||
		!strings.Contains(string(c.Kept["CloudWatchLoggingOptions"]), "/aws/kinesisfirehose/archive") {
		t.Errorf("kept %v", got)
	}
	if got, err := c.Objects.errorKey(c.Name, 1, Values{At: at, ErrorType: processingFailed}, "id"); err != nil ||
		got != "errors/processing-failed/2026/archive-1-2026-03-09-07-00-00-id" {
		t.Error(got, err)
	}
	c, err = Parse([]byte(described))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "archive" || c.Source.Stream != "in" || c.Objects.Compression != compress.Gzip ||
		c.Processing.Split == nil || !c.Processing.Split.JSON || string(c.Processing.Delimiter) != "\n" {
		t.Errorf("%+v", c)
	}
	plain := strings.NewReplacer("ExtendedS3DestinationConfiguration", "S3DestinationConfiguration").Replace(good)
	if c, err := Parse([]byte(plain)); err != nil || c.Objects.Bucket != "readings" {
		t.Errorf("S3DestinationConfiguration: %v", err)
	}
	for name, doc := range map[string]string{
		"backup": strings.Replace(exported, `"S3BackupMode": "Disabled"`, `"S3BackupMode": "Enabled"`, 1),
		"conversion": strings.Replace(exported, `"DataFormatConversionConfiguration": {"Enabled": false}`,
			`"DataFormatConversionConfiguration": {"Enabled": true}`, 1),
		"partitioning": strings.Replace(exported, `"DynamicPartitioningConfiguration": {"Enabled": false}`,
			`"DynamicPartitioningConfiguration": {}`, 1),
		"two destinations": strings.Replace(exported, `"Tags"`,
			`"S3DestinationConfiguration": {"BucketARN": "arn:aws:s3:::b"}, "Tags"`, 1),
		"no type of errors": strings.Replace(exported, "!{firehose:error-output-type}", "", 1),
		"type in Prefix": strings.Replace(exported, "in/!{timestamp", "!{firehose:error-output-type}/!{timestamp",
			1),
		"another store": strings.Replace(described, "ExtendedS3DestinationDescription",
			"RedshiftDestinationDescription", 1),
		"unknown, exported": strings.Replace(described, `"S3BackupMode"`, `"S3Mode"`, 1),
		"sub record type":   strings.Replace(described, `"ParameterValue": "JSON"`, `"ParameterValue": "XML"`, 1),
		"no delimiter":      strings.Replace(described, `"ParameterValue": "JSON"`, `"ParameterValue": "DELIMITED"`, 1),
	} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSplit(t *testing.T) {
	many := strings.Repeat("{}", maxSplit)
	for _, c := range []struct {
		s    *Splitter
		in   string
		want string // parts, with | between; "-": it cannot be
	}{
		{nil, "{}{}", "{}{}"},
		{&Splitter{JSON: true}, "{\"a\":1}{\"b\":2}\n [3]  4\n", `{"a":1}|{"b":2}|[3]|4`},
		{&Splitter{JSON: true}, "{", "-"},
		{&Splitter{JSON: true}, "", "-"},
		{&Splitter{JSON: true}, "{} x", "-"},
		{&Splitter{JSON: true}, many, strings.Repeat("{}|", maxSplit-1) + "{}"},
		{&Splitter{JSON: true}, many + "{}", "-"},
		{&Splitter{Delimiter: []byte("##")}, "a##b##", "a|b"},
		{&Splitter{Delimiter: []byte("\n")}, "a", "a"},
		{&Splitter{Delimiter: []byte("\n")}, strings.Repeat("a\n", maxSplit+1), "-"},
	} {
		parts, err := c.s.split([]byte(c.in))
		var got []string
		for _, p := range parts {
			got = append(got, string(p))
		}
		if text := strings.Join(got, "|"); (err != nil) != (c.want == "-") || err == nil && text != c.want {
			t.Errorf("%.40q: %.80q, %v", c.in, text, err)
		}
	}
}

// Records are taken apart on their way, and those that cannot be are under the
// ErrorOutputPrefix, once, whatever fails.
func TestErrorOutput(t *testing.T) {
	c, err := Parse([]byte(strings.NewReplacer(`"Type": "AppendDelimiterToRecord"`,
		`"Type": "RecordDeAggregation", "Parameters": [{"ParameterName": "SubRecordType", "ParameterValue": "JSON"}]},
		{"Type": "AppendDelimiterToRecord"`, `"Prefix"`, `"ErrorOutputPrefix": "bad/", "Prefix"`, `"GZIP"`,
		`"UNCOMPRESSED"`).Replace(good)))
	if err != nil {
		t.Fatal(err)
	}
	c.Interval = 20 * time.Millisecond
	k := &bucket{objects: map[string][]byte{}, fail: func(n int) error {
		if n == 1 || n == 3 { // the object of records, then that of failures
			return errors.New("away")
		}
		return nil
	}}
	store, s, stop := running(t, vfs.NewMem(), k, c)
	defer stop()
	put(t, store, "archive", `{"a":1}{"a":2}`, "no JSON", `{"a":3}`)
	await.True(t, "objects", func() bool { st := s.Stats()["archive"]; return st.Records == 3 && st.Failed == 1 })
	put(t, store, "archive", "nor this")
	await.True(t, "an object of failures alone", func() bool { return s.Stats()["archive"].Failed == 2 })
	k.mu.Lock()
	defer k.mu.Unlock()
	var failed []string
	for key, o := range k.objects {
		if !strings.HasPrefix(key, "readings/bad/processing-failed/") {
			if string(o) != "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n" {
				t.Errorf("%s: %q", key, o)
			}
			continue
		}
		var f failure
		if err := json.Unmarshal(o, &f); err != nil || f.Code == "" || f.Message == "" || f.Arrived == 0 ||
			f.Ended < f.Arrived || f.Attempts != 1 {
			t.Errorf("%s: %s, %v", key, o, err)
		}
		failed = append(failed, string(f.Raw))
	}
	if slices.Sort(failed); !slices.Equal(failed, []string{"no JSON", "nor this"}) || len(k.objects) != 3 {
		t.Errorf("%q in %d objects", failed, len(k.objects))
	}
}
