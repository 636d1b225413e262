package lambda

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// What SDKs send on from a function's environment tells how long the chain of calls is.
func TestDepth(t *testing.T) {
	c := &Call{Function: "f", RequestID: "5d4c2a52-3f9c-4b4e-9c83-3a2f8f5a6a11", Depth: 3}
	if header := trace(c, time.Now()); Depth(header) != 4 {
		t.Error(header)
	}
	for header, want := range map[string]int{
		"": 0, "Root=1-00000000-000000000000000000000000;Sampled=0": 0, "Root=1; Lineage=1:0a:7": 7,
		"Lineage=5": 5, "Lineage=": 0, "Lineage=a:-1": 0, "Lineage=a:x": 0, "Lineage=a:99999999999999999999": 0,
	} {
		if got := Depth(header); got != want {
			t.Errorf("%q: %d, want %d", header, got, want)
		}
	}
}
