package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// A bench is a repository with its writer's folder and key.
type bench struct {
	target Target
	url    string
	folder string
	key    *age.X25519Identity
}

func newBench(t testing.TB) *bench {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{url: filepath.Join(t.TempDir(), "target"), folder: filepath.Join(t.TempDir(), "backup"), key: key}
	if b.target, err = Open(t.Context(), b.url, TargetOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) options() WriterOptions {
	return WriterOptions{Recipients: []age.Recipient{b.key.Recipient()}, Directory: b.folder, Account: "000000000000",
		Version: "test", Log: slog.New(slog.DiscardHandler)}
}

func (b *bench) identities() []age.Identity { return []age.Identity{b.key} }

// A content is what a backup has: files by name. Those whose name ends in ".sst" never
// change.
type content map[string][]byte

func (b *bench) backup(ctx context.Context, c content) (Info, error) {
	w, err := NewWriter(ctx, b.target, b.options())
	if err != nil {
		return Info{}, err
	}
	defer w.Close()
	for name, data := range c {
		meta := FileMeta{Size: int64(len(data)), Mode: 0o640, Part: strings.Split(name, "/")[0]}
		if strings.HasSuffix(name, ".sst") {
			meta.Same = fmt.Sprint(name, " ", len(data))
		}
		if err := w.File(ctx, name, meta, bytes.NewReader(data)); err != nil {
			return Info{}, err
		}
	}
	return w.Commit(ctx, json.RawMessage(`{"n":1}`))
}

// restore reads a backup whole.
func (b *bench) restore(ctx context.Context, id string) (content, error) {
	r, err := OpenReader(ctx, b.target, id, b.identities())
	if err != nil {
		return nil, err
	}
	c := content{}
	for _, f := range r.Files() {
		in, err := r.Open(ctx, f.Name)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			return nil, err
		}
		c[f.Name] = data
	}
	return c, nil
}

func same(a, b content) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d files, want %d", len(a), len(b))
	}
	for name := range b {
		if !bytes.Equal(a[name], b[name]) {
			return fmt.Errorf("%s has %d bytes of another content, want %d", name, len(a[name]), len(b[name]))
		}
	}
	return nil
}

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	var s [32]byte
	s[0], s[1], s[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

// Without its folder a writer stores everything again, beside what is there.
func TestIndexIsLost(t *testing.T) {
	b := newBench(t)
	c := content{"a.sst": noise(1, 1<<20)}
	if _, err := b.backup(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.folder); err != nil {
		t.Fatal(err)
	}
	i, err := b.backup(t.Context(), c)
	if err != nil || i.Stored < 1<<20 {
		t.Fatalf("%d bytes, %v; want a full backup", i.Stored, err)
	}
	infos, err := List(t.Context(), b.target)
	if err != nil || len(infos) != 2 {
		t.Fatalf("%d backups, %v", len(infos), err)
	}
	for _, i := range infos {
		got, err := b.restore(t.Context(), i.ID)
		if err = errors.Join(err, same(got, c)); err != nil {
			t.Error(err)
		}
	}
}

// A backup is for all its recipients, also where the packs of before were not for some.
func TestRecipientsChange(t *testing.T) {
	b := newBench(t)
	c := content{"a.sst": noise(1, 300_000), "b": noise(2, 70_000)}
	_, err := b.backup(t.Context(), c)
	must(t, err)
	second, err := age.GenerateX25519Identity()
	must(t, err)
	for _, recipients := range [][]age.Recipient{{b.key.Recipient(), second.Recipient()}, {second.Recipient()}} {
		o := b.options()
		o.Recipients = recipients
		for n := range 2 {
			w, err := NewWriter(t.Context(), b.target, o)
			must(t, err)
			for name, data := range c {
				must(t, w.File(t.Context(), name, FileMeta{Size: int64(len(data)), Same: name}, bytes.NewReader(data)))
			}
			i, err := w.Commit(t.Context(), nil)
			must(t, err)
			must(t, w.Close())
			if n == 1 && i.Stored > 10_000 {
				t.Errorf("%d bytes stored, with the same recipients", i.Stored)
			}
		}
		one := *b
		one.key = second
		got, err := one.restore(t.Context(), Latest)
		if err = errors.Join(err, same(got, c)); err != nil {
			t.Errorf("for one of %d recipients: %v", len(recipients), err)
		}
	}
}

func TestLocks(t *testing.T) {
	b := newBench(t)
	w, err := NewWriter(t.Context(), b.target, b.options())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := NewWriter(t.Context(), b.target, b.options()); !errors.Is(err, ErrLocked) {
		t.Errorf("a second writer with the folder: %v", err)
	}
	other := *b
	other.folder = t.TempDir()
	if _, err := other.backup(t.Context(), content{}); !errors.Is(err, ErrLocked) {
		t.Errorf("a writer elsewhere: %v", err)
	}
	if _, err := Prune(t.Context(), b.target, Keep{Last: 1}, ""); !errors.Is(err, ErrLocked) {
		t.Errorf("a prune elsewhere: %v", err)
	}
	old := time.Now().Add(-lockStale - time.Minute)
	if err := os.Chtimes(filepath.Join(b.url, w.lock.name), old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := other.backup(t.Context(), content{}); err != nil {
		t.Errorf("a writer, after a lock that is dead: %v", err)
	}
	if _, err := w.Commit(t.Context(), nil); !errors.Is(err, ErrLocked) {
		t.Errorf("the one whose lock was taken: %v", err)
	}
}
