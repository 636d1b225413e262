package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// Each kind of target keeps the contract, and a repository in it can be used.
func TestTargets(t *testing.T) {
	t.Run("directory", func(t *testing.T) { testTarget(t, filepath.Join(t.TempDir(), "a"), TargetOptions{}) })
	t.Run("fake", func(t *testing.T) {
		mem := s3mem.New()
		if err := mem.CreateBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(gofakes3.New(mem).Server())
		defer srv.Close()
		testTarget(t, "s3://bucket/a/prefix", s3Options(t, srv.URL))
	})
	t.Run("moto", func(t *testing.T) {
		o := s3Options(t, counterpart.Moto(t))
		target, err := Open(t.Context(), "s3://bucket/a/prefix/", o)
		if err != nil {
			t.Fatal(err)
		}
		name := "bucket"
		if _, err := target.(*bucket).api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
		testTarget(t, "s3://bucket/a/prefix", o)
	})
}

func s3Options(t *testing.T, url string) TargetOptions {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return TargetOptions{Region: "us-east-1", EndpointURL: url}
}

func testTarget(t *testing.T, url string, o TargetOptions) {
	target, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		test func(*testing.T, Target)
	}{{"objects", testObjects}, {"large", testLarge}, {"names", testNames}} {
		t.Run(f.name, func(t *testing.T) { f.test(t, target) })
	}
	b := newBench(t)
	b.target = target
	testRepository(t, b)
}

func put(t *testing.T, target Target, name string, data []byte) error {
	t.Helper()
	return target.Put(t.Context(), name, bytes.NewReader(data), int64(len(data)))
}

func get(ctx context.Context, target Target, name string, offset, length int64) (string, error) {
	r, err := target.Get(ctx, name, offset, length)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	return string(data), errors.Join(err, r.Close())
}

func testObjects(t *testing.T, target Target) {
	if _, err := get(t.Context(), target, "packs/a", 0, -1); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of nothing: %v", err)
	}
	for _, e := range names(t, target, "") {
		t.Errorf("%s is there already", e)
	}
	if err := errors.Join(put(t, target, "packs/a", []byte("0123456789")), put(t, target, "top", nil)); err != nil {
		t.Fatal(err)
	}
	if err := put(t, target, "packs/a", []byte("other")); !errors.Is(err, ErrExists) {
		t.Errorf("put over another: %v", err)
	}
	for _, c := range []struct {
		offset, length int64
		want           string
	}{{0, -1, "0123456789"}, {3, 4, "3456"}, {8, -1, "89"}, {8, 10, "89"}, {10, -1, ""}, {3, 0, ""}, {99, 3, ""}} {
		if got, err := get(t.Context(), target, "packs/a", c.offset, c.length); got != c.want || err != nil {
			t.Errorf("get %d bytes at %d: %q, %v; want %q", c.length, c.offset, got, err, c.want)
		}
	}
	if err := target.Put(t.Context(), "packs/b", strings.NewReader("short"), 6); err == nil {
		t.Error("a put of less than was said")
	}
	if got := names(t, target, "packs/"); !slices.Equal(got, []string{"packs/a 10"}) {
		t.Errorf("packs: %q", got)
	}
	if got := names(t, target, ""); !slices.Equal(got, []string{"packs/a 10", "top 0"}) {
		t.Errorf("all: %q", got)
	}
	for e := range target.List(t.Context(), "packs/") {
		if age := time.Since(e.Modified); age < -time.Minute || age > time.Minute {
			t.Errorf("modified %v", e.Modified)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := target.Put(stopped, "packs/c", strings.NewReader("x"), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("put of a call that ended: %v", err)
	}
	for range 2 {
		if err := errors.Join(target.Delete(t.Context(), "packs/a"), target.Delete(t.Context(), "top")); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, target, ""); len(got) > 0 {
		t.Errorf("%q are left", got)
	}
}

func names(t *testing.T, target Target, folder string) (names []string) {
	t.Helper()
	for e, err := range target.List(t.Context(), folder) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %d", e.Name, e.Size))
	}
	slices.Sort(names)
	return names
}

