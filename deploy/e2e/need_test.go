package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long a test waits for what comes at once on an idle machine:
// on a busy one it may take long, and on any it ends.
const patience = time.Minute

// need makes sure that a program of a Debian package is there. As root it
// installs what is missing, in three tries; what cannot be had skips the test,
// or fails it in CI (CI=true).
func need(t testing.TB, program, pkg string) {
	t.Helper()
	needThat(t, func() bool { return haveProgram(program) }, program, pkg)
}

// needThat is need for what have looks for.
func needThat(t testing.TB, have func() bool, what, pkg string) {
	t.Helper()
	if have() {
		return
	}
	var out []byte
	if os.Geteuid() == 0 {
		for try := range 3 {
			time.Sleep(time.Duration(try) * 5 * time.Second)
			// Tests of several packages may want it at the same time.
			cmd := exec.Command("flock", filepath.Join(os.TempDir(), "tidemill-apt.lock"), "sh", "-c",
				"apt-get update -qq; apt-get install -y -qq --no-install-recommends "+pkg)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, _ = cmd.CombinedOutput(); have() {
				return
			}
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing and Debian's %s could not be installed:\n%s", what, pkg, out)
	}
	t.Skipf("%s is missing: install Debian's package %s", what, pkg)
}

func haveProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
