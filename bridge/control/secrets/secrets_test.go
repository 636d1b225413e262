package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/hal/secretfile"
)

func open(t *testing.T) *Store {
	return Open(Options{Dir: filepath.Join(t.TempDir(), "secrets"), Account: "000000000000", Region: "eu-local-1"})
}

func put(t *testing.T, s *Store, name, value string) {
	t.Helper()
	if err := s.Put(name, []byte(value), false); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s *Store, id, value string) {
	t.Helper()
	got, err := s.Secret(t.Context(), id, false)
	if string(got) != value || (got == nil) != (value == "") || err != nil {
		t.Errorf("%s: %q, %v; want %q", id, got, err, value)
	}
}

func TestSecret(t *testing.T) {
	s := open(t)
	want(t, s, "none", "")
	put(t, s, "line/1.key", "hunter2")
	if err := s.Put("blob", []byte{0, 0xff}, true); err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:secretsmanager:eu-local-1:000000000000:secret:"
	for id, value := range map[string]string{
		"line/1.key": "hunter2", arn + "line/1.key": "hunter2", arn + "line/1.key-a1B2c3": "hunter2",
		arn + "line/1.key-a1B2c": "", "line/1.key-a1B2c3": "", "line": "", "": "", "blob": "",
		"../secrets/line%2F1.key": "",
		"arn:aws:secretsmanager:eu-local-1:000000000001:secret:line/1.key": "",
		"arn:aws:secretsmanager:us-east-1:000000000000:secret:line/1.key":  "",
	} {
		want(t, s, id, value)
	}
	if got, err := s.Secret(t.Context(), "blob", true); !bytes.Equal(got, []byte{0, 0xff}) || err != nil {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := s.Secret(t.Context(), "line/1.key", true); got != nil || err != nil {
		t.Errorf("%x, %v: a text is no bytes", got, err)
	}
}

// What others write into the folder holds at once, and what others could read does not.
func TestFileChanges(t *testing.T) {
	s := open(t)
	put(t, s, "k", "first")
	want(t, s, "k", "first")
	path := filepath.Join(s.o.Dir, "k")
	if err := os.WriteFile(path, []byte("second\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, s, "k", "second")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Secret(t.Context(), "k", false); got != nil || !errors.Is(err, secretfile.ErrExposed) ||
		strings.Contains(err.Error(), "second") {
		t.Errorf("%q, %v", got, err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 || !strings.Contains(all[0].Error, "chmod 600") {
		t.Errorf("%+v, %v", all, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want(t, s, "k", "")
}

func TestRotation(t *testing.T) {
	s := open(t)
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"", "v", ErrName}, {"a b", "v", ErrName}, {strings.Repeat("/", 67), "v", ErrName}, {"k", "", ErrTooLarge},
		{"k", strings.Repeat("v", MaxValue+1), ErrTooLarge}, {"k", "\xff", ErrText},
	} {
		if err := s.Put(c.name, []byte(c.value), false); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.name, err, c.want)
		}
	}
	put(t, s, "k", "first\n") // the line end is its own
	if err := s.Restore("k"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	put(t, s, "k", "second")
	want(t, s, "k", "second")
	if err := s.Restore("k"); err != nil {
		t.Fatal(err)
	}
	want(t, s, "k", "first\n")
	if err := s.Restore("k"); err != nil {
		t.Fatal(err)
	}
	want(t, s, "k", "second")
	if err := s.Put("k", []byte{1}, true); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	all, err := s.List()
	if err != nil || len(all) != 1 || all[0].Name != "k" || !all[0].Previous || all[0].Error != "" {
		t.Errorf("%+v, %v", all, err)
	}
	if text, err := json.Marshal(all); err != nil || bytes.Contains(text, []byte("second")) {
		t.Errorf("%s, %v", text, err)
	}
	if err := s.Delete("k"); err != nil {
		t.Fatal(err)
	}
	want(t, s, "k", "")
	if err := s.Delete("k"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.o.Dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if a, b := Random(32), Random(32); len(a) != 32 || a == b {
		t.Error(a, b)
	}
}

func TestRedact(t *testing.T) {
	s := open(t)
	put(t, s, "old", "tr0ub4dor & 3")
	put(t, s, "old", `{"user":"me","password":"correct\"horse","port":54321}`)
	put(t, s, "short", "abc")
	var none *Store
	if none.Redact("x") != "x" {
		t.Error("no secrets")
	}
	for text, want := range map[string]string{
		"":                                    "",
		"me and abc":                          "me and abc",
		"it is tr0ub4dor & 3.":                "it is [redacted].",
		"?k=tr0ub4dor+%26+3":                  "?k=[redacted]",
		"a/tr0ub4dor%20&%203":                 "a/[redacted]",
		`said "correct\"horse" at port 54321`: `said "[redacted]" at port [redacted]`,
		"dHIwdWI0ZG9yICYgMw==":                "[redacted]",
		`got {"user":"me","password":"correct\"horse","port":54321}`: "got [redacted]",
	} {
		if got := s.Redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A name is that of one file, and a file that of one name.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "a/b", ".a", "a.bin", "a.previous", "a.new", "a%2Fb", "a%2f", "%2E.bin.previous"} {
		f.Add(name, false)
	}
	f.Fuzz(func(t *testing.T, name string, binary bool) {
		if got, _, _, ok := parseName(name); ok && !validName(got) {
			t.Fatalf("file %q is %q", name, got)
		}
		if !validName(name) {
			return
		}
		file := fileName(name, binary)
		if strings.ContainsRune(file, '/') || strings.HasPrefix(file, ".") || strings.HasSuffix(file, newSuffix) {
			t.Fatalf("%q has the file %q", name, file)
		}
		for _, suffix := range []string{"", previousSuffix} {
			got, b, previous, ok := parseName(file + suffix)
			if !ok || got != name || b != binary || previous != (suffix != "") {
				t.Fatalf("%q: file %q is %q, %v, %v, %v", name, file+suffix, got, b, previous, ok)
			}
		}
	})
}

// No secret of the least length is left in a text, however it is put there.
func FuzzRedact(f *testing.F) {
	f.Add("hunter2", "a ", " b")
	f.Add(`{"k":"hunter2"}`, "", "")
	f.Fuzz(func(t *testing.T, secret, before, after string) {
		var k known
		k.add([]byte(secret))
		for _, v := range parts([]byte(secret)) {
			if len(v) >= minRedacted && strings.Contains(k.replace(before+" "+v+" "+after), v) &&
				!strings.Contains(redacted, v) && !strings.Contains(before+after, v) {
				t.Fatalf("%q is left in %q", v, k.replace(before+v+after))
			}
		}
	})
}
