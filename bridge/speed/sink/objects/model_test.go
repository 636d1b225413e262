package objects

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// elements of keys that are hard on a file system.
var elements = []string{"", ".", "..", "a", "b", "a!", "a+", "%2F", own, "keys", "ü", strings.Repeat("l", 256),
	strings.Repeat("m", 250)}

// nested are keys of which one is where another's folder has to be.
var nested = []string{"a", "a/", "a/b", "a/b/c", "a/b/c/d", "b/a", "b"}

func someKey(r *rand.Rand) string {
	for {
		if r.IntN(2) == 0 {
			return nested[r.IntN(len(nested))]
		}
		parts := make([]string, 1+r.IntN(4))
		for i := range parts {
			parts[i] = elements[r.IntN(len(elements))]
			if r.IntN(2) == 0 {
				parts[i] = elements[3+r.IntN(2)]
			}
		}
		if key := strings.Join(parts, "/"); checkKey(key) == nil {
			return key
		}
	}
}

// page is what List must say of keys.
func page(keys []string, l Listing) (all []string, truncated bool) {
	for _, key := range keys {
		if key <= l.After || !strings.HasPrefix(key, l.Prefix) || l.Folded != "" && strings.HasPrefix(key, l.Folded) {
			continue
		}
		if i := strings.Index(key[len(l.Prefix):], l.Delimiter); l.Delimiter != "" && i >= 0 {
			key = "folded " + key[:len(l.Prefix)+i+len(l.Delimiter)]
		}
		if len(all) > 0 && all[len(all)-1] == key {
			continue
		}
		if len(all) == l.Max {
			return all, l.Max > 0
		}
		all = append(all, key)
	}
	return all, false
}

func listed(p Page) []string {
	var all []string
	for _, o := range p.Objects {
		all = append(all, o.Key)
	}
	for _, f := range p.Prefixes {
		all = append(all, "folded "+f)
	}
	slices.SortFunc(all, func(a, b string) int {
		return strings.Compare(strings.TrimPrefix(a, "folded "), strings.TrimPrefix(b, "folded "))
	})
	return all
}

func checkGet(t *testing.T, s *Store, model map[string]string, key string) {
	t.Helper()
	got, _, err := s.Get(t.Context(), "bucket", key, 4000)
	want, ok := model[key]
	if ok && err != nil || !ok && !errors.Is(err, sink.ErrNotFound) || string(got) != want {
		t.Fatalf("get %q: %q, %v, want %q", key, got, err, want)
	}
}

// Whatever keys there are, the store has what a map has, lists it in order, and
// nothing gets out of the bucket's folder.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "objects"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.sync = func(string) error { return nil } // TestFoldersAreSynced
	if err := s.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	model := map[string]string{}
	for i := range 600 {
		key := someKey(r)
		switch r.IntN(5) {
		case 0, 1:
			text := fmt.Sprintf("%d:%s", i, key)
			if err := s.Put(t.Context(), "bucket", key, func(w io.Writer) error {
				_, err := io.WriteString(w, text)
				return err
			}); err != nil {
				t.Fatalf("put %q: %v", key, err)
			}
			model[key] = text
		case 2:
			if err := s.Delete("bucket", key, Condition{}); err != nil {
				t.Fatalf("delete %q: %v", key, err)
			}
			delete(model, key)
		case 3:
			checkGet(t, s, model, key)
		case 4:
			checkListing(t, r, s, model)
		}
		for _, key := range nested {
			checkGet(t, s, model, key)
		}
	}
	above, err := os.ReadDir(dir)
	if err != nil || len(above) != 1 {
		t.Errorf("beside the store: %v, %v", above, err)
	}
	if top, err := os.ReadDir(s.Path()); err != nil || len(top) != 2 {
		t.Errorf("in the store: %v, %v; want .tmp and bucket", top, err)
	}
	for key := range model {
		if err := s.Delete("bucket", key, Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteBucket("bucket"); err != nil {
		t.Error(err)
	}
}

func checkListing(t *testing.T, r *rand.Rand, s *Store, model map[string]string) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(model))
	l := Listing{Max: 1 + r.IntN(20)}
	if r.IntN(2) == 0 {
		l.Delimiter = []string{"/", "a", "a/", "!"}[r.IntN(4)]
	}
	if r.IntN(2) == 0 {
		l.Prefix = someKey(r)[:1]
	} else if r.IntN(2) == 0 {
		l.Prefix = someKey(r)
	}
	if r.IntN(2) == 0 {
		l.After = someKey(r)
	}
	for {
		want, truncated := page(keys, l)
		p, err := s.List(t.Context(), "bucket", l)
		if got := listed(p); err != nil || !slices.Equal(got, want) || p.Truncated != truncated {
			t.Fatalf("%+v of %q:\n got %q %v %v\nwant %q %v", l, keys, got, p.Truncated, err, want, truncated)
		}
		if !p.Truncated {
			return
		}
		l.After, l.Folded = p.Next, p.NextFolded
	}
}

// A folder of more names than a batch is listed whole and in order.
func TestListLarge(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var want []string
	for _, at := range []string{"b", "b/" + escapedKeys} {
		if err := os.MkdirAll(filepath.Join(s.Path(), "bucket", at), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5*batch + 17 {
		key := fmt.Sprintf("b/%06d", i*7919%1_000_003)
		want = append(want, key)
		at := key
		if i%2 == 0 {
			at = escaped(key)
		}
		at = filepath.Join(s.Path(), "bucket", at)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte("v"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	var got []string
	for l := (Listing{Max: 1000}); ; {
		p, err := s.List(t.Context(), "bucket", l)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, listed(p)...)
		if !p.Truncated {
			break
		}
		l.After = p.Next
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d keys, want %d in order", len(got), len(want))
	}
}
