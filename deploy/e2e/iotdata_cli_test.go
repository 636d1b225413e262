package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestAWSCLIData uses AWS IoT's data plane with AWS's command line: what it
// publishes is heard by MQTT, and shadows and retained messages are there after
// a kill. With -v it prints the transcript.
func TestAWSCLIData(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "", nil)
	shell := &awsShell{f: f, service: "iot-data"}
	// Version 1 takes blobs as they are, version 2 only if it is told to.
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	shell.env = []string{"AWS_CONFIG_FILE=" + options}
	operator := f.newOperator()
	heard := f.subscriber(operator, "heard", "plant/#", "$aws/things/+/shadow/update/delta")

	shell.says("", "publish", "--topic", "plant/line 1/ü", "--qos", "1", "--payload", `{"t":21.5}`)
	heard.wants(f, `plant/line 1/ü {"t":21.5}`)
	shell.says("", "publish", "--topic", "plant/set", "--qos", "1", "--retain", "--payload", "42",
		"--content-type", "text/plain", "--response-topic", "plant/answer", "--message-expiry", "3600",
		"--payload-format-indicator", "UTF8_DATA", "--correlation-data",
		base64.StdEncoding.EncodeToString([]byte("c-1")),
		"--user-properties", `[{"unit":"bar"}]`)
	heard.wants(f, "plant/set 42")
	shell.fails("ForbiddenException", "publish", "--topic", "$aws/events/x", "--payload", "x")
	shell.fails("InvalidRequestException", "publish", "--topic", "plant/#", "--payload", "x")

	// Writes a blob to a file.
	blob := func(want string, args ...string) string {
		t.Helper()
		file := filepath.Join(f.dir, "blob")
		shell.says("", append(args, file)...)
		text, err := os.ReadFile(file)
		f.must(err)
		if !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, want %s", args[0], text, want)
		}
		return string(text)
	}
	on := func(args ...string) []string { return append(args, "--thing-name", "press-1") }
	(&awsShell{f: f, service: "iot"}).says("", "create-thing", "--thing-name", "press-1")
	shell.fails("ResourceNotFoundException", append(on("get-thing-shadow"), filepath.Join(f.dir, "blob"))...)
	blob(`"version":1`, on("update-thing-shadow", "--payload", `{"state":{"desired":{"speed":3}}}`)...)
	heard.next(f.ctx, "delta", func(m mqtt.Message) bool { return strings.HasSuffix(m.Topic(), "/delta") })
	blob(`"desired":{"speed":3}`, on("get-thing-shadow")...)
	shell.fails("ConflictException", append(on("update-thing-shadow", "--payload",
		`{"state":{"desired":{"speed":4}},"version":9}`), filepath.Join(f.dir, "blob"))...)
	for i := range 3 {
		blob(`"version":1`, on("update-thing-shadow", "--shadow-name", fmt.Sprint("s", i), "--payload",
			`{"state":{"reported":{"a":1}}}`)...)
	}
	shell.says(`"results":["s0","s1"]`, on("list-named-shadows-for-thing", "--page-size", "2")...)

	t.Log("# kill -9, and start again")
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	shell.says(`"results":["s0","s1","s2"]`, on("list-named-shadows-for-thing")...)
	blob(`"version":1`, on("delete-thing-shadow", "--shadow-name", "s1")...)
	shell.says(`"results":["s0","s2"]`, on("list-named-shadows-for-thing")...)
	blob(`"desired":{"speed":3}`, on("get-thing-shadow")...)

	var kept struct {
		Topic          string
		Payload        []byte
		QoS            int
		UserProperties []byte
	}
	f.must(json.Unmarshal([]byte(shell.says("plant/set", "get-retained-message", "--topic", "plant/set")), &kept))
	if kept.Topic != "plant/set" || string(kept.Payload) != "42" || kept.QoS != 1 ||
		string(kept.UserProperties) != `[{"unit":"bar"}]` {
		t.Errorf("%+v", kept)
	}
	shell.says(`"topic":"plant/set","payloadSize":2,"qos":1`, "list-retained-messages")
	shell.says("", "publish", "--topic", "plant/set", "--retain", "--payload", "")
	shell.fails("ResourceNotFoundException", "get-retained-message", "--topic", "plant/set")

	shell.env = append(shell.env, "AWS_ACCESS_KEY_ID="+shell.keyID(), "AWS_SECRET_ACCESS_KEY=wrong")
	shell.fails("InvalidSignatureException", "list-retained-messages")
}
