package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"crypto/sha256"

	"filippo.io/age"
)

// file is the only one of the target that a pattern matches.
func (b *bench) file(t *testing.T, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(b.url, pattern))
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %q, %v", pattern, all, err)
	}
	return all[0]
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, f(data), 0o600))
}

// Whatever is done to the bytes of a target, reading them tells what is wrong and
// where, and gives no byte that was not written.
func TestDamage(t *testing.T) {
	cut := func(d []byte) []byte { return d[:len(d)-1] }
	half := func(d []byte) []byte { return d[:len(d)/2] }
	flip := func(d []byte) []byte { d[len(d)*2/3] ^= 4; return d }
	flipHead := func(d []byte) []byte { d[30] ^= 1; return d }
	empty := func([]byte) []byte { return nil }
	longer := func(d []byte) []byte { return append(d, "more"...) }
	foreign := newBench(t) // another repository, under other keys
	_, err := foreign.backup(t.Context(), content{"a": noise(5, 300_000)})
	must(t, err)
	for _, c := range []struct {
		name, file string
		change     func([]byte) []byte
		want       error
		says       string
	}{
		{"torn pack", "packs/*", cut, ErrDamaged, "packs/"},
		{"half a pack", "packs/*", half, ErrDamaged, "packs/"},
		{"empty pack", "packs/*", empty, ErrDamaged, "packs/"},
		{"flipped pack", "packs/*", flip, ErrDamaged, "packs/"},
		{"flipped head of a pack", "packs/*", flipHead, nil, "packs/"},
		{"another's pack", "packs/*", func([]byte) []byte {
			data, err := os.ReadFile(foreign.file(t, "packs/*"))
			must(t, err)
			return data
		}, nil, "packs/"},
		{"torn manifest", "manifests/*", cut, ErrDamaged, "manifests/"},
		{"flipped manifest", "manifests/*", flip, ErrDamaged, "manifests/"},
		{"empty manifest", "manifests/*", empty, ErrDamaged, "manifests/"},
		{"longer manifest", "manifests/*", longer, ErrDamaged, "manifests/"},
		{"torn info", "backups/*", cut, ErrDamaged, "backups/"},
		{"info of another", "backups/*", func([]byte) []byte {
			data, err := os.ReadFile(foreign.file(t, "backups/*"))
			must(t, err)
			return data
		}, ErrDamaged, "backups/"},
		{"info of a later version", "backups/*", func(d []byte) []byte {
			return bytes.Replace(d, []byte(`"format":1`), []byte(`"format":2`), 1)
		}, ErrVersion, "backups/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			_, err := b.backup(t.Context(), content{"a": noise(1, 300_000), "b": noise(2, 10)})
			must(t, err)
			change(t, b.file(t, c.file), c.change)
			_, err = b.restore(t.Context(), Latest)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("restore: %v; want %v, of %s", err, c.want, c.says)
			}
			_, err = Verify(t.Context(), b.target, Latest, nil, nil)
			if want := errors.Join(c.want, nil); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("verify: %v; want %v", err, want)
			}
			if _, err = Verify(t.Context(), b.target, Latest, b.identities(), nil); err == nil {
				t.Error("verify with the key found nothing")
			}
		})
	}
}

