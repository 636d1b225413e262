package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// boto3 is the version that PyPI gives; Debian's is older.
const boto3 = "boto3==1.43.11"

// TestBoto3 runs py/kinesis.py with Debian's boto3 and with a current one, and py/sqs.py.
func TestBoto3(t *testing.T) {
	const debian = "/usr/bin/python3"
	counterpart.Debian(t, "python3-boto3", func() bool {
		return exec.Command(debian, "-c", "import boto3").Run() == nil
	})
	pypi := filepath.Join(counterpart.Python(t, boto3), "python")
	f := sharedBridge(t, streamsConfig)
	for name, python := range map[string]string{"debian": debian, "pypi": pypi} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.script(t, python, "py/kinesis.py", name)
			if name == "pypi" { // Debian's speaks the query protocol with SQS, which is not served
				f.script(t, python, "py/sqs.py")
			}
		})
	}
}

// TestJSSDK runs js/kinesis.mjs over HTTP/2 with TLS and without.
func TestJSSDK(t *testing.T) {
	pack, err := os.ReadFile("js/package.json")
	lock, lockErr := os.ReadFile("js/package-lock.json")
	if err := errors.Join(err, lockErr); err != nil {
		t.Fatal(err)
	}
	dir := nodeScripts(t, counterpart.NodeLocked(t, "kinesis", pack, lock), "kinesis.mjs")
	f := sharedBridge(t, streamsConfig)
	for name, url := range map[string]string{"tls": f.aws().url, "plain": f.aws().plainURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.script(t, "node", filepath.Join(dir, "kinesis.mjs"), url, name)
		})
	}
}

// script runs a program against the bridge; it says what it does and fails at
// the first thing that is wrong.
func (f *fleet) script(t *testing.T, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = f.aws().env()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%s: %v", filepath.Base(program), err)
	}
}
