package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// The SDKs of the tests of devices, with their versions.
var (
	pythonSDKs = []string{"AWSIoTPythonSDK==1.5.4", "awsiotsdk==1.31.0"}
	nodeSDKs   = []string{"aws-iot-device-sdk@2.2.16", "aws-iot-device-sdk-v2@1.28.0"}
)

// sdkChecks are what py/checks.py and js/checks.mjs say that they have seen.
var sdkChecks = []string{"connect", "subscribe", "publish and receive", "will", "durable session"}

// shadowChecks are those of py/shadow_checks.py and js/shadow_checks.mjs;
// those of named shadows have "named " before them.
var shadowChecks = []string{"update", "get", "delta", "version conflict", "offline edits", "delete"}

// namedToo are the shadow checks of SDKs that know named shadows.
func namedToo() []string {
	all := slices.Clone(shadowChecks)
	for _, c := range shadowChecks {
		all = append(all, "named "+c)
	}
	return all
}

// TestPythonSDKs runs AWS's IoT device SDKs for Python, versions 1 and 2.
func TestPythonSDKs(t *testing.T) {
	python := filepath.Join(counterpart.Python(t, pythonSDKs...), "python")
	f := sharedBridge(t, "")
	op := f.newOperator()
	for _, v := range []string{"v1-mtls", "v1-wss"} {
		f.sdk(t, op, v, python, "py/sdk_v1.py", sdkChecks)
	}
	for _, v := range []string{"v2-mqtt3-mtls", "v2-mqtt3-wss", "v2-mqtt5-mtls", "v2-mqtt5-wss"} {
		f.sdk(t, op, v, python, "py/sdk_v2.py", sdkChecks)
	}
	f.sdk(t, op, "shadow-v1", python, "py/shadow_v1.py", shadowChecks)
	for _, v := range []string{"shadow-v2-mqtt3", "shadow-v2-mqtt5"} {
		f.sdk(t, op, v, python, "py/shadow_v2.py", namedToo())
	}
}

// TestNodeSDKs runs those for JavaScript.
func TestNodeSDKs(t *testing.T) {
	dir := nodeScripts(t, counterpart.Node(t, nodeSDKs...), "checks.mjs", "sdk_v1.mjs", "sdk_v2.mjs",
		"shadow_checks.mjs", "shadow_v1.mjs", "shadow_v2.mjs")
	f := sharedBridge(t, "")
	op := f.newOperator()
	for _, v := range []string{"v1-mtls", "v1-wss"} {
		f.sdk(t, op, v, "node", filepath.Join(dir, "sdk_v1.mjs"), sdkChecks)
	}
	for _, v := range []string{"v2-mqtt3-mtls", "v2-mqtt3-wss", "v2-mqtt5-mtls", "v2-mqtt5-wss"} {
		f.sdk(t, op, v, "node", filepath.Join(dir, "sdk_v2.mjs"), sdkChecks)
	}
	// Version 1 sets the version by itself.
	own := slices.DeleteFunc(slices.Clone(shadowChecks), func(c string) bool { return c == "version conflict" })
	f.sdk(t, op, "shadow-v1", "node", filepath.Join(dir, "shadow_v1.mjs"), own)
	for _, v := range []string{"shadow-v2-mqtt3", "shadow-v2-mqtt5"} {
		f.sdk(t, op, v, "node", filepath.Join(dir, "shadow_v2.mjs"), namedToo())
	}
}

// nodeScripts returns a folder with scripts of js/ that import from modules.
func nodeScripts(t *testing.T, modules string, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := os.Symlink(modules, filepath.Join(dir, "node_modules"))
	for _, name := range names {
		err = errors.Join(err, copyFile(filepath.Join("js", name), filepath.Join(dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sdk runs one variant of a script and wants to see all checks passed.
func (f *fleet) sdk(t *testing.T, op identity, variant, program, script string, checks []string) {
	t.Run(variant, func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(f.ctx, 5*patience) // nine at once
		defer cancel()
		cmd := exec.CommandContext(ctx, program, script, variant)
		_, mqttPort, _ := net.SplitHostPort(f.bridge.MQTT)
		_, httpsPort, _ := net.SplitHostPort(f.bridge.HTTPS)
		cmd.Env = append(f.aws().env(), "AWS_PROFILE=default", "IOT_MQTT_PORT="+mqttPort, "IOT_HTTPS_PORT="+httpsPort,
			"IOT_CERT="+filepath.Join(op.dir, "cert.pem"), "IOT_KEY="+filepath.Join(op.dir, "key.pem"),
			"PYTHONDONTWRITEBYTECODE=1")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		t.Logf("%s", out)
		if err != nil {
			t.Errorf("%s %s: %v", filepath.Base(script), variant, err)
		}
		for _, what := range checks {
			if !strings.Contains(string(out), "ok "+what+"\n") {
				t.Errorf("not seen: %s", what)
			}
		}
	})
}
