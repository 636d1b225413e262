package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check reads all and says what is damaged; salvage makes a directory that a
// bridge starts with of the rest.
func TestCheckAndSalvage(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := openData(t, data)
	step{"check -data " + data, 1, "", "stop the bridge first"}.run(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	step{"stream create s -data " + data, 0, "", ""}.run(t)
	step{"check -data " + data, 0, "sound: ", ""}.run(t)
	step{"check -data " + filepath.Dir(data), 1, "", "is no bridge's data directory"}.run(t)

	object := filepath.Join(data, "objects", "lake", "1.gz")
	if err := os.Mkdir(filepath.Dir(object), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(object, []byte("no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(data, "shadow.db"), 5000); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{object, filepath.Join(data, "shadow.db")} {
		step{"check -data " + data, 1, "LOST " + lost, "2 pieces of"}.run(t)
	}
	state := filepath.Join(data, "broker.json")
	if err := os.WriteFile(state, []byte(`{"id":"tidemill-press"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	besides := map[string]string{"secrets/api": "hush", "lambda/functions/f.json": "{}", "lambda/code/0.zip": "zip",
		"bridge.d/rules/r.json": "{}", "s3_failed/objects/archive/1-0": "kept"}
	for name, text := range besides {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(data, name)), 0o700),
			os.WriteFile(filepath.Join(data, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "new")
	// two of shadow.db, which ends early
	step{"salvage -data " + data + " " + to, 1, "LOST " + object, "3 pieces of"}.run(t)
	if text, err := os.ReadFile(filepath.Join(to, "broker.json")); err != nil ||
		string(text) != `{"id":"tidemill-press"}` {
		t.Errorf("the client id at the broker: %q, %v", text, err)
	}
	for name, text := range besides {
		got, err := os.ReadFile(filepath.Join(to, name))
		info, failed := os.Stat(filepath.Join(to, filepath.Dir(name)))
		if err != nil || string(got) != text || failed != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %q, %v, %v %v", name, got, err, info, failed)
		}
	}
	// The copy does without what was reported, and without nothing else.
	log := filepath.Join(to, "log")
	if err := os.Rename(log, log+".away"); err != nil {
		t.Fatal(err)
	}
	step{"stream list -data " + to, 1, "", log + " is missing"}.run(t)
	if err := os.Rename(log+".away", log); err != nil {
		t.Fatal(err)
	}
	step{"salvage -data " + data + " " + to, 1, "", to + " is there already: name one that is not"}.run(t)
	step{"salvage -data " + data + " " + to + "/a/b", 1, "", to + "/a, in which b is to be, is not there"}.run(t)
	out, errs, err := runText(t, "stream", "list", "-data", to)
	if err != nil || !strings.Contains(out, "s ") || !strings.Contains(errs, "shadow.db") {
		t.Errorf("%v\n%s\n%s", err, out, errs)
	}
	step{"check -data " + to, 0, "sound: ", ""}.run(t)

	for _, lose := range []func() error{
		func() error { return os.WriteFile(filepath.Join(to, "broker.json"), []byte(`{"id":"tide`), 0o600) },
		func() error { return os.Remove(filepath.Join(to, "broker.json")) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		step{"check -data " + to, 1, "LOST " + filepath.Join(to, "broker.json"), "1 pieces of"}.run(t)
	}
}