// Each kind of what is not there, not ours or not for us has its error.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	if _, err := OpenReader(t.Context(), b.target, Latest, b.identities()); !errors.Is(err, ErrNotFound) {
		t.Errorf("no repository: %v", err)
	}
	if _, err := Prune(t.Context(), b.target, Keep{Last: 1}, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("prune of no repository: %v", err)
	}
	info, err := b.backup(t.Context(), content{"a": []byte("a")})
	must(t, err)
	for _, id := range []string{"20200101T000000Z-00000000", "../x", "", "latest/"} {
		if _, err := OpenReader(t.Context(), b.target, id, b.identities()); !errors.Is(err, ErrNotFound) {
			t.Errorf("backup %q: %v", id, err)
		}
	}
	other, err := age.GenerateX25519Identity()
	must(t, err)
	if _, err := OpenReader(t.Context(), b.target, Latest, []age.Identity{other}); !errors.Is(err, ErrKey) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := Verify(t.Context(), b.target, info.ID, []age.Identity{other}, nil); !errors.Is(err, ErrKey) {
		t.Errorf("verify with another's key: %v", err)
	}
	r, err := OpenReader(t.Context(), b.target, Latest, []age.Identity{other, b.key})
	must(t, err)
	if _, err := r.Open(t.Context(), "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	o := b.options()
	o.Account = "111111111111"
	if _, err := NewWriter(t.Context(), b.target, o); !errors.Is(err, ErrForeign) {
		t.Errorf("another account: %v", err)
	}
	if _, err := Prune(t.Context(), b.target, Keep{}, ""); err == nil {
		t.Error("prune that keeps nothing")
	}
	change(t, filepath.Join(b.url, repositoryName), func(d []byte) []byte {
		return bytes.Replace(d, []byte(`"format":1`), []byte(`"format":2`), 1)
	})
	if _, err := NewWriter(t.Context(), b.target, b.options()); !errors.Is(err, ErrVersion) {
		t.Errorf("a later version's repository: %v", err)
	}
	for _, url := range []string{"", "relative", "/", "s3://", "ftp://x/y"} {
		if _, err := Open(t.Context(), url, TargetOptions{Region: "r"}); err == nil {
			t.Errorf("target %q is taken", url)
		}
	}
}

