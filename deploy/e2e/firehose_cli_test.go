package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	state "github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

// TestAWSCLIFirehose leads a delivery stream from its creation to its end by AWS's
// command line. With -v it prints the transcript.
func TestAWSCLIFirehose(t *testing.T) {
	need(t, "aws", "awscli")
	f := sharedBridge(t, "[kinesis]\ndelay = \"100ms\"\n")
	shell := &awsShell{f: f, service: "firehose"}
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	shell.env = []string{"AWS_CONFIG_FILE=" + options}
	on := func(args ...string) []string { return append(args, "--delivery-stream-name", "cli") }
	destination := `{"RoleARN":"arn:aws:iam::000000000000:role/x","BucketARN":"arn:aws:s3:::lake","Prefix":"in/",` +
		`"BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},"CompressionFormat":"GZIP"}`

	shell.says(`deliverystream/cli"`, on("create-delivery-stream", "--extended-s3-destination-configuration",
		destination,
		"--tags", "Key=team,Value=plant")...)
	shell.fails("ResourceInUseException", on("create-delivery-stream", "--extended-s3-destination-configuration",
		destination)...)
	state.True(t, "ACTIVE", func() bool {
		out, err := shell.run(on("describe-delivery-stream")...)
		return err == nil && strings.Contains(out, `"DeliveryStreamStatus":"ACTIVE"`)
	})
	described := shell.says(`"VersionId":"1"`, on("describe-delivery-stream")...)
	for _, want := range []string{`"CompressionFormat":"GZIP"`, `"S3BackupMode":"Disabled"`, `"DeliveryStreamType":"DirectPut"`,
		`"DestinationId":"destinationId-000000000001"`, `"S3DestinationDescription"`, `"HasMoreDestinations":false`} {
		if !strings.Contains(described, want) {
			t.Errorf("no %s in %s", want, described)
		}
	}
	shell.says(`"cli"`, "list-delivery-streams")
	shell.says(`"Key":"team"`, on("list-tags-for-delivery-stream")...)
	shell.says("", on("untag-delivery-stream", "--tag-keys", "team")...)
	shell.says(`"Tags":[]`, on("list-tags-for-delivery-stream")...)

	shell.says(`"RecordId"`, on("put-record", "--record", `{"Data":"one\n"}`)...)
	shell.says(`"FailedPutCount":0`, on("put-record-batch", "--records", `[{"Data":"two\n"},{"Data":"three\n"}]`)...)
	shell.fails("ResourceNotFoundException", "put-record", "--delivery-stream-name", "none", "--record", `{"Data":"x"}`)
	state.True(t, "objects", func() bool { return strings.Join(delivered(t, f.bridge.Dir), "") == "one\ntwo\nthree\n" })

	shell.fails("ConcurrentModificationException", on("update-destination", "--current-delivery-stream-version-id", "9",
		"--destination-id", "destinationId-000000000001", "--extended-s3-destination-update", `{"Prefix":"other/"}`)...)
	shell.says("", on("update-destination", "--current-delivery-stream-version-id", "1", "--destination-id",
		"destinationId-000000000001", "--extended-s3-destination-update", `{"Prefix":"other/"}`)...)
	shell.says(`"Prefix":"other/"`, on("describe-delivery-stream")...)
	shell.fails("InvalidArgumentException", on("update-destination", "--current-delivery-stream-version-id", "2",
		"--destination-id", "destinationId-000000000001", "--extended-s3-destination-update",
		`{"Prefix":"!{timestamp:yyyy}/"}`)...)
	shell.says("", on("start-delivery-stream-encryption")...)
	shell.says(`"Status":"ENABLED"`, on("describe-delivery-stream")...)
	shell.says("", on("delete-delivery-stream")...)
	state.True(t, "its end", func() bool {
		out, err := shell.run(on("describe-delivery-stream")...)
		return err != nil && strings.Contains(out, "ResourceNotFoundException")
	})
}

