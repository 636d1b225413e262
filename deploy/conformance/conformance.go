// Package conformance finds the vectors beside it for the tests that read them.
// README.md says what they are.
package conformance

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Path returns the path of a vector file: in the folder $TIDEMILL_VECTORS, else
// in this one. A file that is not there fails the test.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TIDEMILL_VECTORS")
	if dir == "" {
		dir = filepath.Join(root(t), "deploy", "conformance")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("vectors: %v", err)
	}
	return path
}

// Lines returns the lines of a vector file, each one JSON object. Some have 1 MB.
func Lines(t testing.TB, name string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatalf("vectors: %v", err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines[0]) == 0 {
		t.Fatalf("vectors: %s is empty", name)
	}
	return lines
}

// All decodes the lines of a vector file.
func All[T any](t testing.TB, name string) []T {
	t.Helper()
	var all []T
	for i, line := range Lines(t, name) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s, line %d: %v", name, i+1, err)
		}
		all = append(all, v)
	}
	return all
}

// Kind returns the lines of a vector file whose member kind is one of kinds.
func Kind(t testing.TB, name string, kinds ...string) [][]byte {
	t.Helper()
	var of [][]byte
	for i, line := range Lines(t, name) {
		var v struct{ Kind string }
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s, line %d: %v", name, i+1, err)
		}
		for _, k := range kinds {
			if v.Kind == k {
				of = append(of, line)
			}
		}
	}
	if len(of) == 0 {
		t.Fatalf("%s has nothing of kind %v", name, kinds)
	}
	return of
}

// root returns the nearest folder above the test that has a go.mod.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir = up
	}
	t.Fatalf("no go.mod above the test: %v", err)
	return ""
}
