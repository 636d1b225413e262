package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// filled makes a file of several levels of pages, with an overflow page, a
// bucket with pages of its own, an inline one and buckets within it, and
// returns its bytes.
func filled(t testing.TB, o bbolt.Options) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := bbolt.Open(path, 0o600, &o)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		err = db.Update(func(tx *bbolt.Tx) error {
			large, err := tx.CreateBucketIfNotExists([]byte("large"))
			if err != nil {
				return err
			}
			for i := range 200 {
				if err := large.Put(fmt.Appendf(nil, "key-%04d", i),
					bytes.Repeat([]byte{byte(round)}, 5*i)); err != nil {
					return err
				}
			}
			if err := large.Put([]byte("long"), make([]byte, 20000)); err != nil {
				return err
			}
			outer, err := tx.CreateBucketIfNotExists([]byte("outer"))
			if err != nil {
				return err
			}
			inner, err := outer.CreateBucketIfNotExists([]byte("inner"))
			if err != nil {
				return err
			}
			return inner.Put([]byte("k"), []byte("v"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(b []byte, nesting int) (Info, error) {
	return Check(bytes.NewReader(b), int64(len(b)), nesting)
}

func TestCheck(t *testing.T) {
	for _, size := range []int{1 << 10, 4 << 10, 16 << 10, 64 << 10} {
		for _, unsynced := range []bool{false, true} {
			good := filled(t, bbolt.Options{PageSize: size, NoFreelistSync: unsynced})
			if info, err := check(good, 2); err != nil || info != (Info{PageSize: size}) {
				t.Errorf("pages of %d, free list %v: %+v, %v", size, !unsynced, info, err)
			}
			if _, err := check(good, 1); !errors.Is(err, ErrDamaged) {
				t.Errorf("pages of %d: buckets deeper than allowed: %v", size, err)
			}
			for meta := range 2 {
				torn := bytes.Clone(good)
				torn[meta*size+pageHeader+20] ^= 1
				if info, err := check(torn, 2); err != nil || info != (Info{PageSize: size, OneMeta: true}) {
					t.Errorf("pages of %d, meta page %d torn: %+v, %v", size, meta, info, err)
				}
			}
		}
	}
	good := filled(t, bbolt.Options{PageSize: 4096})
	old := bytes.Clone(good)
	for meta := range 2 { // another version, its sum right: bbolt takes neither
		m := old[meta*4096+pageHeader:]
		order.PutUint32(m[4:], version+1)
		order.PutUint64(m[56:], sum(m))
	}
	newest := good[pageHeader:]
	if second := good[4096+pageHeader:]; order.Uint64(second[48:]) > order.Uint64(newest[48:]) {
		newest = second
	}
	free := int(order.Uint64(newest[32:])) * 4096
	branch := 0 // one that is in use: the free list has the others
	for at := 2 * 4096; at < len(good); at += 4096 {
		id := uint64(at / 4096)
		if order.Uint64(good[at:]) == id && order.Uint16(good[at+8:]) == flagBranch &&
			!bytes.Contains(good[free+pageHeader:free+4096], binary.NativeEndian.AppendUint64(nil, id)) {
			branch = at
		}
	}
	if n := order.Uint16(good[free+10:]); branch == 0 || n < 2 {
		t.Fatalf("branch page at %d, %d free pages", branch, n)
	}
	set := func(at int, v uint64) []byte {
		b := bytes.Clone(good)
		order.PutUint64(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"empty":            {},
		"other":            bytes.Repeat([]byte("no database "), 4096),
		"of a new version": old,
		"cut":              good[:len(good)/2],
		"two meta pages":   good[:2*4096],
		"circle":           set(branch+pageHeader+8, uint64(branch/4096)),
		"page of nowhere":  set(branch+pageHeader+8, 1<<40),
		"free and in use":  set(free+pageHeader, uint64(branch/4096)),
		"free twice":       set(free+pageHeader, order.Uint64(good[free+pageHeader+8:])),
	} {
		if _, err := check(b, 2); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sum(m []byte) uint64 {
	h := uint64(14695981039346656037) // FNV-1a, 64 bits
	for _, c := range m[:56] {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// What Check lets through, bbolt opens, reads and writes, without a panic.
func FuzzCheck(f *testing.F) {
	goods := [2][]byte{filled(f, bbolt.Options{PageSize: 1024}),
		filled(f, bbolt.Options{PageSize: 1024, NoFreelistSync: true})}
	f.Add(uint32(0), uint32(0), []byte{1}, false)
	f.Add(uint32(3), uint32(8), []byte{1, 0}, true)
	f.Add(uint32(4), uint32(16), []byte{0xFF, 0xFF, 0xFF}, false)
	f.Fuzz(func(t *testing.T, page, at uint32, with []byte, unsynced bool) {
		good := goods[0]
		if unsynced {
			good = goods[1]
		}
		b := bytes.Clone(good)
		copy(b[int(page)%(len(b)/1024)*1024+int(at)%1024:], with)
		info, err := check(b, 2)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "a.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: unsynced})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if got := db.Info().PageSize; got != info.PageSize {
			t.Fatalf("pages of %d, bbolt says %d", info.PageSize, got)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			if err := walk(tx.Cursor().Bucket()); err != nil {
				return err
			}
			n, err := tx.CreateBucketIfNotExists([]byte("new"))
			if err != nil {
				return err
			}
			return n.Put(binary.BigEndian.AppendUint64(nil, 1), make([]byte, 3000))
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func walk(b *bbolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			if in := b.Bucket(k); in != nil {
				return walk(in)
			}
		}
		return nil
	})
}
