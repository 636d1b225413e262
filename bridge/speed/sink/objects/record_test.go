package objects

import (
	"bytes"
	"encoding/base64"
	"errors"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put stores text, in a bucket that it makes, and returns what the store says of it.
func put(t *testing.T, s *Store, bucket, key, text string, a Attributes, asked ...Algorithm) Info {
	t.Helper()
	if err := s.CreateBucket(bucket); err != nil && !errors.Is(err, ErrBucketExists) {
		t.Fatal(err)
	}
	w, err := s.Create(bucket, int64(len(text)), asked...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	info, err := w.Commit(key, a, Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// The sums of "123456789" are the check values of the catalogues (CRC RevEng;
// RFC 1321, FIPS 180 for the hashes by their own packages).
func TestInfo(t *testing.T) {
	s := open(t, Options{})
	a := Attributes{Headers: map[string]string{"Content-Type": "text/plain"}, User: map[string]string{"a": "ü b"}}
	put(t, s, "bucket", "k", "123456789", a, Algorithms...)
	info, err := s.Stat("bucket", "k")
	if err != nil {
		t.Fatal(err)
	}
	want := map[Algorithm]string{CRC32: "y/Q5Jg==", CRC32C: "4waSgw==", CRC64NVME: "rosUhgp5mIg=",
		SHA1: "98O8HYCOBHMq32eZZczDTKeuNEE=", SHA256: "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="}
	for alg, sum := range want {
		if info.Sums[alg] != sum || !alg.CheckSum(sum) {
			t.Errorf("%s is %q, want %q", alg, info.Sums[alg], sum)
		}
	}
	if info.ETag != "25f9e794323b453885f5181f1b624d0b" || info.Size != 9 || !info.Kept ||
		!reflect.DeepEqual(info.Attributes, a) || time.Since(info.Modified) > time.Hour {
		t.Errorf("info %+v", info)
	}
}

// A file that is copied in by hand, or written over, is an object with what the
// file has, and nothing of another.
func TestFilesByHand(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "bucket", "k", "of the store", Attributes{User: map[string]string{"a": "b"}})
	path := filepath.Join(s.Path(), "bucket", "k")
	if err := os.WriteFile(path, []byte("by hand 1234"), 0o600); err != nil { // the same length and inode
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Path(), "bucket", "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tags := map[string]bool{}
	for _, key := range []string{"k", "new"} {
		info, err := s.Stat("bucket", key)
		if err != nil || info.Kept || info.User != nil || !strings.HasSuffix(info.ETag, "-0") || len(info.ETag) != 34 {
			t.Errorf("%s: %+v, %v", key, info, err)
		}
		tags[info.ETag] = true
	}
	if len(tags) != 2 {
		t.Errorf("ETags %v", tags)
	}
}

// A bit that the disk changed is told, and a sound copy has all that there was.
func TestVerify(t *testing.T) {
	s := open(t, Options{})
	for _, key := range []string{"a", "b//c", "bad"} {
		put(t, s, "bucket", key, "123456789", Attributes{User: map[string]string{"a": "b"}})
	}
	path := filepath.Join(s.Path(), "bucket", "bad")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("123456788"), 0o600),
		os.Chtimes(path, st.ModTime(), st.ModTime())); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	for name, f := range map[string]func(func(int), func(error)) error{
		"verify":  func(read func(int), lost func(error)) error { return Verify(s.Path(), read, lost) },
		"salvage": func(read func(int), lost func(error)) error { return Salvage(s.Path(), to, read, lost) },
	} {
		var told []string
		bytes := 0
		if err := f(func(n int) { bytes += n }, func(err error) { told = append(told, err.Error()) }); err != nil {
			t.Error(name, err)
		}
		if len(told) != 1 || !strings.HasPrefix(told[0], path+": the content is damaged") || bytes != 27 {
			t.Errorf("%s: %d bytes, %q", name, bytes, told)
		}
	}
	c, err := Open(to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, key := range []string{"a", "b//c"} {
		was, err1 := s.Stat("bucket", key)
		is, err2 := c.Stat("bucket", key)
		if err1 != nil || err2 != nil || !reflect.DeepEqual(was, is) {
			t.Errorf("%+v, %v; want %+v, %v", is, err2, was, err1)
		}
	}
}

// What is no object stays, and the bucket with it.
func TestDeleteBucketWithOtherFiles(t *testing.T) {
	for name, add := range map[string]func(dir string) error{
		"a long path": func(dir string) error {
			at := filepath.Join(dir, strings.Repeat(strings.Repeat("d", 200)+"/", 6))
			return errors.Join(os.MkdirAll(at, 0o700), os.WriteFile(filepath.Join(at, "f"), nil, 0o600))
		},
		"a link":    func(dir string) error { return os.Symlink("nowhere", filepath.Join(dir, "l")) },
		"no key":    func(dir string) error { return os.WriteFile(filepath.Join(dir, escapedKeys, "%"), nil, 0o600) },
		"an object": func(dir string) error { return os.WriteFile(filepath.Join(dir, "o"), nil, 0o600) },
	} {
		s := open(t, Options{})
		if err := s.CreateBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(s.Path(), "bucket")
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, escapedKeys), 0o700), add(dir)); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteBucket("bucket"); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := s.List(t.Context(), "bucket", Listing{Max: 10}); err != nil || len(p.Objects) > 1 {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestJoinOfSums(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	sum := func(a Algorithm, b []byte) string {
		h := a.New()
		h.Write(b)
		return base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	for _, a := range []Algorithm{CRC32, CRC32C, CRC64NVME} {
		for range 20 {
			i := r.IntN(len(data))
			parts := []Part{{Number: 1, Sums: map[Algorithm]string{a: sum(a, data[:i])}, Info: Info{Size: int64(i)}},
				{Number: 2, Sums: map[Algorithm]string{a: sum(a, data[i:])}, Info: Info{Size: int64(len(data) - i)}}}
			if got, err := joinSums(a, parts); err != nil || got != sum(a, data) {
				t.Errorf("%s at %d: %s, %v, want %s", a, i, got, err, sum(a, data))
			}
		}
	}
	if crc64.Checksum([]byte("123456789"), nvme) != 0xAE8B14860A799888 {
		t.Error("CRC-64/NVME is wrong")
	}
}

// Where there are no extended attributes, deliveries are stored without a record,
// and what has to have one is not.
func TestNoAttributes(t *testing.T) {
	s := open(t, Options{})
	s.mark = func(*os.File, *record) error { return ErrNoAttributes }
	if err := s.Put(t.Context(), "bucket", "k", func(w io.Writer) error {
		_, err := io.WriteString(w, "text")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Stat("bucket", "k"); err != nil || info.Kept || info.Size != 4 {
		t.Errorf("%+v, %v", info, err)
	}
	w, err := s.Create("bucket", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Commit("l", Attributes{}, Condition{}); !errors.Is(err, ErrNoAttributes) {
		t.Errorf("commit: %v", err)
	}
}

func TestMetadataTooLarge(t *testing.T) {
	s := open(t, Options{})
	w, err := s.Create("bucket", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Commit("k", Attributes{User: map[string]string{"a": strings.Repeat("x", maxRecord)}},
		Condition{}); !errors.Is(err, ErrAttributes) {
		t.Errorf("err = %v", err)
	}
}

// Whatever is in the attribute, it is read as what was written or not at all.
func FuzzRecord(f *testing.F) {
	b, err := (&record{Size: 1, ETag: "a", User: map[string]string{"x": "y"}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("1 00000000 {}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decodeRecord(in)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			return // JSON may grow
		}
		if r2, err := decodeRecord(again); err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%q -> %+v -> %q -> %+v, %v", in, r, again, r2, err)
		}
	})
}

// Each key has one place, which stays in the bucket's folder, and comes back from
// there.
func FuzzKey(f *testing.F) {
	for _, e := range elements {
		f.Add("a/" + e)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if checkKey(key) != nil {
			return
		}
		at := escaped(key)
		if !filepath.IsLocal(at) || !strings.HasPrefix(at, escapedKeys+"/") || strings.Contains(at, "/../") {
			t.Fatalf("%q is at %q", key, at)
		}
		for name := range strings.SplitSeq(at, "/") {
			if len(name) == 0 || len(name) > maxName {
				t.Fatalf("%q is at %q", key, at)
			}
		}
		if back := unescape(strings.TrimPrefix(at, escapedKeys+"/")); back != key {
			t.Fatalf("%q comes back as %q", key, back)
		}
		if isPath(key) && !filepath.IsLocal(key) {
			t.Fatalf("%q is no path", key)
		}
	})
}

func TestConditions(t *testing.T) {
	s := open(t, Options{})
	first := put(t, s, "bucket", "k", "one", Attributes{})
	for name, c := range map[string]struct {
		cond Condition
		key  string
		ok   bool
	}{
		"absent, there":    {Condition{Absent: true}, "k", false},
		"absent":           {Condition{Absent: true}, "new", true},
		"match":            {Condition{Match: `"` + first.ETag + `"`}, "k", true},
		"match any":        {Condition{Match: "*"}, "k", true},
		"match another":    {Condition{Match: `"x", "y"`}, "k", false},
		"match of nothing": {Condition{Match: "*"}, "none", false},
	} {
		w, err := s.Create("bucket", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.WriteString(w, "one"); err == nil {
			_, err = w.Commit(c.key, Attributes{}, c.cond)
		}
		w.Close()
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Delete("bucket", "k", Condition{Match: "x"}); !errors.Is(err, ErrCondition) {
		t.Errorf("delete: %v", err)
	}
	if err := s.Delete("bucket", "none", Condition{Match: "x"}); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Path(), tmp)); err != nil || len(left) != 0 {
		t.Errorf("left beside: %v, %v", left, err)
	}
}

func TestRoom(t *testing.T) {
	left := int64(100)
	s := open(t, Options{MinFree: 50, MaxBucket: 60, Free: func(string) (int64, error) { return left, nil }})
	put(t, s, "bucket", "k", strings.Repeat("x", 40), Attributes{})
	if err := s.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u, _ := s.Usage(); u["bucket"] != (Usage{1, 40}) {
		t.Errorf("usage %v", u)
	}
	write := func(bucket string, n int) error {
		return s.Put(t.Context(), bucket, "l", func(w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("x"), n))
			return err
		})
	}
	if err := write("bucket", 21); !errors.Is(err, ErrBucketFull) {
		t.Errorf("bucket full: %v", err)
	}
	if err := write("other", 51); !errors.Is(err, ErrNoRoom) {
		t.Errorf("disk full: %v", err)
	}
	if err := write("bucket", 20); err != nil {
		t.Error(err)
	}
	if err := s.Delete("bucket", "l", Condition{}); err != nil {
		t.Error(err)
	}
	if u, _ := s.Usage(); u["bucket"] != (Usage{1, 40}) {
		t.Errorf("usage %v", u)
	}
}
