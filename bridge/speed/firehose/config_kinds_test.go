package firehose

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
)

const bucketBlock = `{"RoleARN":"r","BucketARN":"arn:aws:s3:::kept"}`

// withBlock is a document of one destination.
func withBlock(kind, block string) string {
	return fmt.Sprintf(`{"DeliveryStreamName":"a","%sDestinationConfiguration":%s}`, kind, block)
}

// blocks are a document of each destination, with all its members.
var blocks = map[Kind]string{
	ExtendedS3: `{"RoleARN":"r","BucketARN":"arn:aws:s3:::lake","Prefix":"k=!{partitionKeyFromQuery:k}/",
	  "ErrorOutputPrefix":"bad/!{firehose:error-output-type}/","BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":0},
	  "CompressionFormat":"UNCOMPRESSED","CustomTimeZone":"Europe/Paris","FileExtension":".json","S3BackupMode":"Enabled",
	  "S3BackupConfiguration":{"BucketARN":"arn:aws:s3:::raw","CompressionFormat":"Snappy","Prefix":"raw/"},
	  "DynamicPartitioningConfiguration":{"Enabled":true,"RetryOptions":{"DurationInSeconds":60}},
	  "ProcessingConfiguration":{"Enabled":true,"Processors":[
	   {"Type":"Decompression","Parameters":[{"ParameterName":"CompressionFormat","ParameterValue":"GZIP"}]},
	   {"Type":"CloudWatchLogProcessing","Parameters":[{"ParameterName":"DataMessageExtraction","ParameterValue":"true"}]},
	   {"Type":"RecordDeAggregation","Parameters":[{"ParameterName":"SubRecordType","ParameterValue":"DELIMITED"},
	    {"ParameterName":"Delimiter","ParameterValue":"IyM="}]},
	   {"Type":"Lambda","Parameters":[{"ParameterName":"LambdaArn","ParameterValue":"tidemill:blueprint:syslog-to-json"},
	    {"ParameterName":"BufferSizeInMBs","ParameterValue":"0.5"},{"ParameterName":"NumberOfRetries","ParameterValue":"1"}]},
	   {"Type":"MetadataExtraction","Parameters":[{"ParameterName":"MetadataExtractionQuery","ParameterValue":"{k:.k}"},
	    {"ParameterName":"JsonParsingEngine","ParameterValue":"JQ-1.6"}]},
	   {"Type":"AppendDelimiterToRecord","Parameters":[]}]}}`,
	PlainS3: `{"BucketARN":"arn:aws:s3:::lake","CompressionFormat":"ZIP"}`,
	ToRedshift: `{"RoleARN":"r","ClusterJDBCURL":"jdbc:redshift://db.example.org:5439/dev?ssl=true",
	  "CopyCommand":{"DataTableName":"public.t","DataTableColumns":"a,b","CopyOptions":"JSON 'auto'"},
	  "Username":"u","Password":"hidden-pw","RetryOptions":{"DurationInSeconds":0},"S3Configuration":` + bucketBlock + `,
	  "S3BackupMode":"Disabled"}`,
	Elasticsearch: `{"ClusterEndpoint":"http://es:9200","IndexName":"i","IndexRotationPeriod":"OneWeek","TypeName":"t",
	  "DocumentIdOptions":{"DefaultDocumentIdFormat":"NO_DOCUMENT_ID"},"S3BackupMode":"AllDocuments",
	  "S3Configuration":` + bucketBlock + `}`,
	OpenSearch: `{"ClusterEndpoint":"https://os:9200","IndexName":"i","S3Configuration":` + bucketBlock + `,
	  "VpcConfiguration":{"SubnetIds":["s"]}}`,
	ToEndpoint: `{"EndpointConfiguration":{"Url":"http://127.0.0.1:8080/in","Name":"n","AccessKey":"hidden-key"},
	  "RequestConfiguration":{"ContentEncoding":"GZIP","CommonAttributes":[{"AttributeName":"a","AttributeValue":"hidden-value"}]},
	  "BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":60},"S3BackupMode":"AllData",
	  "S3Configuration":` + bucketBlock + `}`,
	ToSplunk: `{"HECEndpoint":"https://splunk:8088","HECEndpointType":"Raw","HECToken":"hidden-token",
	  "HECAcknowledgmentTimeoutInSeconds":600,"S3Configuration":` + bucketBlock + `}`,
}

