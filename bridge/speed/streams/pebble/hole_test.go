package pebble

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A noFlush file system makes no table until open is closed: what is written
// stays in the write-ahead log.
type noFlush struct {
	vfs.FS
	open chan struct{}
}

func (n noFlush) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") {
		<-n.open
	}
	return n.FS.Create(name, c)
}

// A file of the write-ahead log that is gone leaves a hole, which is told at
// each start until it is forgotten.
func TestMissingLogFile(t *testing.T) {
	dir := t.TempDir()
	fs := noFlush{vfs.Default, make(chan struct{})}
	s, stop := start(t, dir, Options{FS: fs, MemTableSize: 1 << 20})
	create(t, s, "a", streams.Config{Shards: 1})
	logs := func(dir string) []string {
		files, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		return files
	}
	for n := 0; len(logs(dir)) < 3; n++ { // then two are full
		if n == 1000 {
			t.Fatal("the log stays in one file")
		}
		commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", strings.Repeat("x", 20_000))) })
	}
	for range 2 * perSlot { // so that the third is no end that was cut off
		commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "x")) })
	}
	crashed, at := copyOf(t, dir), s.Position()
	close(fs.open)
	stop()

	reopen := func(dir string) (s *Store, stop func()) {
		t.Helper()
		s, stop = start(t, dir, Options{})
		if s.Position() != at {
			t.Fatalf("at %+v, was at %+v", s.Position(), at)
		}
		return s, stop
	}
	whole := copyOf(t, crashed)
	s, stop = reopen(whole)
	if n := s.Missing(); n != 0 {
		t.Errorf("%d commits are missing of a whole log", n)
	}
	stop()

	if err := os.Remove(logs(crashed)[1]); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a start that refuses does not mend it
		s, stop = reopen(crashed)
		if s.Missing() == 0 {
			t.Fatal("nothing tells of the file that is gone")
		}
		stop()
	}
	s, stop = reopen(crashed)
	if err := s.ForgetMissing(); err != nil || s.Missing() != 0 {
		t.Errorf("%d commits are missing, %v", s.Missing(), err)
	}
	stop()
	if s, _ = reopen(crashed); s.Missing() != 0 {
		t.Errorf("%d commits that were forgotten are missing", s.Missing())
	}
}

// What Salvage reports lost is not in what it makes, so that readers there get
// the rest instead of an error.
func TestSalvageLeavesOutDamagedBlocks(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	s, stop := start(t, dir, Options{})
	create(t, s, "a", streams.Config{Shards: 1})
	for i := range 5 {
		commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", fmt.Sprint("record ", i))) })
	}
	for first, damage := range map[uint64]func(v []byte){
		1: func(v []byte) { v[0] = blockVersion + 1 },
		3: func(v []byte) { v[headerLen] = 0 }, // its key is that of the record before, of which there is none
	} {
		key := blockKey(s.streamID(t, "a"), 0, first)
		v, closer, err := s.db.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		bad := append([]byte(nil), v...)
		closer.Close()
		damage(bad)
		if err := s.db.Set(key, bad, nil); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	var lost []string
	if _, _, err := Salvage(dir, to, func(int) {}, func(err error) { lost = append(lost, err.Error()) }); err != nil {
		t.Fatal(err)
	}
	if len(lost) != 2 || !strings.Contains(lost[0], "records from 1 on") ||
		!strings.Contains(lost[1], "records from 3 on") {
		t.Errorf("reported: %q", lost)
	}
	if _, _, err := Verify(to, func(int) {}, func(err error) { t.Errorf("in the copy: %v", err) }); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, to, Options{})
	if got := fmt.Sprint(texts(read(t, s, "a", 0, 0, 10, 1000))); got != "[0 k=record 0 2 k=record 2 4 k=record 4]" {
		t.Errorf("in the copy: %s", got)
	}
}

func (s *Store) streamID(t *testing.T, name string) uint32 {
	t.Helper()
	st, err := s.stream(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.id
}
