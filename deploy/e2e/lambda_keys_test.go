package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// Functions that put a record by the SDK alone, without settings of their own.
const (
	pythonPuts = `
import boto3
client = boto3.client("kinesis")
def handler(event, context):
    try:
        out = client.put_record(StreamName=event["stream"], Data=b"by python", PartitionKey="k")
        return out["ShardId"]
    except client.exceptions.ClientError as e:
        return e.response["Error"]["Code"]
`
	nodePuts = `
import { KinesisClient, PutRecordCommand } from '@aws-sdk/client-kinesis';
const client = new KinesisClient();
export const handler = async (event) => {
  try {
    const out = await client.send(new PutRecordCommand({ StreamName: event.stream, Data: Buffer.from('by node'),
      PartitionKey: 'k' }));
    return out.ShardId;
  } catch (e) {
    return e.name;
  }
};
`
)

// TestFunctionKeys has functions in Python and Node.js put records with boto3 and AWS's
// SDK for JavaScript: into the stream that the policy of their role names and no other,
// without keys where the role has no policy, and no more when the policy is gone.
func TestFunctionKeys(t *testing.T) {
	need(t, "aws", "awscli")
	bin := counterpart.Python(t, boto3)
	pack, err := os.ReadFile("js/package.json")
	lock, lockErr := os.ReadFile("js/package-lock.json")
	if err := errors.Join(err, lockErr); err != nil {
		t.Fatal(err)
	}
	modules := counterpart.NodeLocked(t, "kinesis", pack, lock)
	packages, err := filepath.Glob(filepath.Join(filepath.Dir(bin), "lib", "python3*", "site-packages"))
	if err != nil || len(packages) != 1 {
		t.Fatal(packages, err)
	}
	code := t.TempDir()
	const role = "arn:aws:iam::000000000000:role/writer"
	f := newBridge(t, "[lambda]\nenabled = true\nunsafe = true\ndirectories = [\""+code+"\"]\n"+
		"[[access]]\nrole = \""+role+"\"\npolicies = [\"writes\"]\n", map[string]string{
		"streams/out.json":   `{"StreamName":"out","ShardCount":1}`,
		"streams/other.json": `{"StreamName":"other","ShardCount":1}`})
	copied := func(name, from string) string {
		dir := filepath.Join(code, name)
		if out, err := exec.Command("cp", "-rL", from, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return dir
	}
	python, node := copied("python", packages[0]), filepath.Join(code, "node")
	f.must(os.WriteFile(filepath.Join(python, "app.py"), []byte(pythonPuts), 0o644))
	f.must(os.Mkdir(node, 0o755))
	copied("node/node_modules", modules)
	f.must(os.WriteFile(filepath.Join(node, "app.mjs"), []byte(nodePuts), 0o644))
	if out, err := exec.Command("chmod", "-R", "a+rX", code, filepath.Dir(code)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	policy := func(stream string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:PutRecord","Resource":` +
			`"arn:aws:kinesis:eu-local-1:000000000000:stream/` + stream + `"}]}`
	}
	iot := &awsShell{f: f, service: "iot"}
	iot.says("", "create-policy", "--policy-name", "writes", "--policy-document", policy("out"))
	shell := &awsShell{f: f, service: "lambda"}
	for name, runtime := range map[string]string{"python": "python3.11", "node": "nodejs20.x"} {
		shell.says(`"State":"Active"`, "create-function", "--function-name", name, "--runtime", runtime, "--handler",
			"app.handler", "--role", role, "--code", "S3Bucket=hot-reload,S3Key="+filepath.Join(code, name), "--timeout", "60",
			"--memory-size", "512")
	}
	put := func(name, stream, want string) {
		t.Helper()
		answer, err := f.bridge.Command(f.ctx, "function", "invoke", name, `{"stream":"`+stream+`"}`)
		var said string
		if err != nil || json.Unmarshal(answer, &said) != nil || !strings.Contains(said, want) {
			t.Errorf("%s into %s: %s, %v, want %s", name, stream, answer, err, want)
		}
	}
	for _, name := range []string{"python", "node"} {
		put(name, "out", "shardId-000000000000")
		put(name, "other", "AccessDenied")
	}
	got, err := f.bridge.Command(f.ctx, "stream", "tail", "out", "-from", "oldest", "-follow=false")
	f.must(err)
	if text := string(got); strings.Count(text, "by python")+strings.Count(text, "YnkgcHl0aG9u") != 1 ||
		strings.Count(text, "by node")+strings.Count(text, "Ynkgbm9kZQ") != 1 {
		t.Errorf("the stream has %s", got)
	}
	t.Log("# another policy counts for processes that run, and another role for the next call")
	iot.says("", "create-policy-version", "--policy-name", "writes", "--policy-document", policy("other"), "--set-as-default")
	put("python", "out", "AccessDenied")
	put("node", "other", "shardId-000000000000")
	shell.says("", "update-function-configuration", "--function-name", "node", "--role",
		"arn:aws:iam::000000000000:role/none")
	put("node", "other", "Credentials") // there are none
}