// A large object goes in parts where they are of use, from a reader that is read once.
func testLarge(t *testing.T, target Target) {
	data := noise(1, partSize+100)
	for range 2 {
		err := target.Put(t.Context(), "manifests/large", io.MultiReader(bytes.NewReader(data)), int64(len(data)))
		if err != nil && !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
	}
	r, err := target.Get(t.Context(), "manifests/large", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil || Digest(h.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("it comes back changed: %v", err)
	}
	if err := target.Delete(t.Context(), "manifests/large"); err != nil {
		t.Error(err)
	}
}

func testNames(t *testing.T, target Target) {
	for _, name := range []string{"", "..", "../a", "/a", "packs/", "packs/../a", "packs/.a", "a/b/c", "packs/a\nb", "Packs/a"} {
		_, err := get(t.Context(), target, name, 0, -1)
		for what, err := range map[string]error{"get": err, "put": put(t, target, name, nil),
			"delete": target.Delete(t.Context(), name)} {
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
	}
}

// testRepository backs up, restores, verifies and prunes.
func testRepository(t *testing.T, b *bench) {
	first := content{"log/000001.sst": noise(1, 18<<20), "registry.db": noise(2, 1<<20), "empty": {}}
	i1, err := b.backup(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	second := content{"log/000001.sst": first["log/000001.sst"], "log/000002.sst": noise(3, 100),
		"registry.db": bytes.Clone(first["registry.db"])}
	copy(second["registry.db"][500<<10:], "changed")
	i2, err := b.backup(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if i2.Stored > 70<<10 || i2.Stored < 64<<10 {
		t.Errorf("the second backup stored %d bytes, want a changed piece of 64 KiB", i2.Stored)
	}
	for id, want := range map[string]content{i1.ID: first, i2.ID: second, Latest: second} {
		got, err := b.restore(t.Context(), id)
		if err = errors.Join(err, same(got, want)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if r, err := Verify(t.Context(), b.target, id, nil, nil); err != nil || r.Bytes == 0 {
			t.Errorf("verify %s: %+v, %v", id, r, err)
		}
		if r, err := Verify(t.Context(), b.target, id, b.identities(), nil); err != nil || r.Files != 3 {
			t.Errorf("verify %s with the key: %+v, %v", id, r, err)
		}
	}
	p, err := Prune(t.Context(), b.target, Keep{Last: 1}, b.folder)
	if err != nil || len(p.Backups) != 1 || p.Backups[0] != i1.ID {
		t.Errorf("%+v, %v; want %s removed", p, err, i1.ID)
	}
	got, err := b.restore(t.Context(), Latest)
	if err = errors.Join(err, same(got, second)); err != nil {
		t.Error(err)
	}
	if infos, err := List(t.Context(), b.target); len(infos) != 1 || err != nil || infos[0].Files != 3 {
		t.Errorf("%+v, %v; want one backup", infos, err)
	}
}

// No link in a target is followed, neither of a file nor of a folder.
func TestLinksInATarget(t *testing.T) {
	for _, folder := range []bool{false, true} {
		b, outside := newBench(t), t.TempDir()
		if _, err := b.backup(t.Context(), content{"a": []byte("a")}); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(b.url, "packs")
		if folder {
			must(t, os.Rename(link, filepath.Join(outside, "packs")))
			must(t, os.Symlink(filepath.Join(outside, "packs"), link))
		} else {
			packs, err := filepath.Glob(filepath.Join(link, "*"))
			must(t, err)
			must(t, os.Rename(packs[0], filepath.Join(outside, "pack")))
			must(t, os.Symlink(filepath.Join(outside, "pack"), packs[0]))
		}
		before := tree(t, outside)
		_, err := b.restore(t.Context(), Latest)
		_, err2 := b.backup(t.Context(), content{"b": []byte("b")})
		_, err3 := Verify(t.Context(), b.target, Latest, nil, nil)
		for what, err := range map[string]error{"restore": err, "backup": err2, "verify": err3} {
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "packs") {
				t.Errorf("%s: %v; want damage, by name", what, err)
			}
		}
		if after := tree(t, outside); !slices.Equal(before, after) {
			t.Errorf("outside of the target: %q, was %q", after, before)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is all that is below a folder.
func tree(t testing.TB, folder string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line := path + " " + d.Type().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		all = append(all, line)
		return nil
	}))
	return all
}

// A folder of a file system that syncs none, as a share of SMB, is one all the same.
func TestUnsyncableFolder(t *testing.T) {
	f, err := os.Open("/proc")
	must(t, err)
	if err = f.Sync(); err == nil {
		t.Skip("/proc is synced here")
	}
	must(t, f.Close())
	root, err := os.OpenRoot("/proc")
	must(t, err)
	defer root.Close()
	must(t, syncRoot(root))
}
