package lambda

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A log stays bounded, and its end is there.
func TestLogs(t *testing.T) {
	dir := t.TempDir()
	l := NewLogs(dir)
	w := l.Open("f")
	line := strings.Repeat("x", 1<<10-1) + "\n"
	for range 10 << 10 { // 10 MiB
		if _, err := w.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte("last\n")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if all, _ := filepath.Glob(filepath.Join(dir, "*")); len(all) != 2 {
		t.Errorf("files %v", all)
	}
	got, err := NewLogs(dir).Tail("f", 3<<20)
	if err != nil || len(got) != 3<<20 || !bytes.HasSuffix(got, []byte("x\nlast\n")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := l.Tail("g", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
