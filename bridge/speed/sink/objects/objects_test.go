package objects

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()
	for _, c := range []struct {
		bucket, key string
		err         error
	}{
		{"archive", "2026/01/02/a.json", nil},
		{"archive", "2026/01/02/a.json", nil}, // replaced
		{"archive", "flat", nil},
		{"archive", "flat/below", nil}, // flat is an object
		{"archive", "2026/01", nil},    // a folder of other keys
		{"archive", "../escape", nil},
		{"archive", "/absolute", nil},
		{"archive", "a//b", nil},
		{"archive", "folder/", nil},
		{"archive", ".", nil},
		{"archive", ".tidemill/keys/x", nil},
		{"archive", strings.Repeat("k", 1024), nil},
		{"archive", "", sink.ErrName},        //
		{"archive", "nul\x00", sink.ErrName}, //
		{"archive", "päth/ü:*?.gz", nil},     //
		{"archive", strings.Repeat("k", 1025), sink.ErrName},
		{"../up", "k", sink.ErrName},
		{".tmp", "k", sink.ErrName},
		{"Upper", "k", sink.ErrName},
		{"ab", "k", sink.ErrName},
	} {
		if err := d.Put(ctx, c.bucket, c.key, text("v:"+c.key)); !errors.Is(err, c.err) {
			t.Errorf("Put(%q, %q) = %v, want %v", c.bucket, c.key, err, c.err)
		} else if err == nil {
			if isPath(c.key) && c.key != "2026/01" {
				got, err := os.ReadFile(filepath.Join(dir, c.bucket, c.key))
				if err != nil || string(got) != "v:"+c.key {
					t.Errorf("the file of %s/%s holds %q, %v", c.bucket, c.key, got, err)
				}
			}
			got, _, err := d.Get(ctx, c.bucket, c.key, 2000)
			if err != nil || string(got) != "v:"+c.key {
				t.Errorf("%s/%s holds %q, %v", c.bucket, c.key, got, err)
			}
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, tmp))
	if err != nil || len(left) != 0 {
		t.Errorf("left beside: %v, %v", left, err)
	}
}

func TestGet(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()
	put := func(value string) (tag string) {
		t.Helper()
		if err := d.Put(ctx, "bucket", "a/k", text(value)); err != nil {
			t.Fatal(err)
		}
		got, tag, err := d.Get(ctx, "bucket", "a/k", len(value))
		if err != nil || string(got) != value {
			t.Errorf("got %q, %v, want %q", got, err, value)
		}
		return tag
	}
	first := put("one")
	if other := put("two"); other == first || other == "" {
		t.Errorf("tags %q and %q", first, other)
	}
	if again := put("one"); again != first {
		t.Errorf("tags %q and %q of the same", first, again)
	}
	if got, _, err := d.Get(ctx, "bucket", "a/k", 2); err == nil || got != nil {
		t.Errorf("more than allowed: %q, %v", got, err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "bucket", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "bucket", "out")); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]error{"none": sink.ErrNotFound, "a": sink.ErrNotFound,
		"a/k/below": sink.ErrNotFound,
		"pipe":      sink.ErrNotFound, "../x": sink.ErrNotFound, "out": nil, "": sink.ErrName} {
		if got, _, err := d.Get(ctx, "bucket", key, 10); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %q, %v, want %v", key, got, err, want)
		}
	}
	if _, _, err := d.Get(ctx, ".tmp", "k", 10); !errors.Is(err, sink.ErrName) {
		t.Errorf("no bucket: %v", err)
	}
}

func TestPutFailsWhole(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	broken := errors.New("source broke")
	err = d.Put(t.Context(), "bucket", "k", func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("err = %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bucket", "k")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a half object can be seen: %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Put(done, "bucket", "k", text("x")); !errors.Is(err, context.Canceled) {
		t.Fatalf("after cancel: %v", err)
	}
}

func TestOpenClearsLeftovers(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, tmp), 0o750); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, tmp, "STALE")
	if err := os.WriteFile(stale, []byte("half"), 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, tmp))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("stale file is still there: %v", err)
	}
	// A kill in Open must not leave a directory that looks emptied.
	if after, err := os.Stat(filepath.Join(dir, tmp)); err != nil || !os.SameFile(before, after) {
		t.Fatalf("the folder was made anew: %v", err)
	}
}

// Every folder on the way to an object is on disk when Put returns, also one
// that was there already, since nobody knows whether it was synced.
func TestFoldersAreSynced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "objects")
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.MkdirAll(filepath.Join(dir, "archive/2026"), 0o750); err != nil {
		t.Fatal(err)
	}
	var synced []string
	full := d.sync
	d.sync = func(folder string) error { synced = append(synced, folder); return full(folder) }
	for _, c := range []struct{ key, want string }{
		{"2026/01/a", ". archive archive/2026 archive/2026/01"},
		{"2026/01/b", "archive/2026/01"},
		{"2026/02/c", "archive/2026 archive/2026/02"},
	} {
		synced = nil
		if err := d.Put(t.Context(), "archive", c.key, text("v")); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(synced, " "); got != c.want {
			t.Errorf("%s: synced %q, want %q", c.key, got, c.want)
		}
	}
	// A folder that an operator removed is made and synced anew.
	if err := os.RemoveAll(filepath.Join(dir, "archive")); err != nil {
		t.Fatal(err)
	}
	synced = nil
	if err := d.Put(t.Context(), "archive", "2026/d", text("v")); err != nil ||
		strings.Join(synced, " ") != ". archive archive/2026" {
		t.Errorf("synced %q, %v", synced, err)
	}
}

// A folder that could not be synced fails its Put, and the next.
func TestFolderSyncFails(t *testing.T) {
	d, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	full, fails := d.sync, 2
	d.sync = func(folder string) error {
		if fails--; fails >= 0 {
			return syscall.ENOSPC
		}
		return full(folder)
	}
	for i := range 3 {
		if err := d.Put(t.Context(), "archive", "a/b", text("v")); (err == nil) != (i == 2) {
			t.Errorf("put %d: %v", i, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(d.Path(), tmp)); err != nil || len(left) != 0 {
		t.Errorf("left beside: %v, %v", left, err)
	}
}

// A removal whose folder could not be synced is not reported done by the next Delete,
// which finds nothing, before that is.
func TestDeleteAfterSyncFailed(t *testing.T) {
	for _, key := range []string{"a/b", "a//b", "single"} {
		d, err := Open(t.TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Put(t.Context(), "archive", key, text("v")); err != nil {
			t.Fatal(err)
		}
		full, fails, synced := d.sync, 2, map[string]bool{}
		d.sync = func(folder string) error {
			if fails--; fails >= 0 {
				return syscall.EIO
			}
			synced[folder] = true
			return full(folder)
		}
		for i := range 3 {
			if err := d.Delete("archive", key, Condition{}); (err == nil) != (i == 2) {
				t.Errorf("%q: delete %d: %v", key, i, err)
			}
		}
		in := path.Dir("archive/" + key)
		if !isPath(key) {
			in = path.Dir("archive/" + escaped(key))
		}
		if !synced[in] {
			t.Errorf("%q: %s is not synced, but %v", key, in, synced)
		}
		if _, err := d.Stat("archive", key); !errors.Is(err, sink.ErrNotFound) {
			t.Errorf("%q is there: %v", key, err)
		}
	}
}
