package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The directory may be there and empty, as systemd makes it: it is taken the place of, and
// keeps its owner.
func TestRestoreIntoEmptyFolder(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	o := b.options(filepath.Join(t.TempDir(), "new"))
	b.ok(os.Mkdir(o.Dir, 0o755))
	owner := os.Geteuid()
	if owner == 0 {
		owner = 65534
		b.ok(os.Chown(o.Dir, owner, -1))
	}
	_, err := Restore(t.Context(), o)
	b.ok(err)
	for _, name := range []string{"", "identity", "log", "pki/ca.pem"} {
		is, err := os.Stat(filepath.Join(o.Dir, name))
		b.ok(err)
		if is.Sys().(*syscall.Stat_t).Uid != uint32(owner) {
			t.Errorf("%q belongs to %d, want %d", name, is.Sys().(*syscall.Stat_t).Uid, owner)
		}
	}
	for _, gone := range []string{o.Dir + Staging, filepath.Join(o.Dir, stageFile)} {
		if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", gone, err)
		}
	}
	// A kill after the renaming leaves a file, which the next start removes.
	left := filepath.Join(o.Dir, stageFile)
	b.ok(os.WriteFile(left, nil, 0o600))
	b.ok(CheckUnfinished(o.Dir))
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", left, err)
	}
}

// Where the directory cannot be made is told before anything is read.
func TestRestorePlaceIsAskedFirst(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	if mounted("/proc") {
		if _, err := Restore(t.Context(), b.options("/proc")); !errors.Is(err, ErrUnfit) ||
			!strings.Contains(err.Error(), "mount point") {
			t.Errorf("over a mount point: %v", err)
		}
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	top := t.TempDir()
	b.ok(os.Mkdir(filepath.Join(top, "new"), 0o755))
	b.ok(os.Chmod(top, 0o555))
	_, err := Restore(t.Context(), b.options(filepath.Join(top, "new")))
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "run it as root") {
		t.Errorf("beside a folder of root's: %v", err)
	}
}
