package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// The clients of the tests of the protocol, with their versions.
const (
	pahoPython = "paho-mqtt==2.1.0"
	mqttJS     = "mqtt@5.16.0"
)

// The statements of both versions of MQTT that py/mqtt_paho.py and
// js/mqtt_js.mjs say that they have seen, and those of version 5.
var (
	mqttStatements = []string{"qos 0, 1 and 2", "retained messages", "will", "durable session",
		"overlapping subscriptions", "shared subscription"}
	mqtt5Only = []string{"message expiry", "user properties", "topic alias", "request and response",
		"subscription options"}
)

// TestPahoPython has Eclipse Paho's client for Python look at the bridge.
func TestPahoPython(t *testing.T) {
	statements(t, filepath.Join(counterpart.Python(t, pahoPython), "python"), "py/mqtt_paho.py")
}

// TestMQTTjs has MQTT.js look at it.
func TestMQTTjs(t *testing.T) {
	dir := nodeScripts(t, counterpart.Node(t, mqttJS), "mqtt_js.mjs")
	statements(t, "node", filepath.Join(dir, "mqtt_js.mjs"))
}

// statements runs a script for both versions in profile mqtt, and for what only
// the profile aws does.
func statements(t *testing.T, program, script string) {
	f := sharedBridge(t, "")
	op := f.newOperator()
	for _, version := range []string{"3.1.1", "5"} {
		want := mqttStatements
		if version == "5" {
			want = append(append([]string(nil), want...), mqtt5Only...)
		}
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f.seen(t, op, want, program, script, version)
		})
	}
	aws := sharedBridge(t, "[mqtt]\nprofile = \"aws\"\n")
	awsOp := aws.newOperator()
	t.Run("5, profile aws", func(t *testing.T) {
		t.Parallel()
		aws.seen(t, awsOp, []string{"server keep alive"}, program, script, "5", "keep-alive")
	})
}

// seen runs a script, which says "ok" and what it has seen.
func (f *fleet) seen(t *testing.T, op identity, want []string, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	_, port, _ := net.SplitHostPort(f.bridge.MQTT)
	cmd.Env = append(os.Environ(), "IOT_MQTT_PORT="+port, "AWS_CA_BUNDLE="+filepath.Join(op.dir, "ca.pem"),
		"IOT_CERT="+filepath.Join(op.dir, "cert.pem"), "IOT_KEY="+filepath.Join(op.dir, "key.pem"),
		"PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%s: %v", filepath.Base(args[0]), err)
	}
	for _, what := range want {
		if !strings.Contains(string(out), "ok "+what+"\n") {
			t.Errorf("not seen: %s", what)
		}
	}
}

// TestMosquittoStatements has Debian's mosquitto clients look at it.
func TestMosquittoStatements(t *testing.T) {
	need(t, "mosquitto_rr", "mosquitto-clients")
	f := sharedBridge(t, "")
	op := f.newOperator()
	for _, v := range []string{"mqttv311", "mqttv5"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
			defer cancel()
			five := v == "mqttv5"
			command := func(program, id string, args ...string) *exec.Cmd {
				return f.mosquitto(ctx, program, identity{v + "-" + id, op.dir}, append([]string{"-V", v}, args...)...)
			}
			// run is for what ends by itself.
			run := func(program, id string, args ...string) string {
				t.Helper()
				out, err := command(program, id, args...).Output()
				if err != nil {
					t.Fatalf("%s %q: %v\n%s", program, args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			want := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: got %q, want %q", what, got, want)
				}
			}
			sub := func(id string, args ...string) (*exec.Cmd, <-chan string) {
				t.Helper()
				cmd := command("mosquitto_sub", id, append(args, "-d")...)
				lines := follow(t, cmd)
				await(t, lines, "received SUBACK")
				return cmd, lines
			}
			in := func(name string) string { return "mosq/" + v + "/" + name }

			_, all := sub("all", "-t", in("qos/#"), "-t", in("will"), "-t", in("ask"), "-q", "2", "-F",
				"got %t %q %r %p")
			for _, qos := range []string{"0", "1", "2"} {
				run("mosquitto_pub", "pub", "-t", in("qos/"+qos), "-q", qos, "-m", "x"+qos)
				await(t, all, "got "+in("qos/"+qos)+" "+qos+" 0 x"+qos)
			}

			run("mosquitto_pub", "pub", "-t", in("kept"), "-q", "1", "-r", "-m", "kept")
			want("retained", run("mosquitto_sub", "s", "-t", in("+"), "-q", "1", "-C", "1", "-F", "%t %r %p"),
				in("kept")+" 1 kept")
			run("mosquitto_pub", "pub", "-t", in("kept"), "-q", "1", "-r", "-n")
			if out, err := command("mosquitto_sub", "s", "-t", in("+"), "-C", "1", "-W", "1").Output(); err == nil {
				t.Errorf("cleared, and still retained: %s", out)
			}

			dying, _ := sub("dying", "-t", in("none"), "--will-topic", in("will"), "--will-payload", "gone",
				"--will-qos", "1")
			if err := dying.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = dying.Wait() // it was killed
			await(t, all, "got "+in("will")+" 1 0 gone")

			durable := []string{"-c", "-q", "1", "-t", in("durable")}
			if five {
				durable = append(durable, "-x", "300")
			}
			run("mosquitto_sub", "durable", append(durable, "-E")...)
			run("mosquitto_pub", "pub", "-t", in("durable"), "-q", "1", "-m", "missed 1")
			run("mosquitto_pub", "pub", "-t", in("durable"), "-q", "1", "-m", "missed 2")
			want("durable session", run("mosquitto_sub", "durable", append(durable, "-C", "2")...),
				"missed 1\nmissed 2")

			if !five {
				return
			}
			_, props := sub("props", "-t", in("props"), "-q", "1", "-F", "got %P|%C|%R|%D|%F|%p")
			run("mosquitto_pub", "pub", "-t", in("props"), "-q", "1", "-m", "p", "-D", "publish", "user-property", "k",
				"v", "-D", "publish", "content-type", "text/plain",
				"-D", "publish", "response-topic", "r", "-D", "publish", "correlation-data", "c", "-D", "publish",
				"payload-format-indicator", "1",
				"-D", "publish", "topic-alias", "1", "-D", "publish", "message-expiry-interval", "60")
			await(t, props, "got k:v|text/plain|r|c|1|p")

			asking := command("mosquitto_rr", "rr", "-t", in("ask"), "-e", in("answer"), "-q", "1", "-m", "?")
			answers := follow(t, asking)
			await(t, all, "got "+in("ask")+" 1 0 ?")
			run("mosquitto_pub", "pub", "-t", in("answer"), "-q", "1", "-m", "!")
			await(t, answers, "!")
		})
	}
}