// TestAWSCLIConversion makes a delivery stream that converts by a table of bridge.d,
// reads the table as from AWS Glue, and the file of Parquet with DuckDB.
func TestAWSCLIConversion(t *testing.T) {
	need(t, "aws", "awscli")
	python := counterpart.DuckDB(t)
	f := sharedBridge(t, "[kinesis]\ndelay = \"100ms\"\n")
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	shell := &awsShell{f: f, service: "firehose", env: []string{"AWS_CONFIG_FILE=" + options}}
	glue := &awsShell{f: f, service: "glue", env: shell.env}
	create := []string{"create-delivery-stream", "--delivery-stream-name", "rows", "--extended-s3-destination-configuration",
		`{"RoleARN":"arn:aws:iam::000000000000:role/x","BucketARN":"arn:aws:s3:::tables","Prefix":"rows/",` +
			`"BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":0},"DataFormatConversionConfiguration":{"Enabled":true,` +
			`"SchemaConfiguration":{"RoleARN":"arn:aws:iam::000000000000:role/x","DatabaseName":"plant","TableName":"readings",` +
			`"Region":"eu-local-1","VersionId":"LATEST"},"InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},` +
			`"OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}}}`}
	shell.fails("InvalidArgumentException", create...)
	f.must(os.WriteFile(filepath.Join(f.bridge.Dir, "bridge.d", "tables", "readings.json"), []byte(`{"Table":{"DatabaseName":"plant",
	  "Name":"readings","StorageDescriptor":{"Columns":[{"Name":"thing","Type":"string"},{"Name":"at","Type":"timestamp"},
	  {"Name":"samples","Type":"array<struct<c:double,tags:map<string,string>>>"}]}}}`), 0o600))
	state.True(t, "the table", func() bool {
		out, err := glue.run("get-table", "--database-name", "plant", "--name", "readings")
		return err == nil && strings.Contains(out, `"Type":"array<struct<c:double,tags:map<string,string>>>"`)
	})
	glue.says(`"Name":"plant"`, "get-databases")
	glue.fails("EntityNotFoundException", "get-table", "--database-name", "plant", "--name", "none")
	shell.says(`deliverystream/rows"`, create...)
	state.True(t, "ACTIVE", func() bool {
		out, err := shell.run("describe-delivery-stream", "--delivery-stream-name", "rows")
		return err == nil && strings.Contains(out, `"DeliveryStreamStatus":"ACTIVE"`) &&
			strings.Contains(out, `"TableName":"readings"`)
	})
	shell.says(`"RecordId"`, "put-record", "--delivery-stream-name", "rows", "--record",
		`{"Data":"{\"thing\":\"pi\",\"at\":\"2026-03-01T00:00:00Z\",\"samples\":[{\"c\":1.5,\"tags\":{\"k\":\"v\"}}]}"}`)
	var rows string
	state.True(t, "an object", func() bool {
		out, err := exec.Command(python, "-c", `
import duckdb, sys
print(duckdb.sql("select * from read_parquet('%s/objects/tables/rows/**/*.parquet')" % sys.argv[1]).fetchall())`,
			f.bridge.Dir).CombinedOutput()
		rows = string(out)
		return err == nil
	})
	want := "[('pi', datetime.datetime(2026, 3, 1, 0, 0), [{'c': 1.5, 'tags': {'k': 'v'}}])]\n"
	if rows != want {
		t.Errorf("%s, want %s", rows, want)
	}
}

// delivered are the objects of the bucket lake, in the order of their names' ends.
func delivered(t *testing.T, dir string) (texts []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "/lake/") || !strings.HasSuffix(path, ".gz") {
			return nil // a file that is being made may be gone
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil
		}
		text, err := io.ReadAll(z)
		texts = append(texts, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// TestBoto3Firehose runs py/firehose.py.
func TestBoto3Firehose(t *testing.T) {
	python := filepath.Join(counterpart.Python(t, boto3), "python")
	f := sharedBridge(t, streamsConfig)
	f.script(t, python, "py/firehose.py")
}
