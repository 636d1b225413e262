package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

const testAccount = "000000000000"

// A bridge is a data directory that no program uses, with a repository.
type bridge struct {
	t        *testing.T
	dir      string
	target   vault.Target
	identity *age.X25519Identity
	certs    []string
}

func newBridge(t *testing.T) *bridge {
	t.Helper()
	top := t.TempDir()
	b := &bridge{t: t, dir: filepath.Join(top, "data")}
	var err error
	if b.target, err = vault.Open(t.Context(), filepath.Join(top, "repository"), vault.TargetOptions{}); err != nil {
		t.Fatal(err)
	}
	if b.identity, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	b.ok(os.MkdirAll(b.dir, 0o700))
	authority, err := pki.Open(filepath.Join(b.dir, "pki"), pki.Options{})
	b.ok(err)
	b.registry(func(tx *registry.Tx) error {
		for i := range 3 {
			name := fmt.Sprint("thing-", i)
			issued, err := authority.Issue(name)
			if err != nil {
				return err
			}
			c, err := tx.RegisterCertificate(issued.CertPEM, registry.Active)
			if err != nil {
				return err
			}
			b.certs = append(b.certs, c.ID)
			if err := tx.CreateThing(registry.Thing{Name: name}); err != nil {
				return err
			}
		}
		return errors.Join(tx.CreateUser(registry.User{Name: "alice"}),
			tx.AddAccessKey(registry.AccessKey{ID: "AKIAAAAAAAAAAAAAAAAA", User: "alice", Secret: "s"}))
	})
	shadows, err := boltstore.Open(filepath.Join(b.dir, "shadow.db"), boltstore.Options{})
	b.ok(err)
	b.ok(shadows.Close())
	b.ok(os.WriteFile(filepath.Join(b.dir, "identity"), []byte(`{"id":"0123","state":"complete"}`), 0o600))
	b.log(func(s *pebble.Store) {
		b.ok(s.Create("data", streams.Config{Shards: 2}))
		b.ok(s.Create("$outbox/hot/0", streams.Config{Shards: 1}))
		x := s.NewBatch()
		for i := range 10 {
			x.Append("data", i%2, streams.Record{Key: "k", Data: fmt.Append(nil, i)})
		}
		x.Append("$outbox/hot/0", 0, streams.Record{Data: []byte("delivery")})
		b.ok(s.Commit(t.Context(), x))
	})
	return b
}

func (b *bridge) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// registry changes the registry of a directory.
func (b *bridge) registry(f func(tx *registry.Tx) error) {
	b.t.Helper()
	openRegistry(b.t, b.dir, func(r *registry.Registry) { b.ok(r.Update(f)) })
}

