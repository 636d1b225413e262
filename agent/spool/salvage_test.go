package spool

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// contents returns the batches that a spool gives out, by number.
func contents(t *testing.T, s *Spool) map[uint64]string {
	t.Helper()
	out := map[uint64]string{}
	for seq, p := take(t, s, 0); seq != 0; seq, p = take(t, s, seq) {
		if h, _ := numbers(t, p); h.Seq != seq || h.Spool != s.Stats().ID {
			t.Fatalf("batch %d of spool %x says %d of %x", seq, s.Stats().ID, h.Seq, h.Spool)
		}
		out[seq] = string(p)
	}
	return out
}

// outage makes a spool as an outage leaves it: 704 batches of one reading each,
// of 900 written, the others acknowledged before.
func outage(t *testing.T) (file []byte, want map[uint64]string, id [16]byte) {
	t.Helper()
	outageOnce.Do(func() { outageFile, outageWant, outageID = makeOutage(t) })
	return outageFile, outageWant, outageID
}

var (
	outageOnce sync.Once
	outageFile []byte
	outageWant map[uint64]string
	outageID   [16]byte
)

func makeOutage(t *testing.T) (file []byte, want map[uint64]string, id [16]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range int64(900) {
		add(t, s, i)
		flushed(t, s)
		if i < 196 {
			s.Ack(uint64(i) + 1)
		}
	}
	flushed(t, s)
	want, id = contents(t, s), s.Stats().ID
	if len(want) != 704 {
		t.Fatalf("%d batches", len(want))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, want, id
}

// One bad page, whichever it is, costs at most the batches in it.
func TestSalvage(t *testing.T) {
	file, want, id := outage(t)
	const inPage = pageSize / 90 // a batch here has 57 bytes, with head, key and element 97
	for page := range len(file) / pageSize {
		for kind, spoil := range map[string]func(b []byte){
			"head":  func(b []byte) { copy(b[page*pageSize:], bytes.Repeat([]byte{0xA5}, 16)) },
			"whole": func(b []byte) { clear(b[page*pageSize : (page+1)*pageSize]) },
			"metas": func(b []byte) { clear(b[:2*pageSize]); b[page*pageSize+9] ^= 0x40 },
		} {
			if kind != "whole" && page%4 != 0 {
				continue
			}
			b := bytes.Clone(file)
			spoil(b)
			path := filepath.Join(t.TempDir(), "spool.db")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			s := open(t, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			st := s.Stats()
			got := contents(t, s)
			var lost []uint64
			for seq, p := range want {
				if got[seq] == "" {
					lost = append(lost, seq)
				} else if got[seq] != p {
					t.Fatalf("%s of page %d: batch %d is another", kind, page, seq)
				}
			}
			allowed := 0
			if kind == "whole" {
				allowed = inPage
			}
			if len(lost) > allowed || st.ID != id {
				t.Fatalf("%s of page %d: lost %d batches: %v, id %x, want %x", kind, page, len(lost), lost, st.ID, id)
			}
			if extra := len(got) + len(lost) - len(want); extra > len(lost) && kind != "metas" {
				t.Errorf("%s of page %d: %d batches that were acknowledged came back", kind, page, extra)
			}
			if st.Appended != st.Acked+st.Dropped+st.Readings || st.Readings != uint64(len(got)) {
				t.Errorf("%s of page %d: sums %+v", kind, page, st)
			}
			if st.SetAside > 0 {
				if st.Salvage == nil || st.Salvage.Saved != uint64(len(got)) || st.Salvage.Known &&
					st.Salvage.Lost > uint64(len(lost)) {
					t.Errorf("%s of page %d: lost %d, said %+v", kind, page, len(lost), st.Salvage)
				}
				if !strings.Contains(log.String(), path) || !strings.Contains(log.String(), "saved_readings=") {
					t.Errorf("the log does not say it:\n%s", &log)
				}
			}
			add(t, s, 1)
			flushed(t, s)
			if seq, _ := take(t, s, 900); seq <= 900 || st.SetAside > 0 && seq < 900+seqSkip {
				t.Fatalf("%s of page %d: the next batch is %d, numbers may collide", kind, page, seq)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if again := open(t, path, Options{}); again.Stats().SetAside != 0 {
				t.Fatalf("%s of page %d: set aside again", kind, page)
			}
		}
	}
}

// bbolt leaves the page as it was that a deletion changed, so what was
// acknowledged can still be read there. It does not come back.
func TestSalvageLeavesOutWhatWasAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range int64(10) {
		add(t, s, i)
		flushed(t, s)
	}
	for seq := range uint64(4) {
		s.Ack(seq + 1)
	}
	flushed(t, s)
	want := contents(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := scan(bytes.NewReader(file), int64(len(file)), scanWindow); len(found) != 10 {
		t.Fatalf("%d batches can be found in the file, want all 10", len(found))
	}
	clear(file[:2*pageSize]) // both metas: nothing leads to the tree
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if got, st := contents(t, s), s.Stats(); !maps.Equal(got, want) || len(got) != 6 || st.Acked != 4 ||
		*st.Salvage != (Salvage{6, 0, true}) {
		t.Fatalf("batches %v of 5 to 10; %+v, salvage %+v", slices.Sorted(maps.Keys(got)), st, st.Salvage)
	}
}

// A salvage that a power cut ends is done again, or was complete.
func TestSalvageCut(t *testing.T) {
	file, want, _ := outage(t)
	bad := bytes.Clone(file)
	clear(bad[:2*pageSize])
	dir := t.TempDir()
	path := filepath.Join(dir, "spool.db")
	half := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	half(path, bad)
	half(path+renewed, file[:len(file)/2])
	s := open(t, path, Options{})
	if got := contents(t, s); len(got) < len(want) {
		t.Fatalf("%d batches after a cut while writing, want %d", len(got), len(want))
	}
	s.Close()
	if err := os.Rename(path, path+renewed); err != nil { // set aside, and cut
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if got := contents(t, s); len(got) < len(want) {
		t.Fatalf("%d batches after a cut before the last step, want %d", len(got), len(want))
	}
	if _, err := os.Stat(path + renewed); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// whole says whether a batch stands in the file with its number and sum.
func whole(file []byte, seq uint64, payload string) bool {
	const before = keyBytes + headBytes
	for at := 0; ; at++ {
		next := bytes.Index(file[at:], []byte(payload))
		if next < 0 {
			return false
		}
		if at += next; at >= before {
			got, _, ok := openBatch(file[at-before:at-headBytes], file[at-headBytes:at+len(payload)])
			if ok && got == seq {
				return true
			}
		}
	}
}

// Damage at random: what is given back was written, each batch that the damage
// did not touch is, though it be in a page whose head is torn, and nothing panics.
func TestSalvageTorn(t *testing.T) {
	file, want, _ := outage(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for range 15 {
		b := bytes.Clone(file)
		tears := 1 + r.IntN(6)
		for range tears {
			at, n := r.IntN(len(b)), r.IntN(2*pageSize)
			for i := at; i < min(at+n, len(b)); i++ {
				b[i] = byte(r.Uint32())
			}
		}
		path := filepath.Join(t.TempDir(), "spool.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, Options{})
		got := contents(t, s)
		for seq, p := range got {
			if w, ok := want[seq]; ok && w != p {
				t.Fatalf("batch %d is another", seq)
			}
		}
		for seq, p := range want {
			if got[seq] == "" && whole(b, seq, p) {
				t.Errorf("batch %d is whole in the file and did not come back, after %d tears", seq, tears)
			}
		}
		s.Close()
	}
}

// Damage while the agent runs: what can be read stays, what was acknowledged
// does not come back, numbers go on, and readings in memory stay.
func TestSalvageWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range int64(300) {
		add(t, s, i)
		flushed(t, s)
	}
	id := s.Stats().ID
	for seq := range uint64(100) {
		s.Ack(seq + 1)
	}
	// The branch page forgets itself.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := branch(t, s.db)
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x5A}, pageSize), root*pageSize); err != nil {
		t.Fatal(err)
	}
	add(t, s, 300)
	flushed(t, s)
	got := contents(t, s)
	st := s.Stats()
	if st.SetAside != 1 || st.ID != id || len(got) != 201 || st.Appended != 301 || st.Dropped != 0 || st.Acked != 100 ||
		*st.Salvage != (Salvage{200, 0, true}) {
		t.Fatalf("%d batches, %+v, %+v", len(got), st, st.Salvage)
	}
	for seq := uint64(101); seq <= 301; seq++ {
		if got[seq] == "" {
			t.Errorf("batch %d is missing", seq)
		}
	}
}

// branch returns the page at the top of the batches' tree.
func branch(t *testing.T, db *bbolt.DB) (page int64) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		page = int64(tx.Bucket(bucketBatches).Root())
		return nil
	})
	if err != nil || page == 0 {
		t.Fatalf("page %d, %v", page, err)
	}
	return page
}

