package server

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/shadow/format"
)

// setFormats gives registry and log a number, and takes out of the identity what the
// program noted there.
func setFormats(t *testing.T, cfg *config.Config, registry string, log uint32, noted bool) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(cfg.DataDir, "registry.db"), 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte(registry))
		}), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	store, err := pebble.Open(filepath.Join(cfg.DataDir, "log"),
		&pebble.Options{FormatMajorVersion: pebble.FormatNewest})
	if err == nil {
		err = errors.Join(store.Set([]byte{4}, binary.BigEndian.AppendUint32(nil, log), pebble.Sync), store.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	path, is := filepath.Join(cfg.DataDir, "identity"), map[string]any{}
	text, err := os.ReadFile(path)
	if err := errors.Join(err, json.Unmarshal(text, &is)); err != nil {
		t.Fatal(err)
	}
	if is["formats"] == nil || is["version"] != "test" {
		t.Fatalf("identity: %s", text)
	}
	if !noted {
		delete(is, "formats")
		delete(is, "version")
	}
	text, _ = json.Marshal(is)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A new directory has nothing of an earlier version, nor has one whose first start was
// killed while it made its parts.
func TestNewDirectoryRaisesNothing(t *testing.T) {
	b := start(t, configure(t))
	if said := b.log.String(); strings.Contains(said, "newer formats") {
		t.Errorf("a new directory: %s", said)
	}
	dir := t.TempDir()
	d, err := datadir.Open(dir, datadir.Parts(dir, ""), false, slog.New(slog.DiscardHandler))
	if err == nil {
		err = errors.Join(d.Check(), d.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	store, err := pebble.Open(filepath.Join(dir, "log"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest})
	if err == nil {
		err = store.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if raised, _, err := datadir.Migrations(dir); err != nil || len(raised) > 0 {
		t.Errorf("a first start that was killed: %v, %v", raised, err)
	}
}

// What a start raises is told before it, with the way back, and by the start itself,
// once.
func TestFormatsAreRaised(t *testing.T) {
	cfg := used(t, false)
	raised, last, err := datadir.Migrations(cfg.DataDir)
	if err != nil || len(raised) != 0 || last != "test" {
		t.Fatalf("of this version: %v, %q, %v", raised, last, err)
	}
	setFormats(t, cfg, "1", 1, false)
	raised, last, err = datadir.Migrations(cfg.DataDir)
	if err != nil || last != "" {
		t.Fatalf("%q, %v", last, err)
	}
	want := "registry.db from format 1 to 2, log from format 1 to 2"
	if told := datadir.WayBack(raised, last); !strings.Contains(told, want) || !strings.Contains(told, "the way back is") {
		t.Fatalf("%s; want %s", told, want)
	}
	for _, warns := range []bool{true, false} {
		b, err := reopen(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		said := b.log.String()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said, want) != warns || warns && !strings.Contains(said, `"level":"WARN"`) {
			t.Errorf("warns: %v, want %v\n%s", !warns, warns, said)
		}
	}
}

// Data of a newer version are refused with both formats and both versions.
func TestNewerDataNameBothVersions(t *testing.T) {
	for name, numbers := range map[string]struct {
		registry string
		log      uint32
	}{"registry": {"9", 2}, "log": {"2", 9}} {
		t.Run(name, func(t *testing.T) {
			cfg := used(t, false)
			setFormats(t, cfg, numbers.registry, numbers.log, true)
			b, err := reopen(t, cfg)
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, format.ErrNewer) ||
				!strings.Contains(err.Error(), "format 9, this program knows up to 2") ||
				!strings.Contains(err.Error(), "was last used by tidemill-bridge test, and this is test") {
				t.Errorf("%v", err)
			}
		})
	}
}
