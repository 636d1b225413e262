package backup

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// TestRestoreLarge restores 10,000 things and a log of TIDEMILL_RESTORE_MB megabytes
// (64 without it), compares all records with what was written, and tells how long it took
// beside cp of the same files.
func TestRestoreLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes some hundred megabytes")
	}
	megabytes := 64
	if s := os.Getenv("TIDEMILL_RESTORE_MB"); s != "" {
		var err error
		if megabytes, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	b := newBridge(t)
	for from := 0; from < 10_000; from += 1000 {
		b.registry(func(tx *registry.Tx) error {
			for i := range 1000 {
				if err := tx.CreateThing(registry.Thing{Name: fmt.Sprint("pump-", from+i)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	const recordSize, together = 300, 3000 // of a reading; in one commit
	random := rand.NewChaCha8([32]byte{1})
	records := 0
	b.log(func(s *pebble.Store) {
		b.ok(s.Create("large", streams.Config{Shards: 4}))
		for records*recordSize < megabytes<<20 {
			x := s.NewBatch()
			for i := range together {
				data := make([]byte, recordSize)
				_, _ = random.Read(data[:recordSize/2]) // half of it can be compressed
				x.Append("large", i%4, streams.Record{Key: "k", Data: data})
			}
			b.ok(s.Commit(t.Context(), x))
			records += together
		}
	})
	want := sums(t, b.dir)
	began := time.Now()
	b.backup(nil)
	backedUp := time.Since(began)
	o := b.options(filepath.Join(t.TempDir(), "new"))
	o.Revocations = b.revocations(time.Now().Add(time.Hour))
	began = time.Now()
	r, err := Restore(t.Context(), o)
	b.ok(err)
	restored := time.Since(began)
	began = time.Now()
	copied := filepath.Join(t.TempDir(), "copy")
	cmd := exec.Command("sh", "-c", `cp -a "$1" "$2" && sync -f "$2"`, "sh", b.dir, copied)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cp := time.Since(began)
	if got := sums(t, o.Dir); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
	things := 0
	openRegistry(t, o.Dir, func(reg *registry.Registry) {
		b.ok(reg.View(func(tx *registry.Tx) error {
			for after := ""; ; {
				names, next, err := tx.ThingNames(after, registry.MaxPage)
				if things += len(names); err != nil || next == "" {
					return err
				}
				after = next
			}
		}))
	})
	if things != 10_003 {
		t.Errorf("%d things", things)
	}
	t.Logf("%d things, %d records, %d MB in %d files: backed up in %v, restored in %v; cp and sync of the same take %v",
		things, records, r.Bytes>>20, r.Files, backedUp, restored, cp)
}

// sums are the SHA-256 of all records of each shard of a log, with their count.
func sums(t *testing.T, dir string) (all string) {
	t.Helper()
	openStore(t, dir, func(s *pebble.Store) {
		for i := range 4 {
			sum, n := sha256.New(), 0
			for from := uint64(0); ; {
				recs, err := s.Read("large", i, from, 10_000, 8<<20)
				if err != nil {
					t.Fatal(err)
				}
				if len(recs) == 0 {
					break
				}
				for _, r := range recs {
					add(sum, r)
				}
				n, from = n+len(recs), recs[len(recs)-1].Offset+1
			}
			all += fmt.Sprintf("%d:%d:%x ", i, n, sum.Sum(nil))
		}
	})
	return all
}

func add(sum hash.Hash, r streams.Record) {
	fmt.Fprint(sum, r.Offset, r.Time, r.Key)
	sum.Write(r.Data)
}
