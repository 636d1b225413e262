package spool

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// filled makes a spool of n batches in several pages, some acknowledged, and
// returns the file's bytes.
func filled(t testing.TB, n int64) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range n {
		if err := fat(t, s, i, int(i*37%1000)); err != nil {
			t.Fatal(err)
		}
		flushed(t, s)
		if i%5 == 0 {
			s.Ack(uint64(i/2) + 1)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// use does with a spool what an agent does. Its file may be damaged anywhere.
func use(t *testing.T, path string) Stats {
	t.Helper()
	var log strings.Builder
	s := open(t, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if strings.Contains(log.String(), errPanic.Error()) {
		t.Fatalf("check let it through to bbolt: %s", log.String())
	}
	var last uint64
	for seq, p := take(t, s, 0); seq != 0; seq, p = take(t, s, seq) {
		if _, err := telemetry.Decode(p); err != nil || seq <= last {
			t.Fatalf("batch %d after %d: %v", seq, last, err)
		}
		last = seq
		s.Ack(seq)
	}
	add(t, s, 1)
	flushed(t, s)
	if seq, _ := take(t, s, last); seq <= last {
		t.Fatalf("no new batch after %d", last)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.Stats()
}

// Pages are overwritten, exchanged, zeroed, and the file cut short, at random:
// Open and what follows work, on the old file or a new one.
func TestTornPages(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	good := filled(t, 120)
	pages := len(good) / pageSize
	aside, dropped := 0, 0
	for range rounds {
		b := append([]byte(nil), good...)
		for range 1 + r.IntN(3) {
			page := b[r.IntN(pages)*pageSize:][:pageSize]
			switch r.IntN(6) {
			case 0: // half of the page is another's
				copy(page[pageSize/2:], b[r.IntN(pages)*pageSize:][:pageSize/2])
			case 1: // the whole page
				copy(page, b[r.IntN(pages)*pageSize:][:pageSize])
			case 2:
				clear(page[r.IntN(pageSize):])
			case 3: // bits
				for range 1 + r.IntN(8) {
					page[r.IntN(pageSize)] ^= 1 << r.IntN(8)
				}
			case 4: // in the page's head and elements
				page[r.IntN(64)] = byte(r.Uint32())
			case 5:
				for i := r.IntN(pageSize); i < pageSize; i++ {
					page[i] = byte(r.Uint32())
				}
			}
		}
		if r.IntN(8) == 0 {
			b = b[:r.IntN(len(b))]
		}
		path := filepath.Join(t.TempDir(), "spool.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		st := use(t, path)
		aside += int(st.SetAside)
		dropped += int(st.Corrupt)
		if again := use(t, path); again.SetAside != 0 {
			t.Fatalf("set aside again: %+v", again)
		}
	}
	t.Logf("%d files of %d pages: %d set aside, %d batches dropped", rounds, pages, aside, dropped)
	if aside == 0 || aside == rounds {
		t.Errorf("%d of %d set aside: the test sees one side only", aside, rounds)
	}
}

// A bit of a stored batch costs that batch and no other.
func TestOneBadBatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range int64(5) {
		add(t, s, i)
		add(t, s, i)
		flushed(t, s)
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketBatches)
		v := append([]byte(nil), b.Get(batchKey(3))...)
		v[len(v)-1] ^= 4
		return b.Put(batchKey(3), v)
	})
	if err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for seq, _ := take(t, s, 0); seq != 0; seq, _ = take(t, s, seq) {
		seqs = append(seqs, seq)
	}
	if len(seqs) != 4 || seqs[2] != 4 {
		t.Fatalf("batches %v", seqs)
	}
	flushed(t, s)
	if st := s.Stats(); st.Corrupt != 1 || st.Dropped != 2 || st.Batches != 4 || st.Readings != 8 || st.SetAside != 0 {
		t.Fatalf("%+v", st)
	}
}

// A panic inside of bbolt, while the agent runs, costs the file and not the
// agent: numbers go on, readings in memory stay.
func TestPanicWhileRunning(t *testing.T) {
	for _, where := range []string{"read", "flush"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "spool.db")
			s := open(t, path, Options{})
			for i := range int64(100) {
				if err := fat(t, s, i, 900); err != nil {
					t.Fatal(err)
				}
				flushed(t, s)
			}
			id := s.Stats().ID
			// The medium forgets all but the meta pages.
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := f.Stat()
			junk := make([]byte, info.Size()-2*pageSize)
			for i := range junk {
				junk[i] = byte(i * 7)
			}
			if _, err := f.WriteAt(junk, 2*pageSize); err != nil {
				t.Fatal(err)
			}
			f.Close()
			add(t, s, 100)
			if where == "read" {
				if _, _, err := s.find(s.db, 0, s.st.seq); err != nil {
					t.Fatal(err)
				}
			}
			flushed(t, s)
			st := s.Stats()
			if st.SetAside != 1 || st.ID != id || st.Readings != 1 || st.Dropped != 100 || st.Unflushed != 0 {
				t.Fatalf("%+v", st)
			}
			if seq, _ := take(t, s, 100); seq != 101 {
				t.Fatalf("batch %d, want 101", seq)
			}
			s.Ack(50) // late
			flushed(t, s)
			if st := s.Stats(); st.Batches != 1 {
				t.Fatalf("%+v", st)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if use(t, path).SetAside != 0 {
				t.Fatal("the new file is damaged")
			}
		})
	}
}

