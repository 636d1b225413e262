package parts

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kept puts a part into a store as fetch leaves it.
func kept(t *testing.T, s *Store, p Part, version string) {
	t.Helper()
	dir := filepath.Join(s.Dir, p.Name, version)
	file := filepath.Join(dir, strings.ReplaceAll(p.Has, "*", "x"))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{file: "#!/bin/sh\necho QEMU emulator version 10.0.2\n",
		filepath.Join(dir, versionFile): version + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(version, filepath.Join(s.Dir, p.Name, "current")); err != nil {
		t.Fatal(err)
	}
}

// What is kept is used, and its version told, with no network.
func TestKept(t *testing.T) {
	var log bytes.Buffer
	s := &Store{Dir: t.TempDir(), Log: &log, Mirror: "http://127.0.0.1:1", Pause: time.Millisecond}
	kept(t, s, KernelARM64, "linux-image-6.1.0-57-arm64_6.1.192-3_arm64")
	dir, err := s.Get(t.Context(), KernelARM64, false)
	if err != nil || filepath.Base(dir) != "linux-image-6.1.0-57-arm64_6.1.192-3_arm64" {
		t.Errorf("%s, %v", dir, err)
	}
	if got := log.String(); got != "kernel-arm64     linux-image-6.1.0-57-arm64_6.1.192-3_arm64 (kept)\n" {
		t.Errorf("it said %q", got)
	}
	// Half of a part is none: it is asked for again.
	if err := os.Remove(filepath.Join(dir, "boot", "vmlinuz-x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), KernelARM64, false); err == nil {
		t.Error("a kernel without vmlinuz was taken")
	}
}

// Three tries, an error that says what could not be had and from where, and nothing left.
func TestNoMirror(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("this is no Debian")
	}
	var log bytes.Buffer
	s := &Store{Dir: t.TempDir(), Log: &log, Mirror: "http://127.0.0.1:1", Pause: time.Millisecond}
	_, err := s.Get(t.Context(), KernelARMv6, false)
	if err == nil {
		t.Fatal("a kernel came from nowhere")
	}
	for _, want := range []string{"kernel-armv6 could not be had in 3 tries, of http://127.0.0.1:1", "apt-get update"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	if n := strings.Count(log.String(), "again"); n != 2 {
		t.Errorf("it tried again %d times: %s", n, &log)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "kernel-armv6", "fetch-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, KernelARMv6, false); err == nil {
		t.Error("nobody waited")
	}
}

func TestEmulator(t *testing.T) {
	s := &Store{Dir: t.TempDir(), Log: t.Output(), Mirror: "http://127.0.0.1:1", Pause: time.Millisecond}
	kept(t, s, QEMU, "qemu-system-arm_10")
	t.Setenv("PATH", "/usr/bin:/bin")
	e, err := s.Emulator(t.Context(), "qemu-system-aarch64")
	if err != nil {
		t.Fatal(err)
	}
	if e.Version != "10.0.2" || e.major() != 10 {
		t.Errorf("version %s", e.Version)
	}
	// One in PATH that is old is passed over.
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "qemu-system-aarch64"), []byte("#!/bin/sh\necho QEMU emulator version 7.2.22\n"),
		0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", old+":/usr/bin:/bin")
	if e, err := s.Emulator(t.Context(), "qemu-system-aarch64"); err != nil || e.Version != "10.0.2" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := s.User(t.Context(), "riscv64"); err == nil {
		t.Error("an emulator for riscv64")
	}
}

func TestNames(t *testing.T) {
	for deb, want := range map[string]string{
		"/x/qemu-system-arm_1%3a10.0.2+ds-2_amd64.deb": "qemu-system-arm_1:10.0.2+ds-2_amd64",
		"libaio1_0.3.113-4_amd64.deb":                  "libaio1_0.3.113-4_amd64",
	} {
		if got := packageOf(deb); got != want {
			t.Errorf("%s is %s, want %s", deb, got, want)
		}
	}
	names := []string{"linux-image-6.1.0-57-arm64", "x"}
	if rank("/a/linux-image-6.1.0-57-arm64_6.1_arm64.deb", names) != 0 || rank("x_1.deb", names) != 1 ||
		rank("linux-image-6.1.0-57-arm64-dbg_6.1.deb", names) != 2 {
		t.Error("ranks are wrong")
	}
}
