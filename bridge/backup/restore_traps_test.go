package backup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// A restore that gets no place has a folder that tells what it is, so that no bridge
// begins anew beside it, and goes on once there is room.
func TestRestoreGetsNoPlace(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	dir := filepath.Join(t.TempDir(), "new")
	o := b.options(dir)
	o.Progress = func(RestoreProgress) { _ = os.MkdirAll(filepath.Join(dir, "in the way"), 0o700) }
	if _, err := Restore(t.Context(), o); err == nil {
		t.Fatal("restored over what was there")
	}
	b.ok(os.RemoveAll(dir))
	if err := CheckUnfinished(dir); err == nil {
		t.Error("a bridge would begin anew")
	}
	_, err := Restore(t.Context(), b.options(dir))
	b.ok(err)
	b.ok(CheckUnfinished(dir))
	if _, err := os.Stat(filepath.Join(dir, stageFile)); err == nil {
		t.Error("the file of the restore is left")
	}
}

// What somebody else put in the place of the folder of a restore is not written to.
func TestRestoreIntoTraps(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	for name, set := range map[string]func(staging, trap string) error{
		"a link": func(staging, trap string) error { return os.Symlink(trap, staging) },
		"a folder of everybody": func(staging, _ string) error {
			return errors.Join(os.Mkdir(staging, 0), os.Chmod(staging, 0o777))
		},
		"a link in its file": func(staging, trap string) error {
			return link(staging, stageFile, filepath.Join(trap, "x"))
		},
		"a link at the end": func(staging, trap string) error {
			return os.Symlink(trap, strings.TrimSuffix(staging, Staging))
		},
		"a file in place of it":  func(staging, _ string) error { return os.WriteFile(staging, nil, 0o600) },
		"a folder of somebody's": func(staging, trap string) error { return link(staging, "pki", trap) },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir, trap := filepath.Join(top, "new"), filepath.Join(top, "trap")
			b.ok(os.Mkdir(trap, 0o777))
			b.ok(os.WriteFile(filepath.Join(trap, "x"), []byte("mine"), 0o600))
			b.ok(set(dir+Staging, trap))
			if _, err := Restore(t.Context(), b.options(dir)); !errors.Is(err, ErrUnfit) {
				t.Errorf("%v", err)
			}
			has, err := os.ReadDir(trap)
			b.ok(err)
			mine, err := os.ReadFile(filepath.Join(trap, "x"))
			if err != nil || len(has) != 1 || string(mine) != "mine" {
				t.Errorf("%v, %q, %v", has, mine, err)
			}
		})
	}
}

func link(folder, name, to string) error {
	return errors.Join(os.Mkdir(folder, 0o700), os.Symlink(to, filepath.Join(folder, name)))
}

// Who went on from a move's last backup, ran and lost its disk does not go on from it once
// more without a gap: numbers were given since.
func TestMoveIsTakenOnce(t *testing.T) {
	b := newBridge(t)
	b.backup(func(a *About) { a.Final = true })
	dir := filepath.Join(t.TempDir(), "new")
	o := b.options(dir)
	o.Moved = true
	_, err := Restore(t.Context(), o)
	b.ok(err)
	b.ok(os.RemoveAll(dir))
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrClaimed) || !strings.Contains(err.Error(), "restore") {
		t.Errorf("taken twice: %v", err)
	}
	b.ok(os.RemoveAll(dir + Staging))
	o.Moved = false
	_, err = Restore(t.Context(), o)
	b.ok(err)
}

// A run of move take that was stopped after it had said that it goes on, does.
func TestMoveTakeGoesOn(t *testing.T) {
	b := newBridge(t)
	b.backup(func(a *About) { a.Final = true })
	dir := filepath.Join(t.TempDir(), "new")
	o := b.options(dir)
	o.Moved = true
	o.Progress = func(RestoreProgress) { _ = os.MkdirAll(filepath.Join(dir, "in the way"), 0o700) }
	if _, err := Restore(t.Context(), o); err == nil {
		t.Fatal("restored over what was there")
	}
	b.ok(os.RemoveAll(dir))
	o.Progress = nil
	_, err := Restore(t.Context(), o)
	b.ok(err)
}

// A liar's answer to who goes on is not believed.
func TestClaimMoveAtALiar(t *testing.T) {
	target := liar{emptyTarget(t)}
	if err := ClaimMove(t.Context(), target, "20261130T000000Z-00000000", "me"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("%v", err)
	}
	b := newBridge(t)
	if err := ClaimMove(t.Context(), b.target, "20261130T000000Z-00000000", "another"); err != nil {
		t.Fatal(err)
	}
	// As with one that knows no condition of a Put, and does not say so.
	err := ClaimMove(t.Context(), liar{b.target}, "20261130T000000Z-00000000", "me")
	if !errors.Is(err, ErrClaimed) {
		t.Errorf("%v", err)
	}
}
