package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// boto3 is the version that PyPI gives; Debian's is older.
const boto3 = "boto3==1.43.11"

// TestBoto3 runs py/kinesis.py with Debian's boto3 and with a current one, and py/sqs.py.
func TestBoto3(t *testing.T) {
	const debian = "/usr/bin/python3"
	has := func(module string) func() bool {
		return func() bool { return exec.Command(debian, "-c", "import "+module).Run() == nil }
	}
	needThat(t, has("boto3"), "boto3", "python3-boto3")
	needThat(t, has("ensurepip"), "python3's ensurepip", "python3-venv")
	venv := t.TempDir()
	install(t, venv, "sh", "-c", `test -x bin/python || `+debian+` -m venv . && bin/pip install -q `+boto3)
	f := newBridge(t, streamsConfig, nil)
	for name, python := range map[string]string{"debian": debian, "pypi": filepath.Join(venv, "bin", "python")} {
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
	need(t, "node", "nodejs")
	need(t, "npm", "npm")
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "kinesis.mjs"} {
		if err := copyFile(filepath.Join("js", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	install(t, dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	f := newBridge(t, streamsConfig, nil)
	for name, url := range map[string]string{"tls": f.aws().url, "plain": f.aws().plainURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.script(t, "node", filepath.Join(dir, "kinesis.mjs"), url, name)
		})
	}
}

// install runs a program that fetches packages into dir, in three tries. What
// cannot be had skips the test, or fails it in CI.
func install(t *testing.T, dir string, program string, args ...string) {
	t.Helper()
	var out []byte
	for try := range 3 {
		time.Sleep(time.Duration(try) * 5 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir = dir
		var err error
		out, err = cmd.CombinedOutput()
		cancel()
		if err == nil {
			return
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s could not install what the test needs:\n%s", program, out)
	}
	t.Skipf("%s could not install what the test needs:\n%s", program, out)
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
