package gateway

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// installed returns the path of a program, which it installs from Debian's
// package pkg if it may. Where it cannot be had the test is skipped, except in
// CI, where it fails.
func installed(tb testing.TB, program, pkg string) string {
	tb.Helper()
	find := func() (string, error) {
		if path, err := exec.LookPath(program); err == nil {
			return path, nil
		}
		return exec.LookPath("/usr/sbin/" + program)
	}
	path, err := find()
	for try := 0; err != nil && try < 3 && os.Getuid() == 0; try++ {
		time.Sleep(time.Duration(try) * 5 * time.Second)
		// Tests of several packages may want it at the same time.
		cmd := exec.Command("flock", filepath.Join(os.TempDir(), "tidemill-apt.lock"), "sh", "-c",
			"apt-get update -qq; apt-get install -y -qq --no-install-recommends "+pkg)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Logf("apt-get install %s: %v: %.300s", pkg, err, out)
		}
		path, err = find()
	}
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		tb.Fatalf("%s is not installed (Debian package %s)", program, pkg)
	default:
		tb.Skipf("%s is not installed (Debian package %s)", program, pkg)
	}
	return ""
}
