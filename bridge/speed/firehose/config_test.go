package firehose

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
)

const good = `{
  "DeliveryStreamName": "archive",
  "ExtendedS3DestinationConfiguration": {
    "RoleARN": "arn:aws:iam::000000000000:role/x",
    "BucketARN": "arn:aws:s3:::readings",
    "Prefix": "year=!{timestamp:yyyy}/",
    "BufferingHints": {"SizeInMBs": 2, "IntervalInSeconds": 60},
    "CompressionFormat": "GZIP",
    "ProcessingConfiguration": {"Enabled": true, "Processors": [
      {"Type": "AppendDelimiterToRecord", "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}]}]}
  }
}`

func TestParse(t *testing.T) {
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "archive" || c.Objects.Bucket != "readings" || c.Size != 2<<20 || c.Interval != time.Minute ||
		c.Objects.Compression != compress.Gzip || c.Objects.Suffix != ".gz" || string(c.Processing.Delimiter) != "\n" {
		t.Errorf("%+v", c)
	}
	if got, err := c.Objects.Prefix.Eval(Values{At: time.UnixMilli(0)}); got != "year=1970/" || err != nil {
		t.Errorf("prefix %q, %v", got, err)
	}
}

func TestParseNamesEveryError(t *testing.T) {
	_, err := Parse([]byte(`{"DeliveryStreamName":"a b","DeliveryStreamType":"MSKAsSource",
	  "ExtendedS3DestinationConfiguration":{"BucketARN":"readings","Prefix":"!{nope:x}",
	  "BufferingHints":{"SizeInMBs":0,"IntervalInSeconds":901},"CompressionFormat":"LZ4","CustomTimeZone":"Mars/Olympus",
	  "FileExtension":"gz"}}`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"DeliveryStreamName", "DeliveryStreamType", "BucketARN", "Prefix", "SizeInMBs",
		"IntervalInSeconds", "CompressionFormat", "CustomTimeZone", "FileExtension"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in %v", want, err)
		}
	}
	for name, doc := range map[string]string{
		"unknown member": `{"DeliveryStreamName":"a","RedshiftDestinationConfiguration":{}}`,
		"no destination": `{"DeliveryStreamName":"a"}`,
		"half a hint":    strings.Replace(good, `"SizeInMBs": 2, `, "", 1),
		"not JSON":       `{`,
		"two documents":  good + `{"DeliveryStreamName":"b"}`,
		"absolute key":   strings.Replace(good, "year=", "/year=", 1),
		"upward key":     strings.Replace(good, "year=", "../year=", 1),
		"empty element":  strings.Replace(good, "year=", "a//year=", 1),
		"machine's zone": strings.Replace(good, `"Prefix"`, `"CustomTimeZone": "Local", "Prefix"`, 1),
		"source alone": strings.Replace(good, `"DeliveryStreamName"`,
			`"KinesisStreamSourceConfiguration": {}, "DeliveryStreamName"`, 1),
		"type alone": strings.Replace(good, `"DeliveryStreamName"`,
			`"DeliveryStreamType": "KinesisStreamAsSource", "DeliveryStreamName"`, 1),
		"source's name": strings.Replace(good, `"DeliveryStreamName"`,
			`"DeliveryStreamType": "KinesisStreamAsSource", "KinesisStreamSourceConfiguration": `+
				`{"KinesisStreamARN": "in"}, "DeliveryStreamName"`,
			1),
		"long element": strings.Replace(good, "year=", strings.Repeat("y", 256), 1),
	} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is unknown, of another type, missing or out of bounds is told together, and what
// could not be read is not told to be missing.
func TestParseTellsAllAtOnce(t *testing.T) {
	_, err := Parse([]byte(`{"DeliveryStreamName":"a","Tag":[],"ExtendedS3DestinationConfiguration":{"BucketARN":5,
	  "Prefx":"x","Prefix":"!{nope:x}","BufferingHints":{"SizeInMBs":"2","IntervalInSeconds":60},
	  "ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":1},{"Type":"Nope"}]},"CompressionFormat":"LZ4",
	  "DataFormatConversionConfiguration":{"SchemaConfiguration":[]}}}`))
	const at = "ExtendedS3DestinationConfiguration."
	want := []string{at + "BucketARN: is a number, want a text",
		at + "BufferingHints.SizeInMBs: is a text, want a whole number",
		at + "DataFormatConversionConfiguration.SchemaConfiguration: want an object", at + "Prefx: unknown member",
		at + "ProcessingConfiguration.Processors[0].Type: is a number, want a text", "Tag: unknown member",
		`Processors: "" is not served`, `Processors: "Nope" is not served`, `CompressionFormat: "LZ4"`, "Prefix: !{nope:x}",
		"DataFormatConversionConfiguration.InputFormatConfiguration: missing",
		"DataFormatConversionConfiguration.OutputFormatConfiguration: missing"}
	for _, line := range want {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("no word of %q in\n%v", line, err)
		}
	}
	for _, line := range []string{"\nBucketARN", "\nBufferingHints", "SchemaConfiguration: missing"} {
		if err == nil || strings.Contains(err.Error(), line) {
			t.Errorf("%q in\n%v", line, err)
		}
	}
	const redshift = `{"DeliveryStreamName":"r","Unknown":1,"RedshiftDestinationConfiguration":{"ClusterJDBCURL":"jdbc:postgresql://h:1/d","Username":"u",
	  "Password":"secret-1","CopyCommand":{"DataTableName":"a.b.c","CopyOptions":"NOPE"},"S3Configuration":{"BucketARN":"arn:aws:s3:::b"}}}`
	if _, err := Parse([]byte(redshift)); err == nil || !strings.Contains(err.Error(), "Unknown: unknown member") ||
		!strings.Contains(err.Error(), "CopyOptions") || strings.Contains(err.Error(), "secret-1") {
		t.Error(err)
	}
}

// A resource of a CloudFormation template is taken as it is, but for what only
// CloudFormation can compute.
func TestParseResource(t *testing.T) {
	const wrapped = `{"Type":"AWS::KinesisFirehose::DeliveryStream","DependsOn":["Role"],"Properties":`
	c, err := Parse([]byte(wrapped + good + "}"))
	if err != nil || c.Name != "archive" || strings.Contains(c.Document.Reveal(), "AWS::") {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = Parse([]byte(wrapped + strings.Replace(good, `"arn:aws:s3:::readings"`, `{"Fn::GetAtt":["B","Arn"]}`, 1) + "}"))
	if err == nil || !strings.Contains(err.Error(),
		`Properties.ExtendedS3DestinationConfiguration.BucketARN: {"Fn::GetAtt": …} is computed by CloudFormation`) {
		t.Error(err)
	}
	if _, err := ParseRequest([]byte(wrapped + good + "}")); err == nil {
		t.Error("a request may be a resource")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse(doc)
		if err != nil {
			return
		}
		if c.Name == "" || c.Objects.Bucket == "" || c.Size < 1<<20 || c.Interval < 0 || c.Interval > 900*time.Second {
			t.Fatalf("accepted %+v", c)
		}
	})
}
