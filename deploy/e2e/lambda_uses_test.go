package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	wait "github.com/tidemill/tidemill/deploy/await"
)

// usesApp is a function that a delivery stream has transform records, a custom authorizer
// asks about clients, and a provisioning template about devices, by the events that Lambda
// gets from each (AWS's developer guides).
const usesApp = `
import base64, json

def handler(event, context):
    if "records" in event:
        return {"records": [transform(r) for r in event["records"]]}
    if "protocolData" in event:
        return authorize(event)
    return {"allowProvisioning": event["parameters"]["SerialNumber"] != "stolen"}

def transform(record):
    doc = json.loads(base64.b64decode(record["data"]))
    if doc["c"] is None:
        return {"recordId": record["recordId"], "result": "Dropped", "data": record["data"]}
    doc["f"] = doc["c"] * 9 / 5 + 32
    data = base64.b64encode((json.dumps(doc) + "\n").encode()).decode()
    return {"recordId": record["recordId"], "result": "Ok", "data": data}

def authorize(event):
    return {"isAuthenticated": event.get("token") == "sesame", "principalId": "door",
            "disconnectAfterInSeconds": 300, "refreshAfterInSeconds": 300, "policyDocuments": [
                {"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
                    {"Effect": "Allow", "Action": "iot:Publish",
                     "Resource": "arn:aws:iot:eu-local-1:000000000000:topic/doors/*"}]}]}
`

// One function of Python does the work of all three, each asking it by its ARN.
func TestLambdaUses(t *testing.T) {
	need(t, "aws", "awscli")
	need(t, "python3", "python3")
	f := newBridge(t, "[lambda]\nenabled = true\nunsafe = true\n[kinesis]\ndelay = \"100ms\"\n", nil)
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	shell := func(service string) *awsShell {
		return &awsShell{f: f, service: service, env: []string{"AWS_CONFIG_FILE=" + options}}
	}
	const function = "arn:aws:lambda:eu-local-1:000000000000:function:all"
	shell("lambda").says(`"State":"Active"`, "create-function", "--function-name", "all", "--runtime", "python3.11",
		"--handler", "app.handler", "--role", "arn:aws:iam::000000000000:role/any", "--zip-file",
		"fileb://"+writeZip(t, f.dir, "all", usesApp), "--timeout", "20")
	transformBy(t, f, shell("firehose"), function)
	authorizeBy(t, f, shell("iot"), function)
	provisionBy(t, f, shell("iot"), function)
}

// transformBy has a delivery stream's records transformed: two go on, one is dropped.
func transformBy(t *testing.T, f *fleet, shell *awsShell, function string) {
	shell.says(`deliverystream/degrees"`, "create-delivery-stream", "--delivery-stream-name", "degrees",
		"--extended-s3-destination-configuration", `{"RoleARN":"arn:aws:iam::000000000000:role/x",`+
			`"BucketARN":"arn:aws:s3:::lake","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},`+
			`"CompressionFormat":"GZIP","ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"Lambda",`+
			`"Parameters":[{"ParameterName":"LambdaArn","ParameterValue":"`+function+`"}]}]}}`)
	wait.True(t, "the stream takes records", func() bool {
		out, err := shell.run("put-record-batch", "--delivery-stream-name", "degrees", "--records",
			`[{"Data":"{\"c\":20}"},{"Data":"{\"c\":null}"},{"Data":"{\"c\":100}"}]`)
		return err == nil && strings.Contains(out, `"FailedPutCount":0`)
	})
	const want = "{\"c\": 20, \"f\": 68.0}\n{\"c\": 100, \"f\": 212.0}\n"
	wait.True(t, "the records", func() bool { return strings.Join(delivered(t, f.bridge.Dir), "") == want })
}