// A batch and a state are found across the windows of the scan, behind one that
// begins and is torn.
func TestScanAcrossWindows(t *testing.T) {
	payload, err := telemetry.Append(nil,
		&telemetry.Batch{Header: telemetry.Header{Seq: 7}, Series: []telemetry.Series{{Sensor: "n", Times: []int64{1},
			Columns: []telemetry.Column{{Name: "n", Unit: "1", Kind: telemetry.Int, Ints: []int64{1}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	stored := append(batchKey(7), append(make([]byte, headBytes), payload...)...)
	sealBatch(stored[keyBytes:], 7, 5, 1)
	known := append(slices.Clone(keyState), (&state{id: [16]byte{1}, seq: 9}).append(nil)...)
	torn := bytes.Clone(stored)
	torn[len(torn)-1] ^= 1
	const window = 2 * pageSize // the smaller, the sooner it is scanned
	for before := range len(torn) + len(stored) + len(known) {
		file := slices.Concat(make([]byte, window-before), torn, stored, known)
		if found, st := scan(bytes.NewReader(file), int64(len(file)), window); len(found) != 1 || found[0].seq != 7 ||
			found[0].n != len(stored)-keyBytes || st.seq != 9 {
			t.Fatalf("%d bytes before the window's end: %+v, %+v", before, found, st)
		}
	}
}
