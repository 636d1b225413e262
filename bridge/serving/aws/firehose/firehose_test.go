package firehose

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/firehose/control"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// asker returns a function that asks operations of the service over a log in
// memory, and checks what comes.
func asker(t *testing.T, audit wire.Audit) func(op, body string, status int, want string) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store := pebbletest.Start(t)
	c, err := control.Open(firehose.New(store, firehose.Options{Log: log}), store, control.Options{Account: "000000000000",
		Region: "eu-local-1", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	o := wiretest.Options(Service(c))
	o.Audit = audit
	h := wire.New(o)
	return func(op, body string, status int, want string) string {
		t.Helper()
		a := wiretest.AskTarget(h, "firehose", "Firehose_20150804."+op, body)
		if status != anyStatus && a.Status != status || !strings.Contains(a.Body, want) {
			t.Errorf("%s %.200s: %d %.300s, want %d %s", op, body, a.Status, a.Body, status, want)
		}
		return a.Body
	}
}

const anyStatus = 0

const named = `"DeliveryStreamName":"a"`

// TestEveryOperation leads a delivery stream from its creation to its end.
func TestEveryOperation(t *testing.T) {
	ask := asker(t, nil)
	ask("CreateDeliveryStream", `{`+named+`,"ExtendedS3DestinationConfiguration":{"RoleARN":"r",
	  "BucketARN":"arn:aws:s3:::lake","BufferingHints":{"SizeInMBs":5,"IntervalInSeconds":60}},"Tags":[{"Key":"k","Value":"v"}]}`,
		200, `{"DeliveryStreamARN":"arn:aws:firehose:`)
	ask("CreateDeliveryStream", `{`+named+`,"S3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake"}}`, 400,
		"ResourceInUseException")
	ask("CreateDeliveryStream", `{"DeliveryStreamName":"b"}`, 400, "InvalidArgumentException")
	ask("CreateDeliveryStream", `{"DeliveryStreamName":"b","SnowflakeDestinationConfiguration":{}}`, 400,
		"SnowflakeDestinationConfiguration: is not served")
	ask("CreateDeliveryStream", `{"DeliveryStreamName":"b c"}`, 400, "ValidationException")
	var d struct {
		DeliveryStreamDescription struct {
			CreateTimestamp float64
			Destinations    []map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(ask("DescribeDeliveryStream", `{`+named+`}`, 200, `"ACTIVE"`)), &d); err != nil ||
		d.DeliveryStreamDescription.CreateTimestamp < 1e9 || len(d.DeliveryStreamDescription.Destinations) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	ask("DescribeDeliveryStream", `{`+named+`,"ExclusiveStartDestinationId":"destinationId-000000000001"}`, 200,
		`"Destinations":[]`)
	ask("ListDeliveryStreams", `{}`, 200, `{"DeliveryStreamNames":["a"],"HasMoreDeliveryStreams":false}`)
	ask("PutRecord", `{`+named+`,"Record":{"Data":"AQI="}}`, 200, `"RecordId":"`)
	ask("PutRecord", `{`+named+`,"Record":{"Data":""}}`, 200, `"Encrypted":false`)
	ask("PutRecord", `{`+named+`,"Record":{"Data":"`+base64.StdEncoding.EncodeToString(make([]byte, 1024001))+`"}}`,
		400,
		"ValidationException")
	ask("PutRecordBatch", `{`+named+`,"Records":[{"Data":"AQI="},{"Data":"Aw=="}]}`, 200, `"FailedPutCount":0`)
	ask("PutRecordBatch", `{`+named+`,"Records":[]}`, 400, "ValidationException")
	ask("PutRecordBatch", `{`+named+`,"Records":[`+strings.Repeat(`{"Data":""},`, 500)+`{"Data":""}]}`, 400,
		"ValidationException")
	ask("PutRecord", `{"DeliveryStreamName":"none","Record":{"Data":""}}`, 400, "ResourceNotFoundException")
	ask("TagDeliveryStream", `{`+named+`,"Tags":[{"Key":"l"}]}`, 200, "{}")
	ask("TagDeliveryStream", `{`+named+`,"Tags":[{"Key":"aws:x"}]}`, 400, "InvalidArgumentException")
	ask("ListTagsForDeliveryStream", `{`+named+`,"Limit":1}`, 200, `{"Tags":[{"Key":"k","Value":"v"}],"HasMoreTags":true}`)
	ask("UntagDeliveryStream", `{`+named+`,"TagKeys":["k"]}`, 200, "{}")
	ask("StartDeliveryStreamEncryption", `{`+named+`}`, 200, "{}")
	ask("DescribeDeliveryStream", `{`+named+`}`, 200, `"Status":"ENABLED","KeyType":"AWS_OWNED_CMK"`)
	ask("StopDeliveryStreamEncryption", `{`+named+`}`, 200, "{}")
	ask("UpdateDestination", `{`+named+`,"CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001",
	  "ExtendedS3DestinationUpdate":{"CompressionFormat":"GZIP"}}`, 200, "{}")
	ask("DescribeDeliveryStream", `{`+named+`}`, 200, `"VersionId":"2"`)
	ask("DeleteDeliveryStream", `{`+named+`}`, 200, "{}")
	ask("DescribeDeliveryStream", `{`+named+`}`, 400, "ResourceNotFoundException")
}

// The destination is read as it was written: with backslashes, quotes and line ends.
func TestEscapes(t *testing.T) {
	ask := asker(t, nil)
	const destination = `{"BucketARN":"arn:aws:s3:::lake","Prefix":"a\"b/!{partitionKeyFromQuery:y}/",` +
		`"ErrorOutputPrefix":"e/","BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":60},` +
		`"DynamicPartitioningConfiguration":{"Enabled":true},"ProcessingConfiguration":{"Enabled":true,"Processors":[` +
		`{"Type":"MetadataExtraction","Parameters":[{"ParameterName":"MetadataExtractionQuery",` +
		`"ParameterValue":"{y:.\"a b\"|strftime(\"%Y\")}\n"},{"ParameterName":"JsonParsingEngine","ParameterValue":"JQ-1.6"}]},` +
		`{"Type":"AppendDelimiterToRecord","Parameters":[{"ParameterName":"Delimiter","ParameterValue":"\\n"}]}]}}`
	ask("CreateDeliveryStream", `{`+named+`,"ExtendedS3DestinationConfiguration":`+destination+`}`, 200, "")
	check := func() {
		t.Helper()
		told := ask("DescribeDeliveryStream", `{`+named+`}`, 200, "")
		for _, want := range []string{`"Delimiter","ParameterValue":"\\n"`, `"{y:.\"a b\"|strftime(\"%Y\")}\n"`, `"a\"b/`} {
			if !strings.Contains(told, want) {
				t.Errorf("no %s in %s", want, told)
			}
		}
	}
	check()
	ask("UpdateDestination", `{`+named+`,"CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001",
	  "ExtendedS3DestinationUpdate":`+destination+`}`, 200, "{}")
	check()
}

// What is made is what the caller was asked about.
func TestOneName(t *testing.T) {
	ask := asker(t, nil)
	const destination = `"ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake"`
	ask("CreateDeliveryStream", `{`+named+`,"deliverystreamname":"b",`+destination+`}}`, 400, "unknown member")
	ask("CreateDeliveryStream", `{`+named+`,`+destination+`,"Prefix":"x\"},\"DeliveryStreamName\":\"c\",\"y\":{\""}}`,
		200, `deliverystream/a"`)
}

// An audit that remembers what it was told.
type remembered struct{ all []string }

func (r *remembered) note(c wire.Change, err error) {
	before, _ := json.Marshal(c.Before)
	r.all = append(r.all, fmt.Sprint(c.Action, c.Target, string(c.Asked), string(before), err))
}

// Begin implements wire.Audit.
func (r *remembered) Begin(ctx context.Context, c wire.Change) (context.Context, func(error) error) {
	return ctx, func(err error) error {
		r.note(c, err)
		return err
	}
}

// Refuse implements wire.Audit.
func (r *remembered) Refuse(c wire.Change, _ bool, err error) { r.note(c, err) }

// SignIn implements wire.Audit.
func (r *remembered) SignIn(*http.Request, string, error) {}

// A password, token or access key is told to nobody: not in an answer, nor to the
// audit log, whatever becomes of the request.
func TestSecretsStay(t *testing.T) {
	audit := &remembered{}
	ask := asker(t, audit)
	var said []string
	for kind, block := range map[string]string{
		"Redshift": `"ClusterJDBCURL":"jdbc:redshift://h:5439/d","Username":"u","Password":"hidden-1","CopyCommand":{"DataTableName":"t"}`,
		"HttpEndpoint": `"EndpointConfiguration":{"Url":"https://h/","AccessKey":"hidden-2"},
		  "RequestConfiguration":{"CommonAttributes":[{"AttributeName":"a","AttributeValue":"hidden-3"}]}`,
		"Splunk": `"HECEndpoint":"https://h/","HECEndpointType":"Raw","HECToken":"hidden-4"`,
	} {
		for _, more := range []string{"", `,"Unknown":1`} {
			name := `{"DeliveryStreamName":"` + kind + `"`
			for op, doc := range map[string]string{
				"CreateDeliveryStream": `,"` + kind + `DestinationConfiguration":{` + block + more +
					`,"S3Configuration":{"BucketARN":"arn:aws:s3:::kept"}}}`,
				"DescribeDeliveryStream": "}",
				"UpdateDestination": `,"CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001","` +
					kind + `DestinationUpdate":{` + block + more + `}}`,
				"DeleteDeliveryStream": "}",
			} {
				said = append(said, ask(op, name+doc, anyStatus, ""))
			}
		}
	}
	said = append(said, ask("CreateDeliveryStream", `{"DeliveryStreamName":"r","RedshiftDestinationConfiguration":{
	  "ClusterJDBCURL":"jdbc:redshift://h:5439/e?password=hidden-5"}}`, 400, "ClusterJDBCURL"))
	for i, text := range append(audit.all, said...) {
		at := strings.Index(text, "hidden-")
		if at >= 0 && (i < len(audit.all) || !strings.HasPrefix(text[at:], "hidden-3")) { // AWS tells that one
			t.Errorf("%s", text)
		}
	}
	if len(audit.all) != 19 {
		t.Errorf("%d changes in the audit log", len(audit.all))
	}
	// What was asked for is there but for them, also of a request that is refused.
	kept := strings.Join(audit.all, "\n")
	for _, want := range []string{`"ClusterJDBCURL":"jdbc:redshift://h:5439/d"`, `"Password":"(not kept)"`,
		`"AccessKey":"(not kept)"`, `"CommonAttributes":[{"AttributeName":"a","AttributeValue":"(not kept)"}]`,
		`"HECToken":"(not kept)"`,
		`"CurrentDeliveryStreamVersionId":"1"`, `"Unknown":1`,
		`"ClusterJDBCURL":"jdbc:redshift://h:5439/e"`} {
		if !strings.Contains(kept, want) {
			t.Errorf("the audit log has no %s:\n%s", want, kept)
		}
	}
}