// authorizeBy has a client without a certificate publish, by a token and where the function lets it.
func authorizeBy(t *testing.T, f *fleet, shell *awsShell, function string) {
	shell.says(`authorizer/doors"`, "create-authorizer", "--authorizer-name", "doors", "--authorizer-function-arn",
		function, "--token-key-name", "x-token", "--signing-disabled", "--status", "ACTIVE")
	shell.says(`"principalId":"door"`, "test-invoke-authorizer", "--authorizer-name", "doors", "--token", "sesame")
	listener := f.subscriber(f.newOperator(), "listener", "doors/#")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: f.anonymous(), DisableKeepAlives: true}}
	publish := func(topic, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(f.ctx, "POST", "https://"+f.bridge.HTTPS+"/topics/"+topic+"?qos=1",
			strings.NewReader("open"))
		f.must(err)
		r.Header.Set("X-Amz-Customauthorizer-Name", "doors")
		r.Header.Set("X-Token", token)
		answer, err := client.Do(r)
		f.must(err)
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for _, c := range []struct {
		topic, token string
		status       int
	}{{"doors/1", "guess", 403}, {"walls/1", "sesame", 403}, {"doors/2", "sesame", 200}} {
		if got := publish(c.topic, c.token); got != c.status {
			t.Errorf("%s with %s: %d, want %d", c.topic, c.token, got, c.status)
		}
	}
	listener.wants(f, "doors/2 open")
	conf := f.anonymous()
	conf.NextProtos = []string{"mqtt"}
	connect := func(token string) (mqtt.Client, error) {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + f.bridge.MQTT).SetTLSConfig(conf).
			SetClientID("door-3").SetUsername("?x-amz-customauthorizer-name=doors&x-token=" + token))
		told := c.Connect()
		told.Wait()
		return c, told.Error()
	}
	if _, err := connect("guess"); err == nil {
		t.Error("connected by a wrong token")
	}
	c, err := connect("sesame")
	f.must(err)
	defer c.Disconnect(0)
	told := c.Publish("doors/3", 1, false, "ajar")
	told.Wait()
	f.must(told.Error())
	listener.wants(f, "doors/3 ajar")
}

// provisionBy has a template ask whether a device may be provisioned.
func provisionBy(t *testing.T, f *fleet, shell *awsShell, function string) {
	shell.says("", "create-policy", "--policy-name", "own", "--policy-document", ownPolicy)
	shell.says(`"templateName":"line"`, "create-provisioning-template", "--template-name", "line", "--enabled",
		"--provisioning-role-arn", "arn:aws:iam::000000000000:role/any", "--template-body", pressTemplate,
		"--pre-provisioning-hook", "targetArn="+function)
	var claim struct {
		CertificatePem string
		KeyPair        struct{ PrivateKey string }
	}
	f.must(json.Unmarshal([]byte(shell.says("expiration", "create-provisioning-claim", "--template-name", "line")),
		&claim))
	d := f.connect(f.identityOf("claim-installer", claim.CertificatePem, claim.KeyPair.PrivateKey))
	const create, register = "$aws/certificates/create/json", "$aws/provisioning-templates/line/provision/json"
	d.subscribe(create+"/+", register+"/+")
	ask := func(topic, payload, want string) (answer string) {
		t.Helper()
		d.publish(topic, payload)
		d.next(f.ctx, topic, func(m mqtt.Message) bool {
			answer = string(m.Payload())
			return strings.HasPrefix(m.Topic(), topic+"/")
		})
		if !strings.Contains(answer, want) {
			t.Fatalf("%s: %s, want %s", topic, answer, want)
		}
		return answer
	}
	var made struct{ CertificateOwnershipToken string }
	f.must(json.Unmarshal([]byte(ask(create, "", "certificateOwnershipToken")), &made))
	provision := func(serial, want string) {
		t.Helper()
		ask(register, fmt.Sprintf(`{"certificateOwnershipToken":%q,"parameters":{"SerialNumber":%q}}`,
			made.CertificateOwnershipToken, serial), want)
	}
	provision("stolen", `"errorCode":"AccessDenied"`) // first: a token is good for one device
	provision("7", `"thingName":"press-7"`)
}