func openRegistry(t *testing.T, dir string, f func(r *registry.Registry)) {
	t.Helper()
	e, err := bolt.Open(filepath.Join(dir, "registry.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	f(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func (b *bridge) log(f func(s *pebble.Store)) { b.t.Helper(); openStore(b.t, b.dir, f) }

// openStore runs the log of a directory.
func openStore(t *testing.T, dir string, f func(s *pebble.Store)) {
	t.Helper()
	s, err := pebble.Open(filepath.Join(dir, "log"), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	f(s)
	stop()
	if err := errors.Join(<-ran, s.Close()); err != nil {
		t.Fatal(err)
	}
}

// backup makes a backup of the stopped directory.
func (b *bridge) backup(change func(*About)) vault.Info {
	b.t.Helper()
	ctx := b.t.Context()
	w, err := vault.NewWriter(ctx, b.target, vault.WriterOptions{Recipients: []age.Recipient{b.identity.Recipient()},
		Directory: filepath.Join(b.t.TempDir(), "index"), Account: testAccount, Version: "test"})
	b.ok(err)
	b.ok(filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(b.dir, path)
		if treatment, _ := Treat(name); err != nil || e.IsDir() || treatment == Left {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		return w.File(ctx, filepath.ToSlash(name), vault.FileMeta{Size: info.Size(), Mode: info.Mode()}, in)
	}))
	a := About{Format: aboutFormat, Version: "test", Account: testAccount, Directory: "0123", Cut: time.Now().UTC()}
	if change != nil {
		change(&a)
	}
	raw, err := json.Marshal(a)
	b.ok(err)
	info, err := w.Commit(ctx, raw)
	b.ok(errors.Join(err, w.Close()))
	return info
}

// revocations are the bridge's as it is now, as a file.
func (b *bridge) revocations(at time.Time) *Sealed {
	b.t.Helper()
	p, err := pki.Open(filepath.Join(b.dir, "pki"), pki.Options{})
	b.ok(err)
	access, err := p.ReadAccess()
	b.ok(err)
	var v *Revocations
	openRegistry(b.t, b.dir, func(r *registry.Registry) {
		v, err = NewRevocations(r, access.Keys, About{Account: testAccount, Directory: "0123"}, at)
		b.ok(err)
	})
	raw, err := v.Sign(p.RevocationKey())
	b.ok(err)
	s, err := ParseRevocations(raw)
	b.ok(err)
	return s
}

func (b *bridge) options(dir string) RestoreOptions {
	return RestoreOptions{Target: b.target, ID: vault.Latest, Identities: []age.Identity{b.identity}, Dir: dir,
		Account: testAccount}
}

func TestRestore(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	next := map[int]uint64{}
	b.log(func(s *pebble.Store) { // the bridge goes on
		x := s.NewBatch()
		for i := range 100 {
			x.Append("data", i%2, streams.Record{Key: "k", Data: []byte("later")})
		}
		b.ok(s.Commit(t.Context(), x))
		for i := range 2 {
			_, n, err := s.Bounds("data", i)
			b.ok(err)
			next[i] = n
		}
	})
	b.registry(func(tx *registry.Tx) error {
		return errors.Join(tx.SetCertificateStatus(b.certs[0], registry.Revoked),
			tx.SetCertificateStatus(b.certs[1], registry.Inactive), tx.DeleteCertificate(b.certs[1], true),
			tx.UpdateAccessKey("AKIAAAAAAAAAAAAAAAAA", func(k *registry.AccessKey) { k.Status = registry.Inactive }))
	})
	o := b.options(filepath.Join(t.TempDir(), "new"))
	o.Revocations = b.revocations(time.Now())

	dry := o
	dry.DryRun = true
	if r, err := Restore(t.Context(), dry); err != nil || r.Files == 0 || r.Bytes == 0 {
		t.Fatalf("would be: %+v, %v", r, err)
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a dry run made something: %v", err)
	}
	r, err := Restore(t.Context(), o)
	b.ok(err)
	if len(r.Revoked) != 3 || len(r.Held) == 0 {
		t.Errorf("revoked %q, held %+v", r.Revoked, r.Held)
	}
	openRegistry(t, o.Dir, func(reg *registry.Registry) {
		b.ok(reg.View(func(tx *registry.Tx) error {
			for i, want := range []registry.Status{registry.Revoked, registry.Revoked, registry.Active} {
				if c, err := tx.Certificate(b.certs[i]); err != nil || c.Status != want {
					t.Errorf("certificate %d is %s, %v; want %s", i, c.Status, err, want)
				}
			}
			k, err := tx.AccessKey("AKIAAAAAAAAAAAAAAAAA")
			if k.Status != registry.Inactive {
				t.Errorf("the key is %s", k.Status)
			}
			return err
		}))
	})
	openStore(t, o.Dir, func(s *pebble.Store) {
		for i := range 2 {
			recs, err := s.Read("data", i, 0, 0, 0)
			b.ok(err)
			if len(recs) != 5 {
				t.Errorf("shard %d has %d records", i, len(recs))
			}
			x := s.NewBatch()
			x.Append("data", i, streams.Record{Key: "k", Data: []byte("new")})
			b.ok(s.Commit(t.Context(), x))
			if at := x.Offset(0); at < next[i] {
				t.Errorf("shard %d gives %d, the old bridge had come to %d", i, at, next[i])
			}
		}
		if is, err := hold.Is(s, "outbox/hot/0"); !is || err != nil {
			t.Errorf("held: %v, %v", is, err)
		}
	})
	if _, err := os.Stat(o.Dir + Staging); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", o.Dir+Staging, err)
	}
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory that is there: %v", err)
	}
}

// What is refused says what to do, and changes nothing.
func TestRestoreRefuses(t *testing.T) {
	b := newBridge(t)
	before := b.revocations(time.Now().Add(-time.Hour))
	b.backup(nil)
	good := b.revocations(time.Now().Add(time.Hour))
	other, err := age.GenerateX25519Identity()
	b.ok(err)
	foreign := newBridge(t).revocations(time.Now().Add(time.Hour))
	forged := *good
	forged.doc = bytes.Replace(forged.doc, []byte(`"taken"`), []byte(`"Taken"`), 1)
	for name, c := range map[string]struct {
		change func(o *RestoreOptions)
		want   string
	}{
		"another account":       {func(o *RestoreOptions) { o.Account = "111111111111" }, "-config"},
		"wrong key":             {func(o *RestoreOptions) { o.Identities = []age.Identity{other} }, "-identity"},
		"no such backup":        {func(o *RestoreOptions) { o.ID = "20200101T000000Z-00000000" }, "backup list"},
		"older revocations":     {func(o *RestoreOptions) { o.Revocations = before }, "name a newer file"},
		"another's revocations": {func(o *RestoreOptions) { o.Revocations = foreign }, "another bridge"},
		"changed revocations":   {func(o *RestoreOptions) { o.Revocations = &forged }, "changed"},
		"not a move":            {func(o *RestoreOptions) { o.Moved = true }, "move finish"},
		"no folder to restore to": {func(o *RestoreOptions) {
			o.Dir = filepath.Join(o.Dir, "x", "y")
		}, "make it first"},
		"a folder that is in use": {func(o *RestoreOptions) {
			b.ok(os.MkdirAll(o.Dir+Staging+"/x", 0o700))
		}, "move it away"},
		"a directory with a bridge": {func(o *RestoreOptions) { o.Dir = b.dir }, "move it away"},
	} {
		t.Run(name, func(t *testing.T) {
			o := b.options(filepath.Join(t.TempDir(), "new"))
			c.change(&o)
			_, err := Restore(t.Context(), o)
			if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if _, err := os.Stat(o.Dir); name != "a directory with a bridge" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
}

// One part comes back alone: what was there is kept beside it, and the rest stays.
func TestRestorePart(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	b.registry(func(tx *registry.Tx) error {
		return errors.Join(tx.DeleteThing("thing-2", 0), tx.SetCertificateStatus(b.certs[0], registry.Revoked))
	})
	o := b.options(b.dir)
	o.Revocations = b.revocations(time.Now())
	if _, err := RestorePart(t.Context(), o, "registry"); !errors.Is(err, ErrUnfit) {
		t.Errorf("without a lock to hold: %v", err)
	}
	b.ok(os.WriteFile(filepath.Join(b.dir, "lock"), nil, 0o600))
	held, err := stopped(b.dir)
	b.ok(err)
	if _, err := RestorePart(t.Context(), o, "registry"); !errors.Is(err, ErrUnfit) ||
		!strings.Contains(err.Error(), "stop it first") {
		t.Errorf("of a bridge that runs: %v", err)
	}
	held()
	r, err := RestorePart(t.Context(), o, "registry")
	b.ok(err)
	if len(r.Revoked) != 1 || len(r.Notes) != 1 {
		t.Errorf("%+v", r)
	}
	openRegistry(t, b.dir, func(reg *registry.Registry) {
		if has, err := reg.HasThing("thing-2"); !has || err != nil {
			t.Errorf("the thing is there: %v, %v", has, err)
		}
	})
	before, err := filepath.Glob(filepath.Join(b.dir, "registry.db.before-*"))
	if err != nil || len(before) != 1 {
		t.Errorf("%v, %v", before, err)
	}
	if _, err := os.Stat(b.dir + Staging); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the staging folder is left: %v", err)
	}
}

// A torn pack ends a restore with a name, and leaves no data directory.
func TestRestoreTorn(t *testing.T) {
	b := newBridge(t)
	b.backup(nil)
	packs, err := filepath.Glob(filepath.Join(b.target.String(), "packs", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("%v, %v", packs, err)
	}
	for _, p := range packs {
		b.ok(os.Chmod(p, 0o600))
		raw, err := os.ReadFile(p)
		b.ok(err)
		raw[len(raw)*2/3] ^= 1
		b.ok(os.WriteFile(p, raw, 0o600))
	}
	o := b.options(filepath.Join(t.TempDir(), "new"))
	_, err = Restore(t.Context(), o)
	if !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a data directory was made: %v", err)
	}
}

// killedOptions are a restore's in a process that is to be killed: what variables say
// whose names begin so.
func killedOptions(t *testing.T, variable string) RestoreOptions {
	t.Helper()
	id, err := age.ParseX25519Identity(os.Getenv(variable + "_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := vault.Open(t.Context(), os.Getenv(variable+"_TARGET"), vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return RestoreOptions{Target: target, ID: vault.Latest, Identities: []age.Identity{id}, Dir: os.Getenv(variable),
		Account: testAccount}
}

const killedDir = "TIDEMILL_RESTORE_KILLED"

// TestRestoreKilled kills a restore at 30 instants. Each time there is no data directory, or
// the whole one; and the next run makes it whole.
func TestRestoreKilled(t *testing.T) {
	if os.Getenv(killedDir) != "" {
		if _, err := Restore(t.Context(), killedOptions(t, killedDir)); err != nil {
			t.Fatal(err)
		}
		return
	}
	b := newBridge(t)
	b.log(func(s *pebble.Store) {
		for range 20 {
			x := s.NewBatch()
			x.Append("data", 0, streams.Record{Key: "k", Data: make([]byte, 1<<20)})
			b.ok(s.Commit(t.Context(), x))
		}
	})
	b.backup(nil)
	run := func(dir string, after time.Duration) (whole bool) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRestoreKilled$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir, killedDir+"_KEY="+b.identity.String(),
			killedDir+"_TARGET="+b.target.String())
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		b.ok(cmd.Start())
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
		defer timer.Stop()
		err := cmd.Wait()
		if err != nil && cmd.ProcessState.Exited() {
			t.Fatalf("%v: %s", err, out.String())
		}
		return err == nil
	}
	began := time.Now()
	first := filepath.Join(t.TempDir(), "new")
	if !run(first, time.Minute) {
		t.Fatal("it takes a minute")
	}
	took := time.Since(began)
	const kills = 30
	killed := 0
	for i := range kills {
		dir := filepath.Join(t.TempDir(), "new")
		whole := run(dir, took*time.Duration(i+1)/(kills+1))
		if _, err := os.Stat(dir); !whole {
			killed++
			if err == nil { // it was killed after the rename
				if _, err := os.Stat(dir + Staging); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("kill %d: both folders are there: %v", i, err)
				}
			}
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !run(dir, time.Minute) {
			t.Fatalf("kill %d: the next run did not end", i)
		}
		openStore(t, dir, func(s *pebble.Store) {
			n, err := s.Count("data", 0, 0)
			if err != nil || n != 25 {
				t.Errorf("kill %d: %d records, %v", i, n, err)
			}
			_, next, err := s.Bounds("data", 0)
			if err != nil || next < 1<<44 || next > 1<<44+100 {
				t.Errorf("kill %d: the next offset is %d, %v", i, next, err)
			}
		})
		b.ok(os.RemoveAll(dir))
	}
	t.Logf("%d of %d runs were killed; a whole one took %v", killed, kills, took)
}

func FuzzParseRevocations(f *testing.F) {
	v := &Revocations{Format: 1, Account: testAccount, Directory: "d", At: time.Now(), Salt: make([]byte, saltLen),
		Active: make([]byte, 16), Taken: map[string]map[string]string{kindCertificate: {"x": "REVOKED"}}}
	key := []byte("key")
	raw, err := v.Sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseRevocations(raw)
		if err != nil {
			return
		}
		_ = s.Summary()
		s.open(door{kind: kindCertificate, id: "x"})
		if s.Check(key) == nil {
			again, err := s.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseRevocations(again); err != nil {
				t.Fatal(err)
			}
		}
	})
}
