package pebble

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A tight is a file system that is full when it is said so; half of what is written
// then fits.
type tight struct {
	vfs.FS
	full    *atomic.Bool
	refused *atomic.Int64
}

func (fs tight) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if fs.full.Load() {
		fs.refused.Add(1)
		return nil, syscall.ENOSPC
	}
	f, err := fs.FS.Create(name, c)
	return tightFile{f, fs}, err
}

func (fs tight) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, c)
	return tightFile{f, fs}, err
}

type tightFile struct {
	vfs.File
	fs tight
}

func (f tightFile) Write(b []byte) (int, error) {
	if !f.fs.full.Load() {
		return f.File.Write(b)
	}
	f.fs.refused.Add(1)
	n, err := f.File.Write(b[:len(b)/2])
	return n, errors.Join(err, syscall.ENOSPC)
}

// Commits on a full disk wait, and are stored once each when there is room, without a
// restart; and they are there after one.
func TestCommitWaitsForRoom(t *testing.T) {
	fs := tight{vfs.NewMem(), new(atomic.Bool), new(atomic.Int64)}
	s, stop := start(t, "", Options{FS: fs, MemTableSize: 256 << 10})
	create(t, s, "a", streams.Config{Shards: 1})
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	want := map[string]int{}
	for round := range 10 {
		fs.full.Store(true)
		before := fs.refused.Load()
		n := 1 + r.IntN(20)
		done := make(chan error, n)
		for i := range n {
			text := fmt.Sprintf("%d/%d%s", round, i, strings.Repeat(".", r.IntN(30<<10)))
			want["k="+text] = 1
			b := s.NewBatch()
			b.Append("a", 0, rec("k", text))
			go func() { done <- s.Commit(t.Context(), b) }()
		}
		for fs.refused.Load() < before+3 { // it is tried again and again
			time.Sleep(time.Millisecond)
		}
		if err := s.Err(); err != nil || len(done) > 0 {
			t.Fatalf("seed %d: %d commits were answered, %v", seed, len(done), err)
		}
		fs.full.Store(false)
		for range n {
			if err := <-done; err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	for _, when := range []string{"before", "after"} {
		got := map[string]int{}
		recs, err := s.Read("a", 0, 0, 1<<20, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range recs {
			got[x.Key+"="+string(x.Data)]++
		}
		if !maps.Equal(got, want) {
			t.Errorf("seed %d: %s a restart there are %d different records of %d, want %d", seed, when, len(got),
				len(recs), len(want))
		}
		stop()
		s, stop = start(t, "", Options{FS: fs, MemTableSize: 256 << 10})
	}
}

// A store that is to stop on a full disk ends soon, and what was not answered may be
// there or not, as after a kill.
func TestStopsOnAFullDisk(t *testing.T) {
	fs := tight{vfs.NewMem(), new(atomic.Bool), new(atomic.Int64)}
	s, stop := start(t, "", Options{FS: fs})
	create(t, s, "a", streams.Config{Shards: 1})
	commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "first")) })
	fs.full.Store(true)
	done := make(chan error, 1)
	go func() {
		b := s.NewBatch()
		b.Append("a", 0, rec("k", "second"))
		done <- s.Commit(t.Context(), b)
	}()
	time.Sleep(10 * patienceEvery)
	began := time.Now()
	stop()
	if took := time.Since(began); took > lastPatience+10*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := <-done; err == nil {
		t.Error("a commit is acknowledged that was not stored")
	}
}
