package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// However often a file goes bad, a bounded number stays, the newest, and each
// time is told.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	other := filepath.Join(dir, "b.db.corrupt-1")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for i := range Keep + 3 {
		if err := os.WriteFile(path, fmt.Append(nil, i), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := SetAside(path, errors.New("torn"), slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("still there: %v", err)
		}
	}
	names, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(names) != Keep {
		t.Fatalf("kept %v, %v", names, err)
	}
	for i, n := range names {
		if got, err := os.ReadFile(n); err != nil || string(got) != fmt.Sprint(3+i) {
			t.Errorf("%s holds %q, %v", n, got, err)
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != Keep+3 || !strings.Contains(log.String(), "torn") {
		t.Errorf("told %d times:\n%s", n, &log)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another file's was taken: %v", err)
	}
	if err := SetAside(path, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("a file that is gone: %v", err)
	}
}
