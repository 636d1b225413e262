package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
)

// TestRolesByAWS has users of each role made by commands, and their keys used by AWS's
// command line and SDK for Go, as the files that access-key create writes have them.
func TestRolesByAWS(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, streamsConfig, nil)
	own := &awsShell{f: f, service: "iot"}
	own.says("", "create-thing", "--thing-name", "pump-1")
	own.says("", "create-thing-group", "--thing-group-name", "pumps")
	_ = newStream(t, f.ctx, f.aws().client(t, "h2"), "readings", 1)
	files := map[string]string{}
	for _, role := range []string{"admin", "operator", "viewer", "device-data"} {
		files[role] = filepath.Join(f.dir, role+".ini")
		f.command("user", "create", "a-"+role, "-role", role)
		f.command("access-key", "create", "a-"+role, "-o", files[role])
		if info, err := os.Stat(files[role]); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	for _, c := range []struct {
		roles string
		args  []string
	}{
		{"admin operator viewer", []string{"list-things"}},
		{"admin operator", []string{"update-thing", "--thing-name", "pump-1", "--attribute-payload",
			`{"attributes":{"a":"b"}}`}},
		{"admin operator", []string{"add-thing-to-thing-group", "--thing-name", "pump-1", "--thing-group-name", "pumps"}},
		{"admin", []string{"create-policy", "--policy-name", "all", "--policy-document", document}},
	} {
		for role, file := range files {
			shell := &awsShell{f: f, service: "iot", env: []string{"AWS_SHARED_CREDENTIALS_FILE=" + file}}
			if strings.Contains(c.roles, role) {
				shell.says("", c.args...)
			} else {
				shell.fails("AccessDeniedException", c.args...)
			}
		}
	}
	for role, file := range files {
		access := f.aws()
		access.keysFile = file
		s := &stream{t: t, ctx: f.ctx, c: access.client(t, "http/1.1"), name: "readings"}
		name, key, shards := "of-"+role, "k", int32(1)
		_, put := s.c.PutRecord(s.ctx, &kinesis.PutRecordInput{StreamName: &s.name, PartitionKey: &key, Data: []byte("x")})
		_, list := s.c.ListStreams(s.ctx, &kinesis.ListStreamsInput{})
		_, create := s.c.CreateStream(s.ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards})
		for what, c := range map[string]struct {
			err   error
			roles string
		}{
			"PutRecord":    {put, "admin operator device-data"},
			"ListStreams":  {list, "admin operator viewer device-data"},
			"CreateStream": {create, "admin operator"},
		} {
			var said smithy.APIError
			denied := errors.As(c.err, &said) && said.ErrorCode() == "AccessDeniedException"
			if may := strings.Contains(c.roles, role); may != (c.err == nil) || may == denied {
				t.Errorf("%s: %s: %v", role, what, c.err)
			}
		}
	}
	listed := f.command("access-key", "list", "a-viewer")
	if !strings.Contains(listed, "kinesis") || !strings.Contains(listed, "ACTIVE") {
		t.Errorf("no last use:\n%s", listed)
	}
	f.command("user", "revoke", "a-viewer")
	gone := &awsShell{f: f, service: "iot", env: []string{"AWS_SHARED_CREDENTIALS_FILE=" + files["viewer"]}}
	gone.fails("UnrecognizedClientException", "list-things")
	f.must(f.bridge.Stop(patience))
	if text := f.command("user", "list"); !strings.Contains(text, "a-operator") || strings.Contains(text, "a-viewer") {
		t.Errorf("without a bridge:\n%s", text)
	}
}
