package e2e

import (
	"archive/zip"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	wait "github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

// lambdaApp is a function that tells how often its process was called.
const lambdaApp = `
n = 0
def handler(event, context):
    global n
    n += 1
    print("event", event)
    if event.get("fail"):
        raise ValueError("no good")
    return {"n": n, "version": context.function_version, "answer": TEXT, "key": event.get("key")}
`

// lambdaZip writes a package with the app, whose answers say text.
func lambdaZip(t *testing.T, dir, text string) string {
	t.Helper()
	return writeZip(t, dir, text, "TEXT = '"+text+"'\n"+lambdaApp)
}

// writeZip writes a package with a program, app.py.
func writeZip(t *testing.T, dir, name, program string) string {
	t.Helper()
	path := filepath.Join(dir, name+".zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	part, err := w.Create("app.py")
	if err == nil {
		_, err = part.Write([]byte(program))
	}
	if err != nil || w.Close() != nil || f.Close() != nil {
		t.Fatal("the package could not be written", err)
	}
	return path
}

// TestAWSCLILambda makes, calls and changes functions with AWS's command line,
// over a kill -9 of the bridge, and with boto3. With -v it prints the transcript.
func TestAWSCLILambda(t *testing.T) {
	need(t, "aws", "awscli")
	need(t, "python3", "python3")
	f := newBridge(t, "[lambda]\nenabled = true\nunsafe = true\n", nil)
	shell := &awsShell{f: f, service: "lambda"}
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	shell.env = []string{"AWS_CONFIG_FILE=" + options}
	out := filepath.Join(f.dir, "answer")
	on := func(args ...string) []string { return append(args, "--function-name", "meter") }
	// invoke calls the function, which must answer want; log is what is printed.
	invoke := func(want string, args ...string) (log string) {
		t.Helper()
		printed := shell.says("StatusCode", append(on(append([]string{"invoke"}, args...)...), out)...)
		if answer, err := os.ReadFile(out); err != nil || !strings.Contains(string(answer), want) {
			t.Errorf("answer %s, %v, want %s", answer, err, want)
		}
		var doc struct{ LogResult []byte }
		f.must(json.Unmarshal([]byte(printed), &doc))
		return printed + string(doc.LogResult)
	}

	create := append([]string{"create-function", "--runtime", "python3.11", "--handler", "app.handler", "--role",
		"arn:aws:iam::000000000000:role/any", "--zip-file", "fileb://" + lambdaZip(t, f.dir, "one"), "--environment",
		"Variables={KEY=b}", "--timeout", "20"}, on()...)
	shell.says(`"State":"Active"`, create...)
	shell.says("", on("wait", "function-active-v2")...)
	shell.fails("ResourceConflictException", create...)
	invoke(`"n": 1, "version": "$LATEST", "answer": "one", "key": "ü"`, "--payload", `{"key":"ü"}`)
	if log := invoke(`"n": 2`, "--log-type", "Tail"); !strings.Contains(log, "event {}\nEND RequestId: ") ||
		!strings.Contains(log, `"ExecutedVersion":"$LATEST"`) {
		t.Error(log)
	}
	if log := invoke(`"errorType": "ValueError"`, "--payload", `{"fail":1}`); !strings.Contains(log,
		`"FunctionError":"Unhandled"`) {
		t.Error(log)
	}
	shell.says(`"StatusCode":204`, append(on("invoke", "--invocation-type", "DryRun"), out)...)
	shell.fails("InvalidRequestContentException", append(on("invoke", "--payload", "{"), out)...)
	shell.fails("ResourceNotFoundException", "invoke", "--function-name", "none", out)

	shell.says(`"Version":"1"`, on("publish-version")...)
	shell.says(`"FunctionVersion":"1"`, on("create-alias", "--name", "live", "--function-version", "1")...)
	shell.says(`"LastUpdateStatus":"Successful"`, on("update-function-code", "--zip-file",
		"fileb://"+lambdaZip(t, f.dir, "two"))...)
	shell.says("", on("wait", "function-updated")...)
	shell.says(`"MemorySize":192`, on("update-function-configuration", "--memory-size", "192")...)
	invoke(`"answer": "two"`)
	invoke(`"answer": "one"`, "--qualifier", "live")

	t.Log("# an event is called again after a kill -9")
	event := func(payload string) []string {
		return append(on("invoke", "--invocation-type", "Event", "--payload", payload), out)
	}
	shell.says(`"StatusCode":202`, event(`{"key":"late"}`)...)
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	wait.True(t, "the event is called", func() bool {
		text, _ := os.ReadFile(filepath.Join(f.bridge.Dir, "lambda", "logs", "meter.log"))
		return strings.Contains(string(text), "event {'key': 'late'}")
	})
	invoke(`"answer": "two"`)
	invoke(`"answer": "one"`, "--qualifier", "1")

	shell.says(`"ReservedConcurrentExecutions":0`,
		on("put-function-concurrency", "--reserved-concurrent-executions", "0")...)
	shell.env = append(shell.env, "AWS_MAX_ATTEMPTS=1")
	shell.fails("TooManyRequestsException", append(on("invoke"), out)...)
	shell.says("", on("delete-function-concurrency")...)
	shell.says(`"MaximumRetryAttempts":0`, on("put-function-event-invoke-config", "--maximum-retry-attempts", "0",
		"--destination-config", `{"OnFailure":{"Destination":"arn:aws:s3:::failed"}}`)...)
	shell.says(`"StatusCode":202`, event(`{"fail":1}`)...)
	wait.True(t, "the failure's record", func() bool {
		all, _ := filepath.Glob(filepath.Join(f.bridge.Dir, "objects", "failed", "aws/lambda/async/*/*/*/*"))
		return len(all) == 1
	})
	destinations(t, f, shell, event)
	boto3Lambda(t, f, shell)
	shell.says(`"FunctionName":"meter"`, "list-functions")
	shell.says(`"Version":"1"`, on("list-versions-by-function")...)
	shell.says("", on("delete-alias", "--name", "live")...)
	shell.says("", on("delete-function")...)
	shell.fails("ResourceNotFoundException", on("get-function")...)
}

// destinations has what came of two calls, one that goes well and one that fails, in a queue, with a
// kill -9 behind the calls.
func destinations(t *testing.T, f *fleet, shell *awsShell, event func(payload string) []string) {
	t.Helper()
	t.Log("# what came of calls goes to a queue, over a kill -9")
	sqs := &awsShell{f: f, service: "sqs", known: shell.known}
	var queue struct {
		QueueUrl   string
		Attributes struct{ QueueArn string }
	}
	f.must(json.Unmarshal([]byte(sqs.says("QueueUrl", "create-queue", "--queue-name", "results")), &queue))
	f.must(json.Unmarshal([]byte(sqs.says("QueueArn", "get-queue-attributes", "--queue-url", queue.QueueUrl,
		"--attribute-names", "QueueArn")), &queue))
	to := `{"Destination":"` + queue.Attributes.QueueArn + `"}`
	shell.says(`"OnSuccess":`+to, "put-function-event-invoke-config", "--function-name", "meter",
		"--maximum-retry-attempts", "0", "--destination-config", `{"OnSuccess":`+to+`,"OnFailure":`+to+`}`)
	shell.fails("InvalidParameterValueException", "put-function-event-invoke-config", "--function-name", "meter",
		"--destination-config", `{"OnSuccess":{"Destination":"`+queue.Attributes.QueueArn+`-none"}}`)
	shell.says(`"StatusCode":202`, event(`{"key":"well"}`)...)
	shell.says(`"StatusCode":202`, event(`{"fail":1}`)...)
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	conditions := map[string]string{} // by the event; a call may have a second record, from before the kill
	wait.True(t, "both records", func() bool {
		out, err := sqs.run("receive-message", "--queue-url", queue.QueueUrl, "--wait-time-seconds", "1",
			"--max-number-of-messages", "10")
		var got struct{ Messages []struct{ Body string } }
		if err != nil || json.Unmarshal([]byte(out), &got) != nil { // no message is no text
			return len(conditions) == 2
		}
		for _, m := range got.Messages {
			var record struct {
				RequestContext  struct{ Condition string }
				RequestPayload  json.RawMessage
				ResponsePayload map[string]any
			}
			f.must(json.Unmarshal([]byte(m.Body), &record))
			if record.ResponsePayload["key"] != "well" && record.ResponsePayload["errorType"] != "ValueError" {
				t.Errorf("record %s", m.Body)
			}
			conditions[string(record.RequestPayload)] = record.RequestContext.Condition
		}
		return len(conditions) == 2
	})
	if conditions[`{"key":"well"}`] != "Success" || conditions[`{"fail":1}`] != "RetriesExhausted" {
		t.Error(conditions)
	}
}

// boto3Lambda runs py/lambda_boto3.py.
func boto3Lambda(t *testing.T, f *fleet, shell *awsShell) {
	t.Helper()
	cmd := exec.CommandContext(f.ctx, filepath.Join(counterpart.Python(t, boto3), "python"), "py/lambda_boto3.py")
	cmd.Env = append(os.Environ(), "PACKAGE="+lambdaZip(t, f.dir, "three"))
	for name, value := range shell.environment() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Error("boto3:", err)
	}
}

// The bridge's own access key makes functions, and one without rights does not.
func TestLambdaRights(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "[lambda]\nenabled = true\nunsafe = true\n"+
		"[[access]]\nkey = \"AKIAIOSFODNN7EXAMPLE\"\npolicies = [\"p\"]\n", nil)
	keys := filepath.Join(f.bridge.Dir, "pki", "access-keys")
	text, err := os.ReadFile(keys)
	f.must(err)
	secret := base64.StdEncoding.EncodeToString(make([]byte, 30))
	f.must(os.WriteFile(keys, append(text, "\n[device]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"+
		"aws_secret_access_key = "+secret+"\n"...), 0o600))
	_, err = f.bridge.Command(f.ctx, "reload")
	f.must(err)
	shell := &awsShell{f: f, service: "lambda", env: []string{"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
		"AWS_SECRET_ACCESS_KEY=" + secret}}
	shell.fails("AccessDeniedException", "create-function", "--function-name", "f", "--runtime", "python3.11",
		"--handler", "app.handler", "--role", "arn:aws:iam::000000000000:role/any", "--zip-file",
		"fileb://"+lambdaZip(t, f.dir, "one"))
	shell.fails("AccessDeniedException", "list-functions")
}
