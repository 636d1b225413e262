// Package counterpart has the programs of others that tests run against: it
// installs what is missing and starts servers on loopback. Only what comes under
// a permissive licence or with Debian may stand here.
package counterpart

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// Try runs install, if that is not nil, until have finds what it wants, in three
// tries. What cannot be had skips the test, or fails it in CI (CI=true). Short runs
// skip it anyway.
func Try(t testing.TB, what string, have func() bool, install *exec.Cmd) {
	t.Helper()
	if testing.Short() {
		t.Skipf("%s is left out with -short", what)
	}
	var out []byte
	for n := range 3 {
		if have() {
			return
		}
		if install == nil {
			break
		}
		time.Sleep(time.Duration(n) * 5 * time.Second) // a registry may be busy
		out = run(t, install)
	}
	switch {
	case have():
	case os.Getenv("CI") == "true":
		t.Fatalf("%s could not be had:\n%s", what, out)
	default:
		t.Skipf("%s could not be had:\n%s", what, out)
	}
}

// run runs a copy of install for installLimit at most, with all that it starts, and
// returns what it said.
func run(t testing.TB, install *exec.Cmd) (out []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), installLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, install.Path, install.Args[1:]...)
	cmd.Dir, cmd.Env = install.Dir, append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, _ = cmd.CombinedOutput() // have says whether it did
	return out
}

// installLimit is how long one try may take: a minute on an idle machine for the
// largest, ten on a busy one.
const installLimit = 15 * time.Minute

// Program returns the path of a program that a Debian package has: the last that
// one of the patterns finds, or what PATH has under such a name.
func Program(t testing.TB, pkg string, patterns ...string) (path string) {
	t.Helper()
	Debian(t, pkg, func() bool {
		for _, p := range patterns {
			if all, _ := filepath.Glob(p); len(all) > 0 {
				path = all[len(all)-1]
				return true
			}
			if at, err := exec.LookPath(p); err == nil {
				path = at
				return true
			}
		}
		return false
	})
	return path
}

// Debian makes sure that a Debian package is there, whose files have looks for. As
// root it installs it. Tests of several packages may want it at the same time.
func Debian(t testing.TB, pkg string, have func() bool) {
	t.Helper()
	var install *exec.Cmd
	if os.Geteuid() == 0 {
		install = exec.Command("flock", filepath.Join(os.TempDir(), "tidemill-apt.lock"), "sh", "-c",
			"apt-get update -qq; apt-get install -y -qq --no-install-recommends "+pkg)
	}
	Try(t, "Debian's "+pkg, have, install)
}

// Folder makes a folder that stays from run to run, for what is fetched.
func Folder(t testing.TB, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "tidemill-test", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Run runs a server until the test ends. It waits until a line of its output
// matches ready, and returns the first group.
func Run(t testing.TB, cmd *exec.Cmd, ready *regexp.Regexp) (found string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, done := make(chan string, 1), make(chan struct{})
	var tail []byte
	go func() {
		defer close(done)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if tail = append(tail, line...); len(tail) > 8<<10 {
				tail = tail[len(tail)-8<<10:]
			}
			if m := ready.FindStringSubmatch(line); m != nil {
				select {
				case first <- m[1]:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		_ = cmd.Wait()
	})
	select {
	case found = <-first:
	case <-done:
		t.Fatalf("%s ended:\n%s", cmd.Args[0], tail)
	case <-time.After(5 * time.Minute): // OpenSearch takes 20 s, on a busy machine many times as long
		t.Fatalf("%s is not ready after 5 minutes", cmd.Args[0])
	}
	return found
}
