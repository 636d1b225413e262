package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/deploy/rig"
)

// The deviceConfiguration of a template makes the sensors of a device that is provisioned
// by it, below its own file; a wrong one that comes with the next certificate is refused
// as a whole, and the device goes on without.
func TestDeviceConfiguration(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "", map[string]string{
		"streams/out.json": `{"StreamName": "out"}`,
		"rules/out.json": `{"sql": "SELECT topic(3) AS sensor FROM 'dt/#'", "awsIotSqlVersion": "2016-03-23", ` +
			`"actions": [{"kinesis": {"streamName": "out", "partitionKey": "x"}}]}`,
	})
	newDevice := f.newProvisioning(t)
	shell := &awsShell{f: f, service: "iot"}
	configure := func(agent string) {
		t.Helper()
		body := strings.Replace(provisioningTemplate, `{"site": "north"}`, `{"site": "north", "agent": `+agent+`}`, 1)
		shell.says(`"isDefaultVersion":true`, "create-provisioning-template-version", "--template-name", "fleet",
			"--set-as-default", "--template-body", body)
	}
	configure(`{"spool": {"flush_every": "5m", "max_age": "1h"}, "sensor": [
		{"name": "n", "driver": "count", "every": {"Fn::Join": ["", ["200", "ms"]]}},
		{"name": "climate", "average": 2, "bounds": {"temperature": [-40, 85]}}]}`)
	d := newDevice("c")
	if out, err := d.command(f.ctx, "provision", "-once"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := d.command(f.ctx, "config", "check"); err != nil || !strings.Contains(out,
		"deviceConfiguration applied") ||
		!strings.Contains(out, "2 sensors") {
		t.Errorf("%v: %s", err, out)
	}
	bin, err := buildOnce()
	f.must(err)
	run := &rig.Process{Path: bin.Agent, Args: []string{"run", "-config", d.config},
		LogFile: filepath.Join(f.dir, "press-c.log")}
	f.must(run.Start())
	t.Cleanup(run.Kill)
	status := func() (st device.Status) {
		t.Helper()
		out, err := d.command(f.ctx, "status", "-json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &st)
		}
		if err != nil {
			t.Logf("status: %v: %s", err, out)
		}
		return st
	}
	sent := func(sensor string) int { return f.records("out")[fmt.Sprintf(`{"sensor":%q}`, sensor)] }
	f.must(rig.Until(f.ctx, "readings of the file's sensor and of the template's", func() (bool, error) {
		return sent("climate") > 3 && sent("n") > 3, nil
	}))
	st := status()
	if st.Remote == nil || st.Remote.State != "applied" || len(st.Sensors) != 2 || st.Sensors[0].Name != "climate" ||
		st.Sensors[0].Every != "200ms" || st.Sensors[0].Average != 2 || st.Sensors[1].Every != "200ms" {
		t.Errorf("%+v", st)
	}

	// A wrong one comes with another certificate. The running agent notices by itself.
	configure(`{"uplink": {"endpoint": "elsewhere.example:8883", "keepalive": "1s"}, "sensor": [
		{"name": "n", "driver": "count", "every": "1h"}, {"name": "x", "driver": "command", "every": "1s"}]}`)
	if out, err := d.command(f.ctx, "rotate", "-once"); err != nil || !strings.Contains(out, "is provisioned") {
		t.Fatalf("%v: %s", err, out)
	}
	f.must(rig.Until(f.ctx, "the refusal in the status", func() (bool, error) {
		st = status()
		return st.Remote != nil && st.Remote.State == "refused", nil
	}))
	for _, want := range []string{"uplink.endpoint: not to be set", "uplink.keepalive: 1s, want",
		`sensor[1].driver: "command" runs a program`} {
		if !slices.ContainsFunc(st.Remote.Errors, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%q, want %s", st.Remote.Errors, want)
		}
	}
	n := sent("climate")
	f.must(rig.Until(f.ctx, "readings after it", func() (bool, error) { return sent("climate") > n+3, nil }))
	if st = status(); len(st.Sensors) != 1 {
		t.Errorf("%+v", st.Sensors)
	}
	data, file := &awsShell{f: f, service: "iot-data"}, filepath.Join(f.dir, "shadow")
	f.must(rig.Until(f.ctx, "the refusal in the shadow", func() (bool, error) {
		data.says("", "get-thing-shadow", "--thing-name", "press-c", file)
		text, err := os.ReadFile(file)
		return strings.Contains(string(text), `"device_configuration":{"errors":[`) &&
			strings.Contains(string(text), "uplink.keepalive: 1s"), err
	}))
	f.must(run.Stop(patience))
}
