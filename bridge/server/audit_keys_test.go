package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// The audit log says which key of a user signed, and does not take the word of one
// that does not hold. Each key with a wrong secret has records and lines of its own.
func TestAuditKeys(t *testing.T) {
	b := start(t, configure(t))
	one := b.user("alice", people.Operator)
	other := b.userKey("alice", "")
	for i, k := range []sigv4test.Key{one, other} {
		if !b.may(k, "iot", "POST", fmt.Sprintf("/things/t%d", i), "") {
			t.Fatal("not let in")
		}
		b.record(t, audit.SourceAWS, "CreateThing", func(r audit.Record) bool {
			return r.Who == "user alice" && r.Key == k.ID && strings.HasSuffix(r.Target, fmt.Sprintf("thing/t%d", i))
		})
	}
	// Asked before the signature is looked at.
	viewer := b.user("vera", people.Viewer)
	viewer.Secret = "guessed"
	if b.may(viewer, "iot", "POST", "/things/x", "") {
		t.Fatal("let in")
	}
	b.record(t, audit.SourceAWS, "CreateThing", func(r audit.Record) bool {
		return r.Who == audit.Claimed(viewer.ID) && r.Key == "" && r.Error != ""
	})

	one.Secret, other.Secret = "guessed", "guessed"
	const tries = 12
	for range tries {
		for _, k := range []sigv4test.Key{one, other, viewer, {ID: "AKIAMADEUPMADEUPMADE", Secret: "x"},
			{ID: "AKIAMADEUPMADEUPMAD2", Secret: "x"}} {
			b.may(k, "iot", "GET", "/things", "")
		}
	}
	b.flushRefusals()
	for _, k := range []sigv4test.Key{one, other, viewer} {
		lines, count := 0, 0
		for line := range strings.Lines(b.log.String()) {
			if strings.Contains(line, `"claimed_key":"`+k.ID) {
				var n int
				_, after, _ := strings.Cut(line, `"count":`)
				_, _ = fmt.Sscan(strings.TrimRight(after, "}\n"), &n)
				lines, count = lines+1, count+n
			}
		}
		if lines != 2 || count != tries {
			t.Errorf("%s: %d lines of %d tries, want 2 of %d", k.ID, lines, count, tries)
		}
		b.record(t, audit.SourceSignIn, "CallAPI", func(r audit.Record) bool { return r.Who == audit.Claimed(k.ID) })
	}
	if n := strings.Count(b.log.String(), "sign with an access key that the bridge has"); n != 2 {
		t.Errorf("%d lines about keys that are made up, want 2", n)
	}
}

// Edits of the folder of keys are in the audit log: those before a reload and those
// while the bridge is down.
func TestAuditPKIFiles(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	if got := b.auditedAs(t, audit.SourcePKI, "Apply"); len(got) != 0 {
		t.Errorf("the first start: %+v", got)
	}
	dir := filepath.Join(cfg.DataDir, "pki")
	keys, err := os.ReadFile(pki.AccessKeysFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	b.changeKeys(string(keys) + mallory)
	r := b.record(t, audit.SourcePKI, "Apply", nil)
	if r.Target != "pki/access-keys" || r.Before == nil || r.After == nil || string(r.Before) == string(r.After) {
		t.Errorf("%+v", r)
	}
	b.must("POST", "/v1/reload", "", nil)
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "note.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.writeGrants(granted + "all = true\n")
	b = start(t, cfg)
	b.record(t, audit.SourcePKI, "Apply", func(r audit.Record) bool {
		return r.Target == "pki/note.txt" && r.Before == nil
	})
	b.record(t, audit.SourcePKI, "Apply", func(r audit.Record) bool { return r.Target == "pki/access.toml" })
	if err := os.Remove(filepath.Join(dir, "note.txt")); err != nil {
		t.Fatal(err)
	}
	b.must("POST", "/v1/reload", "", nil)
	b.record(t, audit.SourcePKI, "Remove", func(r audit.Record) bool { return r.Target == "pki/note.txt" })
	if got := b.auditedAs(t, audit.SourcePKI, "Apply"); len(got) != 3 {
		t.Errorf("%d records: %+v", len(got), got)
	}
}

// An edit that a start saw is in the audit log although that bridge was killed before
// it ran.
func TestAuditPKIFilesKilled(t *testing.T) {
	cfg, after := configure(t), configure(t)
	b := start(t, cfg)
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "pki", "note.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	idle(t, cfg)
	if err := os.CopyFS(after.DataDir, os.DirFS(cfg.DataDir)); err != nil { // as it is now
		t.Fatal(err)
	}
	err := filepath.WalkDir(after.DataDir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(path, 0o700)) // CopyFS makes them for everybody
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, after).record(t, audit.SourcePKI, "Apply", func(r audit.Record) bool { return r.Target == "pki/note.txt" })
}