// A description that cannot be read hides no other backup, and nothing that it may
// need is removed.
func TestDamagedInfo(t *testing.T) {
	b := newBench(t)
	first, err := b.backup(t.Context(), content{"a": noise(1, 100)})
	must(t, err)
	second, err := b.backup(t.Context(), content{"b": noise(2, 100)})
	must(t, err)
	path := filepath.Join(b.url, infoName(first.ID))
	sound, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, sound[:20], 0o600))
	infos, err := List(t.Context(), b.target)
	if len(infos) != 1 || infos[0].ID != second.ID || !errors.Is(err, ErrDamaged) {
		t.Errorf("%+v, %v; want the other one, and damage", infos, err)
	}
	if _, err := Prune(t.Context(), b.target, Keep{Last: 1}, b.folder); !errors.Is(err, ErrDamaged) {
		t.Errorf("prune: %v", err)
	}
	third, err := b.backup(t.Context(), content{"c": noise(3, 100)})
	must(t, err)
	must(t, os.WriteFile(path, sound, 0o600))
	for _, id := range []string{first.ID, second.ID, third.ID} {
		if _, err := b.restore(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// A pack that is lost or cut off in the target is stored anew by the next backup.
func TestPackIsLost(t *testing.T) {
	for what, f := range map[string]func(path string) error{"lost": os.Remove,
		"cut off": func(path string) error { return os.Truncate(path, 100) }} {
		b := newBench(t)
		c := content{"a.sst": noise(1, 300_000), "b": noise(2, 70_000)}
		_, err := b.backup(t.Context(), c)
		must(t, err)
		must(t, f(b.file(t, "packs/*")))
		i, err := b.backup(t.Context(), c)
		must(t, err)
		got, err := b.restore(t.Context(), i.ID)
		if err = errors.Join(err, same(got, c)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An index that is damaged begins anew, or with what is whole of it.
func TestIndexIsDamaged(t *testing.T) {
	for what, f := range map[string]func([]byte) []byte{
		"cut off": func(d []byte) []byte { return d[:len(d)-3] }, "empty": func([]byte) []byte { return nil },
		"flipped": func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"key":     func(d []byte) []byte { d[len(indexMagic)+60] ^= 1; return d },
		"another": func(d []byte) []byte { d[3] ^= 1; return d },
	} {
		b := newBench(t)
		c := content{"a.sst": noise(1, 300_000), "b": noise(2, 70_000)}
		_, err := b.backup(t.Context(), c)
		must(t, err)
		all, err := filepath.Glob(filepath.Join(b.folder, "*.index"))
		if err != nil || len(all) != 1 {
			t.Fatalf("%q, %v", all, err)
		}
		if info, err := os.Stat(all[0]); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
		}
		change(t, all[0], f)
		for range 2 {
			i, err := b.backup(t.Context(), c)
			must(t, err)
			got, err := b.restore(t.Context(), i.ID)
			if err = errors.Join(err, same(got, c)); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// A tight target has room for so many bytes.
type tight struct {
	Target
	left int64
}

func (x *tight) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if x.left -= size; x.left < 0 {
		r = io.MultiReader(io.LimitReader(r, size/2), failing{})
	}
	return x.Target.Put(ctx, name, r, size)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, syscall.ENOSPC }

// Wherever the room ends, the backup fails with ErrFull, those before it are whole,
// and with room again the next goes on.
func TestFull(t *testing.T) {
	for room := int64(100); room < 1_400_000; room += 130_000 {
		b := newBench(t)
		_, err := b.numbered(t.Context(), 1)
		must(t, err)
		whole := b.target
		b.target = &tight{whole, room}
		_, err = b.numbered(t.Context(), 30)
		if err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("%d bytes of room: %v", room, err)
		}
		b.target = whole
		checkAll(t, b)
		_, err = b.numbered(t.Context(), 31)
		must(t, err)
		checkAll(t, b)
		checkTidy(t, b)
	}
}

// A file system without a free byte: backups fail with ErrFull, all that are listed are whole, and a
// prune makes room.
func TestFullFileSystem(t *testing.T) {
	b := newBench(t)
	must(t, os.MkdirAll(b.url, 0o700))
	if err := syscall.Mount("tmpfs", b.url, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(b.url, 0)) })
	n, err := 1, error(nil)
	for ; err == nil; n++ {
		_, err = b.numbered(t.Context(), n*7) // no table is shared
	}
	if !errors.Is(err, ErrFull) || n < 4 {
		t.Fatalf("backup %d: %v", n, err)
	}
	fill, err := os.Create(filepath.Join(b.url, "fill"))
	must(t, err)
	_, err = io.Copy(fill, bytes.NewReader(make([]byte, 8<<20)))
	if err = errors.Join(err, fill.Close()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	checkAll(t, b)
	if _, err := b.numbered(t.Context(), n*7); !errors.Is(err, ErrFull) {
		t.Errorf("without a free byte: %v", err)
	}
	if p, err := Prune(t.Context(), b.target, Keep{Last: 1}, b.folder); err != nil || len(p.Backups) == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = b.numbered(t.Context(), n*7)
	must(t, err)
	checkAll(t, b)
	must(t, os.Remove(fill.Name()))
	checkTidy(t, b)
}

// evil puts a backup whose manifest somebody else wrote, encrypted to the right key.
func (b *bench) evil(t *testing.T, lines ...string) {
	t.Helper()
	info, err := b.backup(t.Context(), content{"a": []byte("a")})
	must(t, err)
	var plain, data bytes.Buffer
	m := manifest{head: head{Format, info.ID, info.Repository, info.Time, Digest{}, json.RawMessage("{}")}}
	must(t, m.write(&plain))
	var text bytes.Buffer
	z, err := newDecoder(&plain)
	must(t, err)
	_, err = io.Copy(&text, z)
	must(t, err)
	first, _, _ := strings.Cut(text.String(), "\n")
	in, err := age.Encrypt(&data, b.key.Recipient())
	must(t, err)
	must(t, compressLines(in, append([]string{first}, lines...)))
	must(t, in.Close())
	must(t, os.WriteFile(filepath.Join(b.url, manifestName(info.ID)), data.Bytes(), 0o600))
	info.Manifest = Object{int64(data.Len()), sha256.Sum256(data.Bytes())}
	plainInfo, err := json.Marshal(info)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(b.url, infoName(info.ID)), plainInfo, 0o600))
}

// A manifest with the right key that names files elsewhere is refused as a whole.
func TestEvilManifest(t *testing.T) {
	const sum = `"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	file := func(name string) string { return `{"file":{"name":` + name + `,"size":0,"mode":384,` + sum + `}}` }
	end := func(files int) string { return fmt.Sprintf(`{"end":{"files":%d,"pieces":0}}`, files) }
	fine := newBench(t)
	fine.evil(t, file(`"a/b"`), end(1))
	if _, err := fine.restore(t.Context(), Latest); err != nil {
		t.Fatalf("a sound one: %v", err)
	}
	for _, lines := range [][]string{
		{file(`"../a"`), end(1)}, {file(`"/etc/passwd"`), end(1)}, {file(`"a/../../b"`), end(1)},
		{file(`"a//b"`), end(1)}, {file(`""`), end(1)}, {file(`"."`), end(1)}, {file(`"a\u0000b"`), end(1)}, {file(`"a\\b"`), end(1)},
		{file(`"a\nb"`), end(1)}, {file(`"a"`), file(`"a"`), end(2)}, {file(`"a"`), file(`"a/b"`), end(2)},
		{file(`"` + strings.Repeat("a", maxName+1) + `"`), end(1)},
		{strings.Replace(file(`"a"`), "384", "2541", 1), end(1)}, // set-user-ID
		{strings.Replace(file(`"a"`), `"size":0`, `"size":-1`, 1), end(1)},
		{strings.Replace(file(`"a"`), `"size":0`, `"size":5`, 1), end(1)},
		{file(`"a"`)}, {end(1)}, {end(0), end(0)}, {`{}`}, {`x`},
		{file(`"a"`), `{"piece":{"pack":0,"offset":0,"stored":1,"size":1}}`, end(1)},
	} {
		b := newBench(t)
		b.evil(t, lines...)
		if _, err := b.restore(t.Context(), Latest); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.200q: %v; want damage", lines, err)
		}
	}
}

// A target that had a repository and has none is not begun anew, unless that is wanted.
func TestGone(t *testing.T) {
	b := newBench(t)
	must(t, CheckThere(t.Context(), b.target, b.folder))
	_, err := b.backup(t.Context(), content{"a": []byte("a")})
	must(t, err)
	must(t, Probe(t.Context(), b.target, b.options()))
	if left, err := os.ReadDir(filepath.Join(b.url, "locks")); err != nil || len(left) > 0 {
		t.Errorf("a probe leaves %v, %v", left, err)
	}
	must(t, os.Rename(b.url, b.url+"-away"))
	must(t, os.Mkdir(b.url, 0o700))
	_, err = b.backup(t.Context(), content{"a": []byte("a")})
	probed := Probe(t.Context(), b.target, b.options())
	if !errors.Is(err, ErrGone) || !errors.Is(probed, ErrGone) {
		t.Errorf("%v, %v", err, probed)
	}
	if left, err := os.ReadDir(b.url); err != nil || len(left) > 0 {
		t.Errorf("written: %v, %v", left, err)
	}
	o := b.options()
	o.New = true
	w, err := NewWriter(t.Context(), b.target, o)
	must(t, err)
	must(t, w.Close())
	_, err = b.backup(t.Context(), content{"a": []byte("a")})
	must(t, err)
	must(t, os.RemoveAll(b.url))
	must(t, os.Rename(b.url+"-away", b.url)) // the first repository goes on
	_, err = b.backup(t.Context(), content{"a": []byte("a")})
	must(t, err)
}

// Damage of what says who can read a pack or manifest is damage, and no wrong key.
func TestDamagedRecipient(t *testing.T) {
	for _, folder := range []string{"packs", "manifests"} {
		b := newBench(t)
		info, err := b.backup(t.Context(), content{"a": []byte("a")})
		must(t, err)
		files, err := filepath.Glob(filepath.Join(b.url, folder, "*"))
		must(t, err)
		change(t, files[0], func(d []byte) []byte {
			d[50] ^= 1
			return d
		})
		if _, err := Verify(t.Context(), b.target, info.ID, b.identities(), nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", folder, err)
		}
	}
}
