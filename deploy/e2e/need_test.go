package e2e

import (
	"os/exec"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// patience is how long a test waits for what comes at once on an idle machine:
// on a busy one it may take long, and on any it ends.
const patience = time.Minute

// need makes sure that a program of a Debian package is there. As root it
// installs what is missing, in three tries; what cannot be had skips the test,
// or fails it in CI (CI=true).
func need(t testing.TB, program, pkg string) {
	t.Helper()
	counterpart.Program(t, pkg, program)
}

func haveProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
