package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/deploy/nightly"
)

// A journal keeps what is logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// whole makes a store on the disk with tables, values in files of their own, a
// WAL and a manifest.
func whole(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for range 2 { // each start flushes what was in the WAL
		s, stop := start(t, dir, Options{MemTableSize: 256 << 10})
		if err := s.Create("a", streams.Config{Shards: 2}); err != nil && !errors.Is(err, streams.ErrExists) {
			t.Fatal(err)
		}
		for i := range 200 {
			commit(t, s, func(b *streams.Batch) {
				b.Append("a", i%2, rec("k", strings.Repeat(fmt.Sprint(i, " "), 1+i*10)))
				b.Set([]byte{byte(i)}, []byte("v"))
			})
		}
		stop()
	}
	return dir
}

// readAll reads what a store holds, all of it.
func readAll(s *Store) (records int, err error) {
	for shard := range 2 {
		for at := uint64(0); ; {
			rs, err := s.Read("a", shard, at, 100, 1<<20)
			if err != nil {
				return records, err
			}
			if len(rs) == 0 {
				break
			}
			records += len(rs)
			at = rs[len(rs)-1].Offset + 1
		}
	}
	return records, s.Scan(nil, func(_, _ []byte) bool { return true })
}

// use opens a store, reads all, writes, and closes it. A panic ends the test
// program, in whatever goroutine.
func use(dir string, log *slog.Logger) (records int, pos streams.Position, missing int, err error) {
	s, err := Open(dir, Options{Log: log, MemTableSize: 256 << 10})
	if err != nil {
		return 0, pos, 0, err
	}
	pos, missing = s.Position(), s.Missing()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	records, err = readAll(s)
	for range 20 {
		b := s.NewBatch()
		b.Append("a", 0, streams.Record{Key: "k", Data: make([]byte, 10_000)})
		err = errors.Join(err, s.Commit(ctx, b))
	}
	cancel()
	return records, pos, missing, errors.Join(err, <-ran, s.Close())
}

// Damage anywhere never ends the program, and what is missing is known: an error
// that names the file, or the position, which is kept elsewhere.
func TestDamage(t *testing.T) {
	from := whole(t)
	want, pos, _, err := use(copyOf(t, from), slog.New(slog.DiscardHandler))
	if err != nil || want == 0 {
		t.Fatal(want, err)
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range rnd.Perm(ways)[:nightly.Or(2, ways)] { // each run others
			dir := copyOf(t, from)
			path := filepath.Join(dir, f.Name())
			what := damage(t, rnd, path, info.Size(), i)
			log := &journal{}
			got, at, missing, err := use(dir, slog.New(slog.NewTextHandler(log, nil)))
			name := f.Name()
			switch {
			case i == 0 && strings.HasSuffix(name, ".blob"):
				name = "*.blob" // which one is missing nobody knows
			case i == 0 && strings.HasPrefix(name, "marker."):
				name = "marker."
			}
			id := fmt.Sprintf("seed %d: %s %s: %d of %d records, %+v of %+v", seed, name, what, got, want, at, pos)
			if err != nil && strings.Contains(err.Error(), "carrier") {
				t.Errorf("%s: words of Pebble's own: %v", id, err)
			}
			switch {
			case err != nil && strings.Contains(err.Error(), name), strings.Contains(log.String(), name):
				kinds["named"]++
			case err != nil:
				t.Errorf("%s: the error does not name the file: %v\n%s", id, err, log)
			case got == want:
				kinds["harmless"]++
			case missing > 0:
				kinds["a hole"]++
			case at.Commits < pos.Commits:
				kinds["ends early"]++
			default:
				t.Errorf("%s: nothing tells", id)
			}
			os.RemoveAll(dir)
		}
	}
	t.Log(kinds)
}

const ways = 6

// damage changes a file in the i-th way and tells how.
func damage(t *testing.T, rnd *rand.Rand, path string, size int64, i int) string {
	t.Helper()
	at := int64(0)
	if size > 0 {
		at = rnd.Int64N(size)
	}
	var err error
	what := ""
	switch {
	case i == 0:
		what, err = "removed", os.Remove(path)
	case i == 1:
		what, err = "emptied", os.Truncate(path, 0)
	case i == 2:
		what, err = fmt.Sprintf("cut at %d of %d", at, size), os.Truncate(path, at)
	default:
		var f *os.File
		if f, err = os.OpenFile(path, os.O_RDWR, 0); err == nil {
			b := []byte{0}
			if size > 0 {
				_, err = f.ReadAt(b, at)
			}
			b[0] ^= byte(1 + rnd.IntN(255))
			_, werr := f.WriteAt(b, at)
			what, err = fmt.Sprintf("changed at %d of %d", at, size), errors.Join(err, werr, f.Close())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return what
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp(t.TempDir(), "copy")
	if err == nil {
		err = os.RemoveAll(to)
	}
	if err := errors.Join(err, os.CopyFS(to, os.DirFS(dir))); err != nil {
		t.Fatal(err)
	}
	return to
}

// Salvage keeps what can be read of a store with a damaged file, and tells what
// it cannot; Verify tells the same and changes nothing.
func TestSalvage(t *testing.T) {
	from := whole(t)
	want, _, _, err := use(copyOf(t, from), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	files, err := filepath.Glob(filepath.Join(from, "*.[sb]*"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	damaged, kept, all := 0, 0, 0
	for i := range nightly.Or(1, 3) * len(files) {
		dir, to := copyOf(t, from), filepath.Join(t.TempDir(), "new")
		what := "sound"
		if i > 0 {
			path := filepath.Join(dir, filepath.Base(files[i%len(files)]))
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			what = filepath.Base(path) + " " + damage(t, rnd, path, info.Size(), 3)
		}
		var told, lost []string
		if _, _, err := Verify(dir, func(int) {}, func(err error) { told = append(told, err.Error()) }); err != nil {
			t.Fatalf("seed %d: %s: %v", seed, what, err)
		}
		if _, _, err := Salvage(dir, to, func(int) {}, func(err error) {
			lost = append(lost, err.Error())
		}); err != nil {
			t.Fatalf("seed %d: %s: %v", seed, what, err)
		}
		if len(told) != len(lost) {
			t.Errorf("seed %d: %s: Verify tells %q, Salvage %q", seed, what, told, lost)
		}
		got, _, _, err := use(to, slog.New(slog.DiscardHandler))
		if err != nil && len(lost) == 0 {
			t.Errorf("seed %d: %s: what was salvaged: %v", seed, what, err)
		}
		if len(lost) == 0 && got != want {
			t.Errorf("seed %d: %s: %d of %d records, and nothing is lost", seed, what, got, want)
		}
		for _, l := range lost {
			if name, _, _ := strings.Cut(what, " "); !strings.Contains(l, name) {
				t.Errorf("seed %d: %s: told of as %s", seed, what, l)
			}
		}
		if len(lost) > 0 {
			damaged++
			kept, all = kept+got, all+want
		}
		os.RemoveAll(dir)
	}
	if damaged == 0 || kept < all/2 {
		t.Errorf("seed %d: %d of %d records kept of %d damaged stores", seed, kept, all, damaged)
	}
	t.Logf("%d of %d records kept of %d damaged stores", kept, all, damaged)
}