func TestKinds(t *testing.T) {
	for kind, want := range map[Kind]func(*Config) bool{
		ExtendedS3: func(c *Config) bool {
			p := c.Processing
			return c.Objects.Bucket == "lake" && c.Size == 64<<20 && c.Interval == 0 && c.Objects.Suffix == ".json" &&
				c.SourceBackup.Bucket == "raw" && c.SourceBackup.Compression == compress.Snappy && p.Decompress &&
				p.LogEvents && string(p.Split.Delimiter) == "##" && p.Lambda.Size == 512<<10 && p.Lambda.Retries == 1 &&
				p.Lambda.Interval == time.Minute && string(p.Delimiter) == "\n" &&
				c.Partitioning.Retry == time.Minute &&
				slices.Equal(c.Partitioning.Query.Keys(), []string{"k"}) && c.Retry == 24*time.Hour
		},
		PlainS3: func(c *Config) bool {
			return c.Objects.Compression == compress.Zip && c.Objects.Suffix == ".zip" && c.Size == 5<<20 &&
				c.Interval == 300*time.Second
		},
		ToRedshift: func(c *Config) bool {
			r := c.Redshift
			return r.Address == "db.example.org:5439" && r.Database == "dev" && r.Options.Get("ssl") == "true" &&
				r.Table == "public.t" && r.Columns == "a,b" && r.Password.Reveal() == "hidden-pw" && c.Retry == 0 &&
				c.Objects.Bucket == "kept" && c.Size == 5<<20
		},
		Elasticsearch: func(c *Config) bool {
			s := c.Search
			return s.Index == "i" && s.Rotation == "OneWeek" && s.Type == "t" && s.NoID && c.BackupAll &&
				s.FailedType == elasticsearchFailed && c.Retry == 300*time.Second
		},
		OpenSearch: func(c *Config) bool { return c.Search.Rotation == "OneDay" && !c.Search.NoID && !c.BackupAll },
		ToEndpoint: func(c *Config) bool {
			e := c.Endpoint
			return e.Gzip && e.Attributes[0].Value.Reveal() == "hidden-value" && e.AccessKey.Reveal() == "hidden-key" &&
				c.BackupAll && c.Size == 64<<20
		},
		ToSplunk: func(c *Config) bool {
			return c.Splunk.Raw && c.Splunk.Token.Reveal() == "hidden-token" &&
				c.Splunk.AckTimeout == 600*time.Second &&
				c.Interval == time.Minute && c.Size == 5<<20
		},
	} {
		c, err := ParseRequest([]byte(withBlock(string(kind), blocks[kind])))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		} else if c.Kind != kind || !want(c) {
			t.Errorf("%s: %+v", kind, c)
		}
	}
}

