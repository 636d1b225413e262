package boltfile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// aged makes a file in which each key was written several times and some were
// deleted, so that it is full of older pages, and returns its bytes and what the
// last commit holds.
func aged(t *testing.T, rnd *rand.Rand) (raw []byte, model map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, PageSize: 1024})
	if err != nil {
		t.Fatal(err)
	}
	model = map[string]string{}
	for round := range 40 {
		err := db.Update(func(tx *bbolt.Tx) error {
			for range 60 {
				bucket, key := fmt.Sprint("b", rnd.IntN(3)), fmt.Sprintf("k%03d", rnd.IntN(300))
				b, err := tx.CreateBucketIfNotExists([]byte(bucket))
				if err != nil {
					return err
				}
				if rnd.IntN(4) == 0 {
					delete(model, bucket+"/"+key)
					if err := b.Delete([]byte(key)); err != nil {
						return err
					}
					continue
				}
				value := fmt.Sprint(round, " ", string(bytes.Repeat([]byte("v"), rnd.IntN(80))))
				model[bucket+"/"+key] = value
				if err := b.Put([]byte(key), []byte(value)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if raw, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return raw, model
}

// salvage returns what is found, by "bucket/key", the buckets that may be
// incomplete ("" for the root), and whether the last commit is certain.
func salvage(t *testing.T, raw []byte) (found map[string]string, lost map[string]bool, sure bool, err error) {
	t.Helper()
	found, lost = map[string]string{}, map[string]bool{}
	sure, err = Salvage(bytes.NewReader(raw), int64(len(raw)), 1, func(it Item) error {
		if it.Key != nil {
			found[string(it.Path[0])+"/"+string(it.Key)] = string(it.Value)
		}
		return nil
	}, func(path [][]byte, err error) {
		name := ""
		if len(path) > 0 {
			name = string(path[0])
		}
		lost[name] = true
	})
	return found, lost, sure, err
}

// Of a file with pages damaged at random all is found that was there, in the newest
// version and none else, but for the buckets that are named; and much of those.
func TestSalvage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	raw, model := aged(t, rnd)
	if found, lost, sure, err := salvage(t, raw); err != nil || len(lost) > 0 || !sure ||
		fmt.Sprint(found) != fmt.Sprint(model) {
		t.Fatalf("sound: %d of %d, lost %v, sure %v, %v", len(found), len(model), lost, sure, err)
	}
	pages, kept, certain := len(raw)/1024, 0, 0
	const tries = 400
	for try := range tries {
		b := bytes.Clone(raw)
		for range 1 + rnd.IntN(3) {
			page := b[1024*(2+rnd.IntN(len(b)/1024-2)):][:1024]
			switch rnd.IntN(4) {
			case 0:
				clear(page)
			case 3: // the file ends early
				b = b[:1024*(pages*3/4)+rnd.IntN(256*pages)]
			case 1:
				for i := range page {
					page[i] = byte(rnd.Uint32())
				}
			default: // one page in the place of another
				copy(page, raw[1024*rnd.IntN(pages):][:1024])
			}
		}
		found, lost, sure, err := salvage(t, b)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range found {
			if want, ok := model[name]; !ok || value != want {
				t.Fatalf("seed %d try %d: %s is %q, want %q (there: %v), sure %v", seed, try, name, value, want, ok,
					sure)
			}
		}
		for name := range model {
			if _, ok := found[name]; !ok && !lost[name[:2]] && !lost[""] {
				t.Fatalf("seed %d try %d: %s is lost, and not said: %v", seed, try, name, lost)
			}
		}
		kept += len(found)
		if sure {
			certain++
		}
	}
	if kept < tries*len(model)/2 || certain < tries/2 {
		t.Errorf("seed %d: %d of %d were kept, %d of %d times certain", seed, kept, tries*len(model), certain, tries)
	}
	t.Logf("%d of %d kept, certain %d of %d times", kept, tries*len(model), certain, tries)
	one := bytes.Clone(raw)
	one[pageHeader+20] ^= 1
	if _, _, sure, err := salvage(t, one); sure || err != nil {
		t.Errorf("one meta page: sure %v, %v", sure, err)
	}
}

// Whatever the bytes, Salvage comes to an end.
func FuzzSalvage(f *testing.F) {
	good := filled(f, bbolt.Options{PageSize: 1024})
	f.Add(uint32(3), uint32(8), []byte{1, 0})
	f.Fuzz(func(t *testing.T, page, at uint32, with []byte) {
		b := bytes.Clone(good)
		copy(b[int(page)%(len(b)/1024)*1024+int(at)%1024:], with)
		_, _ = Salvage(bytes.NewReader(b), int64(len(b)), 2, func(Item) error { return nil }, func([][]byte, error) {})
	})
}
