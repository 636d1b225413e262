package counterpart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/deploy/rig"
)

// PostgreSQL runs a server of Debian's until the test ends. It returns the URL of a
// database with user tide, without the password, and a file that has it.
func PostgreSQL(t testing.TB) (url, passwordFile string) {
	t.Helper()
	initdb := Program(t, "postgresql", "/usr/lib/postgresql/*/bin/initdb", "initdb")
	server := filepath.Join(filepath.Dir(initdb), "postgres")
	dir, err := os.MkdirTemp("", "tidemill-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const password = "tide'mill \\ 7\n"
	servers := filepath.Join(dir, "password")
	passwordFile = filepath.Join(t.TempDir(), "password") // ours, who may be another user
	if err := errors.Join(os.WriteFile(servers, []byte(password), 0o600),
		os.WriteFile(passwordFile, []byte(password), 0o600)); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // which the server refuses to be
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2, os.Chown(dir, uid, gid), os.Chown(servers, uid, gid)); err != nil {
			t.Fatal(err)
		}
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data := filepath.Join(dir, "data")
	init := exec.Command(initdb, "-D", data, "-U", "tide", "-A", "scram-sha-256", "--pwfile", servers, "-E", "UTF8",
		"--no-locale", "-N")
	init.Dir, init.SysProcAttr = dir, as
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(server, "-D", data, "-p", addr[strings.LastIndexByte(addr, ':')+1:], "-k", dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
	run.Dir, run.SysProcAttr = dir, as
	Run(t, run, regexp.MustCompile(`database system is (ready) to accept`))
	return fmt.Sprintf("postgres://tide@%s/postgres?sslmode=disable", addr), passwordFile
}
