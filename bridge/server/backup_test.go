package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	agekey "filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// backsUp gives a configuration a target and a key, which it returns.
func backsUp(t testing.TB, cfg *config.Config) *agekey.X25519Identity {
	t.Helper()
	key, err := agekey.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Backup.Target, cfg.Backup.Recipients = filepath.Join(t.TempDir(), "to"), []string{key.Recipient().String()}
	return key
}

// backup makes one by the admin socket.
func (b *bridge) backup() *backup.Taken {
	b.t.Helper()
	code, text := b.do("POST", "/v1/backups", `{"verify":true}`)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var last admin.BackupLine
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); code != 200 || err != nil || last.Error != "" ||
		last.Taken == nil {
		b.t.Fatalf("backup: %d %v %s", code, err, text)
	}
	return last.Taken
}

// extract writes the files of a backup into the folder dir, and returns what it says.
func extract(t testing.TB, target, id string, key agekey.Identity, dir string) *backup.About {
	t.Helper()
	v, err := vault.Open(t.Context(), target, vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := vault.OpenReader(t.Context(), v, id, []agekey.Identity{key})
	if err != nil {
		t.Fatal(err)
	}
	about, err := backup.ParseAbout(r.About())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Files() {
		in, err := r.Open(t.Context(), f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == backup.AttributesFile {
			err = backup.ReadAttributes(in, func(a backup.Attributes) error { return a.Set(dir) })
		} else {
			err = writeFile(filepath.Join(dir, f.Name), in, f.Mode)
		}
		if err = errors.Join(err, in.Close()); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return about
}

func writeFile(path string, in io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// full fills a bridge with something of each part.
func (b *bridge) full() {
	b.t.Helper()
	d := b.connect(b.thing("pump", all("", "")), "pump")
	d.publish("a/b", `{"n":1}`)
	d.publish("$aws/things/pump/shadow/update", `{"state":{"reported":{"n":1}}}`)
	b.must("PUT", "/v1/objects?bucket=things&key=a/b", "an object", nil)
	b.eventually("the shadow", func() bool {
		doc, err := b.shadows.Get("pump", "")
		return err == nil && doc != nil
	})
}

// A backup of a bridge that runs is a data directory that check finds sound, with what
// was acknowledged before it, whatever came after; another bridge starts over it.
func TestBackup(t *testing.T) {
	cfg := configure(t)
	key := backsUp(t, cfg)
	b := start(t, cfg)
	b.full()
	before := b.store.Position()
	taken := b.backup()
	if taken.About.Log.Commits < before.Commits || taken.About.Directory != b.dir.ID() || taken.About.Held <= 0 {
		t.Errorf("%+v, want at least %+v", taken.About, before)
	}
	d := b.connect(b.thing("late", all("", "")), "late")
	d.publish("a/b", `{"n":2}`)
	dir := filepath.Join(t.TempDir(), "data")
	about := extract(t, cfg.Backup.Target, taken.ID, key, dir)
	for _, file := range []string{"registry.db", "shadow.db"} {
		counts, err := boltfile.Count(filepath.Join(dir, file))
		if want := fmt.Sprint(about.Keys[file]); err != nil || fmt.Sprint(counts) != want {
			t.Errorf("%s has %v, %v, want %s", file, counts, err, want)
		}
	}
	err := datadir.Check(dir, filepath.Join(dir, "objects"), filepath.Join(dir, "bridge.d"), datadir.Report{
		Part: func(string) {}, Read: func(int) {}, Lost: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	other := *cfg
	other.DataDir, other.Objects.Dir, other.BridgeD.Dir = dir, filepath.Join(dir, "objects"), filepath.Join(dir, "bridge.d")
	other.Secrets.Dir, other.Admin.Socket = filepath.Join(dir, "secrets"), filepath.Join(filepath.Dir(cfg.DataDir), "sock")
	r := start(t, &other)
	if at := r.store.Position(); at.Commits < about.Log.Commits {
		t.Errorf("the log is at %+v, want at least %+v", at, about.Log)
	}
	var things []admin.ThingInfo
	r.must("GET", "/v1/things", "", &things)
	if len(things) != 1 || things[0].Name != "pump" {
		t.Errorf("things: %+v, want pump alone", things)
	}
	if size, err := r.store.Size(ingest.Stream); err != nil || size.Records == 0 {
		t.Errorf("the ingest log has %+v, %v", size, err)
	}
	if doc, err := r.shadows.Get("pump", ""); err != nil || doc == nil {
		t.Errorf("the shadow: %v, %v", doc, err)
	}
	object, err := r.objects.Stat("things", "a/b")
	if err != nil || !object.Kept {
		t.Errorf("the object: %+v, %v: its record does not count", object, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "backup", "cut")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cut is there after the backup: %v", err)
	}
}

// All that lies in the data directory of a bridge with all parts is listed, so that
// somebody has thought of how it gets into a backup.
func TestContentsAreListed(t *testing.T) {
	cfg := configure(t)
	backsUp(t, cfg)
	cfg.Lambda.Enabled, cfg.Lambda.Unsafe = true, true
	b := start(t, cfg)
	b.full()
	b.must("PUT", "/v1/secrets?name=one", "value", nil)
	b.backup()
	n := 0
	err := filepath.WalkDir(cfg.DataDir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the log removes files
			return nil
		}
		name, _ := filepath.Rel(cfg.DataDir, path)
		if err != nil || name == "." {
			return err
		}
		if e.IsDir() {
			name += "/"
		}
		n++
		if _, listed := backup.Treat(name); !listed {
			t.Errorf("%s is not listed: say in bridge/backup/contents.go how it gets into a backup", name)
		}
		return nil
	})
	if err != nil || n < 30 {
		t.Errorf("%d paths, %v", n, err)
	}
}

// What a killed backup left is removed at the start.
func TestBackupLeftovers(t *testing.T) {
	cfg := configure(t)
	left := filepath.Join(cfg.DataDir, "backup", "cut", "log")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	idle(t, cfg)
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// A backup that is due is made by itself, one that is asked for has its metrics, and
// status tells of it.
func TestBackupSchedule(t *testing.T) {
	cfg := configure(t)
	backsUp(t, cfg)
	cfg.Backup.Every, cfg.Backup.Keep = config.Duration(time.Minute), 1
	b := start(t, cfg)
	b.eventually("the backup that is due", func() bool { return b.backups.Status().Last != nil })
	b.backup()
	var st admin.Status
	b.must("GET", "/v1/status", "", &st)
	if st.Backup.Last == nil || st.Directory != b.dir.ID() || st.Room == 0 || st.Certificate == nil ||
		st.Log.Records == 0 {
		t.Errorf("%+v", st)
	}
	_, metrics := b.do("GET", "/metrics", "")
	for _, want := range []string{"tidemill_backup_last_success_timestamp_seconds ", "tidemill_backup_age_seconds ",
		"tidemill_backup_done_total 2", "tidemill_backup_hold_seconds_count 2", "tidemill_backup_failures_total 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
}
