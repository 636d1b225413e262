package firehose

import (
	"strings"
	"testing"
	"time"
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
	if c.Name != "archive" || c.Bucket != "readings" || c.Size != 2<<20 || c.Interval != time.Minute ||
		!c.Gzip || c.Suffix != ".gz" || string(c.Delim) != "\n" {
		t.Errorf("%+v", c)
	}
	if got := c.Prefix.Eval(time.UnixMilli(0)); got != "year=1970/" {
		t.Errorf("prefix %q", got)
	}
}

func TestParseNamesEveryError(t *testing.T) {
	_, err := Parse([]byte(`{"DeliveryStreamName":"a b","DeliveryStreamType":"MSKAsSource",
	  "ExtendedS3DestinationConfiguration":{"BucketARN":"readings","Prefix":"!{nope:x}",
	  "BufferingHints":{"SizeInMBs":0,"IntervalInSeconds":901},"CompressionFormat":"ZIP","CustomTimeZone":"Mars/Olympus",
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
			`"DeliveryStreamType": "KinesisStreamAsSource", "KinesisStreamSourceConfiguration": {"KinesisStreamARN": "in"}, "DeliveryStreamName"`,
			1),
		"long element": strings.Replace(good, "year=", strings.Repeat("y", 256), 1),
	} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPrefix(t *testing.T) {
	at := time.Date(2026, 3, 9, 7, 5, 4, 30e6, time.UTC)
	zone := time.FixedZone("east", 2*3600)
	for _, c := range []struct{ text, want string }{
		{"", "2026/03/09/09/"},
		{"plain", "plain2026/03/09/09/"},
		{"a/!{timestamp:yyyy-MM-dd}/b", "a/2026-03-09/b"},
		{"!{timestamp:'year='yyyy'/day='DDD}/", "year=2026/day=068/"},
		{"!{timestamp:H}:!{timestamp:mm.ss.SSS}", "9:05.04.030"},
		{"!{timestamp:yy''MMM}", "26'Mar"},
	} {
		p, err := ParsePrefix(c.text, zone)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got := p.Eval(at); got != c.want {
			t.Errorf("%q gives %q, want %q", c.text, got, c.want)
		}
	}
	p, err := ParsePrefix("!{firehose:random-string}/!{firehose:random-string}/", zone)
	if err != nil {
		t.Fatal(err)
	}
	a, b, _ := strings.Cut(p.Eval(at), "/")
	if len(a) != 11 || a == b[:11] {
		t.Errorf("random strings %q, %q", a, b)
	}
	for _, bad := range []string{"!{timestamp:}", "!{timestamp:yyyy", "!{timestamp:qq}",
		"!{firehose:error-output-type}",
		"!{timestamp:'open}", "!{timestamp:QQ}", "!{timestamp:HHH}", "!{timestamp:yyyy]MM}", strings.Repeat("x", 513)} {
		if _, err := ParsePrefix(bad, zone); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse(doc)
		if err != nil {
			return
		}
		if c.Name == "" || c.Bucket == "" || c.Size < 1<<20 || c.Interval < 0 || c.Interval > 900*time.Second {
			t.Fatalf("accepted %+v", c)
		}
	})
}
