package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/tidemill/tidemill/shadow/format"
)

// What ParseAbout accepts has a format that this program knows, and is the same again.
func FuzzParseAbout(f *testing.F) {
	f.Add([]byte(`{"format":1,"directory":"ab","held":"3ms","log":{"commits":1},"keys":{"registry.db":{"things":2}}}`))
	f.Add([]byte(`{"format":2,"directory":"ab"}`))
	f.Add([]byte(`{"held":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAbout(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseAbout(again)
		if err != nil || a.Format != aboutFormat || a.Directory == "" || !reflect.DeepEqual(a.Log, b.Log) {
			t.Fatalf("%s -> %+v -> %+v, %v", text, a, b, err)
		}
	})
}

func TestParseAboutRefuses(t *testing.T) {
	if _, err := ParseAbout([]byte(`{"format":2,"directory":"ab"}`)); !errors.Is(err, format.ErrNewer) {
		t.Errorf("a newer one: %v", err)
	}
	for _, text := range []string{"", "{}", `{"format":1}`, `{"format":-1,"directory":"ab"}`} {
		if a, err := ParseAbout([]byte(text)); err == nil {
			t.Errorf("%q is taken: %+v", text, a)
		}
	}
}

// No attribute is set outside of the folder, whatever a file of them says.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte(`{"name":"objects/b/k","mode":416,"time":1}` + "\n" + `{"name":"objects/","mode":488,"time":2}` + "\n"))
	f.Add([]byte(`{"name":"../x/","mode":511}`))
	f.Add([]byte(`{"name":"/etc/","mode":511}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = ReadAttributes(bytes.NewReader(text), func(a Attributes) error { return a.Set(dir) })
		if all, err := os.ReadDir(top); err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
	})
}

// Files and folders have afterwards what they had.
func TestAttributes(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	at := time.Unix(1_600_000_000, 123_456_789)
	for _, d := range []string{dir, to} {
		if err := errors.Join(os.MkdirAll(filepath.Join(d, "objects/b"), 0o700),
			os.WriteFile(filepath.Join(d, "objects/b/k"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "objects/b/k")
	err := errors.Join(os.Chmod(file, 0o640), os.Chtimes(file, at, at), os.Chmod(filepath.Dir(file), 0o750))
	if err != nil {
		t.Fatal(err)
	}
	var all []Attributes
	for _, name := range []string{"objects/b/", "objects/b/k"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		a, err := attributesOf(name, filepath.Join(dir, name), info)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	var text bytes.Buffer
	if err := writeAttributes(&text, all); err != nil {
		t.Fatal(err)
	}
	if err := ReadAttributes(&text, func(a Attributes) error { return a.Set(to) }); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(to, "objects/b/k"))
	if err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(at) {
		t.Errorf("%v %v, %v", info.Mode(), info.ModTime(), err)
	}
	if info, err := os.Stat(filepath.Join(to, "objects/b")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

func TestTreat(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   Treatment
		listed bool
	}{
		{"pki/", Cut, true}, {"pki/ca-key.pem", Cut, true}, {"pki/ca-key.pem.new", Left, true},
		{"identity.new", Left, true}, {"log/000012.sst", Cut, true}, {"log/LOCK", Left, true},
		{"objects/.tmp/", Left, true}, {"objects/b/.tmp", Live, true}, {"objects/b/x.new", Live, true},
		{"lambda/trees/x/y", Left, true}, {"lambda/code/x.zip", Live, true}, {"backup/cut/", Left, true},
		{"registry.db.before-20261130", Left, true}, {"something", Live, false}, {"logs/", Live, false},
	} {
		if got, listed := Treat(c.name); got != c.want || listed != c.listed {
			t.Errorf("%s: %d, listed %v; want %d, %v", c.name, got, listed, c.want, c.listed)
		}
	}
}