// Truncating the file under the mapping is SIGBUS at the next touch.
func TestTruncatedWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range int64(100) {
		if err := fat(t, s, i, 900); err != nil {
			t.Fatal(err)
		}
		flushed(t, s)
	}
	if err := os.Truncate(path, 2*pageSize); err != nil {
		t.Fatal(err)
	}
	add(t, s, 100)
	if seq, _ := take(t, s, 0); seq != 0 {
		t.Fatalf("batch %d from a file that is gone", seq)
	}
	flushed(t, s)
	if st := s.Stats(); st.SetAside != 1 || st.Readings != 1 {
		t.Fatalf("%+v", st)
	}
}

func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "spool.db")
	var log strings.Builder
	for i := range 4 {
		if err := os.WriteFile(path, []byte(strings.Repeat("no database", 3000+i)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(path); !errors.Is(err, errDamaged) {
			t.Fatalf("Inspect: %v", err)
		}
		s := open(t, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		add(t, s, 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.SetAside != 1 || st.Appended != 1 {
			t.Fatalf("%+v", st)
		}
	}
	names, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(names) != boltfile.Keep {
		t.Fatalf("kept %v, %v", names, err)
	}
	if n := strings.Count(log.String(), "it is set aside"); n != 4 {
		t.Fatalf("%d errors in the log", n)
	}
	// A bbolt file that is not ours.
	os.Remove(path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("other"))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if st := use(t, path); st.SetAside != 1 {
		t.Fatalf("%+v", st)
	}
}

// When a meta page is torn, the last commit is gone, and with it the record of
// the sequence numbers it used: they are not used again.
func TestTornMeta(t *testing.T) {
	good := filled(t, 9)
	for page := range 2 {
		b := append([]byte(nil), good...)
		clear(b[page*pageSize+100 : (page+1)*pageSize])
		b[page*pageSize+20] ^= 0xFF
		path := filepath.Join(t.TempDir(), "spool.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, Options{})
		if s.Stats().SetAside != 0 {
			t.Fatalf("meta page %d: set aside", page)
		}
		add(t, s, 1)
		flushed(t, s)
		if s.st.seq <= 9 || s.st.seq < seqSkip {
			t.Fatalf("meta page %d: new batch is %d", page, s.st.seq)
		}
	}
}

// check never panics and never lets through what makes bbolt panic at open.
func FuzzCheck(f *testing.F) {
	good := filled(f, 12)
	f.Add(uint32(0), uint32(0), []byte{1})
	f.Add(uint32(3), uint32(8), []byte{1, 0})
	f.Add(uint32(4), uint32(16), []byte{0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, page, at uint32, with []byte) {
		b := append([]byte(nil), good...)
		off := int(page)%(len(b)/pageSize)*pageSize + int(at)%pageSize
		copy(b[off:], with)
		path := filepath.Join(t.TempDir(), "spool.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, _, err := openFile(path, false)
		if err != nil {
			if !errors.Is(err, errDamaged) || errors.Is(err, errPanic) {
				t.Fatal(err)
			}
			return
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