// No way to show a configuration shows its secrets.
func TestSecrets(t *testing.T) {
	for kind, block := range blocks {
		c, err := ParseRequest([]byte(withBlock(string(kind), block)))
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "c", c, "r", c.Redshift, "e", c.Endpoint, "s", c.Splunk)
		shown := fmt.Sprintf("%v %+v %#v %s %v %+v %+v %+v", c, *c, *c, log.String(), c.Kept, c.Redshift, c.Endpoint,
			c.Splunk)
		if i := strings.Index(shown, "hidden-"); i >= 0 {
			t.Errorf("%s: %.40s", kind, shown[i:])
		}
		// Nor does the error of a document that is wrong elsewhere, or there.
		for _, doc := range []string{strings.Replace(block, "{", `{"Unknown":1,`, 1),
			strings.NewReplacer(`"hidden-pw"`, `["hidden-pw"]`, `"hidden-key"`, `{"a":"hidden-key"}`, `"hidden-token"`,
				`["hidden-token"]`).Replace(block)} {
			_, err := ParseRequest([]byte(withBlock(string(kind), doc)))
			if err != nil && strings.Contains(err.Error(), "hidden-") {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
}

// TestRefused changes one thing of a good document at a time.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		kind         Kind
		change, with string
		want         string // in the error
	}{
		{ExtendedS3, `"SizeInMBs":64`, `"SizeInMBs":63`, "SizeInMBs: 63, want 64 to 128"},
		{ExtendedS3, "k=!{partitionKeyFromQuery:k}/", "k/", "Prefix: want the partition keys"},
		{ExtendedS3, "{k:.k}", "{k:.k,l:.l}", `"l" is not there`},
		{ExtendedS3, "{k:.k}", "{l:.l}", `"l" is not there`},
		{ExtendedS3, "{k:.k}", "range(9)", "MetadataExtractionQuery"},
		{ExtendedS3, "FromQuery", "FromLambda", "is not there"},
		{ExtendedS3, `"ErrorOutputPrefix":"bad/!{firehose:error-output-type}/",`, "", "ErrorOutputPrefix: missing"},
		{ExtendedS3, `"S3BackupConfiguration":{`, `"S3BackupConfiguration":{"X":1,`, "S3BackupConfiguration.X: unknown member"},
		{ExtendedS3, "syslog-to-json", "syslog-to-xml", "no blueprint"},
		{ExtendedS3, "tidemill:blueprint:syslog-to-json", "f", "LambdaArn"},
		{ExtendedS3, `"0.5"`, `"0.1"`, "BufferSizeInMBs"},
		{ExtendedS3, `"0.5"`, `"NaN"`, "BufferSizeInMBs"},
		{ExtendedS3, "IyM=", "#", "Delimiter"},
		{ExtendedS3, ".json", ".JSON", "FileExtension"},
		{ExtendedS3, "JQ-1.6", "JQ-2", "JsonParsingEngine"},
		{ExtendedS3, "Decompression", "Unzip", "Unzip"},
		{PlainS3, `"ZIP"`, `"ZIP","FileExtension":".x"`, "S3DestinationConfiguration: a member is unknown"},
		{PlainS3, `"ZIP"`, `"ZIP","Prefix":"!{timestamp:yyyy}"`, "ErrorOutputPrefix: missing"},
		{ToRedshift, "jdbc:redshift://", "https://", "ClusterJDBCURL"},
		{ToRedshift, ":5439", "", "ClusterJDBCURL"},
		{ToRedshift, "ssl=true", "Password=hidden-pw", "ClusterJDBCURL"},
		{ToRedshift, "hidden-pw", "short", "Password: 5 characters"},
		{ToRedshift, `"DurationInSeconds":0`, `"DurationInSeconds":7201`, "RetryOptions.DurationInSeconds"},
		{ToRedshift, `"RoleARN":"r","BucketARN"`, `"Prefix":"!{timestamp:yyyy}/","BucketARN"`, "no expressions"},
		{ToRedshift, `"RoleARN":"r","BucketARN"`, `"ErrorOutputPrefix":"x/","BucketARN"`, "none for Redshift"},
		{ToRedshift, `"RoleARN":"r","BucketARN"`, `"CompressionFormat":"Snappy","BucketARN"`, "UNCOMPRESSED or GZIP"},
		{ToRedshift, `"Disabled"`, `"Enabled"`, "S3BackupConfiguration: missing"},
		{Elasticsearch, `"IndexName":"i"`, `"IndexName":"I"`, "IndexName"},
		{Elasticsearch, "OneWeek", "OneYear", "IndexRotationPeriod"},
		{Elasticsearch, `"ClusterEndpoint":"http://es:9200",`, `"DomainARN":"arn:aws:es:x",`, "ClusterEndpoint: missing"},
		{Elasticsearch, `,
	  "S3Configuration":` + bucketBlock, "", "S3Configuration: missing"},
		{ToEndpoint, "127.0.0.1", "example.org", "want https"},
		{ToEndpoint, "AllData", "AllEvents", "S3BackupMode"},
		{ToEndpoint, `"SizeInMBs":64`, `"SizeInMBs":65`, "SizeInMBs"},
		{ToSplunk, `"Raw"`, `"Cooked"`, "HECEndpointType"},
		{ToSplunk, "600", "601", "HECAcknowledgmentTimeoutInSeconds"},
		{ToSplunk, `"HECToken":"hidden-token",`, "", "HECToken"},
	} {
		doc := strings.Replace(blocks[c.kind], c.change, c.with, 1)
		if doc == blocks[c.kind] {
			t.Errorf("%s has no %q", c.kind, c.change)
		}
		_, err := ParseRequest([]byte(withBlock(string(c.kind), doc)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %q: %v, want %q", c.kind, c.with, err, c.want)
		}
	}
	for _, name := range []string{"AmazonOpenSearchServerlessDestinationConfiguration",
		"SnowflakeDestinationConfiguration", "IcebergDestinationConfiguration", "MSKSourceConfiguration",
		"DatabaseSourceConfiguration", "Tidemill"} {
		_, err := ParseRequest([]byte(strings.Replace(exported, `"Tags"`, `"`+name+`":{},"Tags"`, 1)))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bridge's own members are for files.
func TestHouse(t *testing.T) {
	doc := strings.Replace(withBlock(string(OpenSearch), blocks[OpenSearch]), `{`, `{"Tidemill":{
	  "S3":{"Region":"eu-west-1"},"Search":{"Username":"u","Password":"hidden-pw","FailedType":"os-failed"}},`, 1)
	c, err := Parse([]byte(doc))
	if err != nil || c.Objects.Region != "eu-west-1" || c.Search.Username != "u" || c.Search.FailedType != "os-failed" {
		t.Fatalf("%+v, %v", c, err)
	}
	for change, with := range map[string]string{`"u"`: `""`, `"hidden-pw"`: `""`, "os-failed": "../x", "https://": "http://",
		`"S3":{"Region":"eu-west-1"}`: `"S3":{}`, `"S3"`: `"Kinesis"`} {
		if _, err := Parse([]byte(strings.Replace(doc, change, with, 1))); err == nil ||
			strings.Contains(err.Error(), "hidden-pw") {
			t.Errorf("%q for %q: %v", with, change, err)
		}
	}
}
