package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAWSCLIKinesis leads a data stream from its creation to its end by AWS's
// command line. With -v it prints the transcript.
func TestAWSCLIKinesis(t *testing.T) {
	need(t, "aws", "awscli")
	// Shorter than a command takes to start: each finds what the last one asked
	// for, and no waiter sleeps its 10 s.
	f := sharedBridge(t, "[kinesis]\ndelay = \"100ms\"\n")
	shell := &awsShell{f: f, service: "kinesis"}
	// Version 1 takes blobs as they are, version 2 only if it is told to.
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	shell.env = []string{"AWS_CONFIG_FILE=" + options}
	on := func(args ...string) []string { return append(args, "--stream-name", "cli") }
	var out struct {
		StreamDescription       struct{ StreamARN string }
		Shards                  []struct{ ShardId string }
		ShardIterator           string
		SequenceNumber, ShardId string
		Records                 []struct{ Data []byte }
		Consumer                struct{ ConsumerARN string }
	}
	// gets runs a command and decodes what it prints.
	gets := func(want string, args ...string) {
		t.Helper()
		f.must(json.Unmarshal([]byte(shell.says(want, args...)), &out))
	}
	const first, second = "shardId-000000000000", "shardId-000000000001"

	shell.says("", on("create-stream", "--shard-count", "2")...)
	shell.says("", on("wait", "stream-exists")...)
	gets(`"StreamStatus":"ACTIVE"`, on("describe-stream")...)
	shell.says(`"cli"`, "list-streams")
	shell.fails("ResourceInUseException", on("create-stream", "--shard-count", "2")...)

	gets(first, on("put-record", "--partition-key", "k", "--explicit-hash-key", "0", "--data", "one")...)
	one := out.SequenceNumber
	shell.says(`"FailedRecordCount":0`, on("put-records", "--records",
		`[{"Data":"two","PartitionKey":"k","ExplicitHashKey":"0"},{"Data":"three","PartitionKey":"k","ExplicitHashKey":"0"}]`)...)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"one two three", []string{"TRIM_HORIZON"}},
		{"one two three", []string{"AT_SEQUENCE_NUMBER", "--starting-sequence-number", one}},
		{"two three", []string{"AFTER_SEQUENCE_NUMBER", "--starting-sequence-number", one}},
		{"one two three", []string{"AT_TIMESTAMP", "--timestamp", "1700000000"}},
		{"", []string{"LATEST"}},
	} {
		gets("ShardIterator", on(append([]string{"get-shard-iterator", "--shard-id", first, "--shard-iterator-type"},
			c.args...)...)...)
		gets("NextShardIterator", "get-records", "--shard-iterator", out.ShardIterator)
		var words []string
		for _, r := range out.Records {
			words = append(words, string(r.Data))
		}
		if got := strings.Join(words, " "); got != c.want {
			t.Errorf("from %v: %q, want %q", c.args, got, c.want)
		}
	}
	shell.fails("ResourceNotFoundException", "put-record", "--stream-name", "none", "--partition-key", "k", "--data",
		"x")
	shell.fails("InvalidArgumentException", "get-records", "--shard-iterator", "none")

	shell.says("", on("split-shard", "--shard-to-split", first, "--new-starting-hash-key", "1000")...)
	shell.says("", on("merge-shards", "--shard-to-merge", "shardId-000000000003", "--adjacent-shard-to-merge",
		second)...)
	gets("", on("list-shards", "--shard-filter", "Type=AT_LATEST")...)
	if len(out.Shards) != 2 || out.Shards[0].ShardId != "shardId-000000000002" ||
		out.Shards[1].ShardId != "shardId-000000000004" {
		t.Errorf("open shards: %+v", out.Shards)
	}
	shell.says(`"TargetShardCount":3`, on("update-shard-count", "--target-shard-count", "3", "--scaling-type",
		"UNIFORM_SCALING")...)
	shell.says(`"OpenShardCount":3`, on("describe-stream-summary")...)

	shell.says("", on("increase-stream-retention-period", "--retention-period-hours", "48")...)
	shell.says("", on("add-tags-to-stream", "--tags", "team=north")...)
	shell.says(`{"Key":"team","Value":"north"}`, on("list-tags-for-stream")...)
	shell.says(`"RetentionPeriodHours":48`, on("describe-stream-summary")...)

	gets("app", "register-stream-consumer", "--stream-arn", out.StreamDescription.StreamARN, "--consumer-name", "app")
	shell.says(`"ConsumerStatus":"ACTIVE"`, "describe-stream-consumer", "--consumer-arn", out.Consumer.ConsumerARN)
	shell.fails("ResourceInUseException", on("delete-stream")...)
	shell.says("", "deregister-stream-consumer", "--consumer-arn", out.Consumer.ConsumerARN)
	shell.says("", on("delete-stream", "--enforce-consumer-deletion")...)
	shell.says("", on("wait", "stream-not-exists")...)
	shell.fails("ResourceNotFoundException", on("describe-stream")...)
}
