package backup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A restore that ends at its last step, as by a kill, leaves a folder from which the next run
// goes on, and beside which no bridge begins anew.
func TestRestoreEndsBeforeRename(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	o := b.options(filepath.Join(t.TempDir(), "new"))
	in := filepath.Join(o.Dir, "in the way") // of the rename
	o.Progress = func(RestoreProgress) { b.ok(os.MkdirAll(in, 0o700)) }
	if _, err := Restore(t.Context(), o); err == nil || errors.Is(err, ErrUnfit) {
		t.Fatalf("%v, want the error of a rename", err)
	}
	b.ok(os.RemoveAll(o.Dir))
	if err := CheckUnfinished(o.Dir); err == nil {
		t.Error("a bridge may begin anew")
	}
	o.Progress = nil
	if _, err := Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// One that ends after its rename has made a data directory, and another run says so.
func TestRestoreEndsAfterRename(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	o := b.options(filepath.Join(t.TempDir(), "new"))
	if _, err := Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b.ok(os.WriteFile(filepath.Join(o.Dir, stageFile), nil, 0o600))
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "by an earlier run") {
		t.Errorf("another run: %v", err)
	}
}
