package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")
	powerCuts = flag.Int("powercuts", 8, "how many power cuts TestPowerCut makes")
)

func seed(t testing.TB) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", s)
	return s
}

// A model knows what was committed and what was acknowledged. Every record
// says "writer/batch/index/of", and each batch sets the writer's key to its
// number.
type model struct {
	mu    sync.Mutex
	acked map[string]int // "writer/batch": its number of records
	last  map[int]int    // writer: highest acknowledged batch
	tried map[int]int    // writer: highest batch ever handed in
	say   func(batch string, records int)
}

func newModel() *model {
	return &model{acked: map[string]int{}, last: map[int]int{}, tried: map[int]int{}}
}

func (m *model) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.acked)
}

var crashStreams = []string{"one", "two", "three"}

const crashShards = 3

// write commits random batches as writer w until the store or ctx ends.
func (m *model) write(ctx context.Context, s *Store, w int, r *rand.Rand) {
	b := s.NewBatch()
	for ctx.Err() == nil {
		m.mu.Lock()
		m.tried[w]++
		n := m.tried[w]
		m.mu.Unlock()
		b.Reset()
		of := 1 + r.IntN(12)
		if r.IntN(20) == 0 {
			of = 300
		}
		for i := range of {
			text := fmt.Sprintf("%d/%d/%d/%d", w, n, i, of)
			data := make([]byte, len(text)+1+r.IntN(200))
			copy(data, text)
			b.Append(crashStreams[r.IntN(3)], r.IntN(crashShards), streams.Record{Key: text[:1], Data: data})
		}
		b.Set([]byte{'w', byte(w)}, binary.BigEndian.AppendUint64(nil, uint64(n)))
		if s.Commit(ctx, b) != nil {
			return
		}
		k := fmt.Sprintf("%d/%d", w, n)
		m.mu.Lock()
		m.acked[k] = of
		m.last[w] = n
		m.mu.Unlock()
		if m.say != nil {
			m.say(k, of)
		}
	}
}

// check compares what a store holds with the model, and takes over what
// survived without having been acknowledged.
func (m *model) check(t *testing.T, s *Store) {
	t.Helper()
	found := map[string]map[string]bool{}
	want := map[string]int{}
	for _, name := range crashStreams {
		for shard := range crashShards {
			var at uint64
			_, next, err := s.Bounds(name, shard)
			if err != nil {
				t.Fatal(err)
			}
			for at < next {
				rs := read(t, s, name, shard, at, 1000, 1<<20)
				if len(rs) == 0 {
					t.Fatalf("%s/%d: nothing at %d of %d", name, shard, at, next)
				}
				for _, r := range rs {
					if r.Offset != at {
						t.Fatalf("%s/%d: offset %d, want %d", name, shard, r.Offset, at)
					}
					at++
					text, _, _ := strings.Cut(string(r.Data), "\x00")
					var w, n, i, of int
					if _, err := fmt.Sscanf(text, "%d/%d/%d/%d", &w, &n, &i, &of); err != nil {
						t.Fatalf("%s/%d: record %q", name, shard, text)
					}
					k := fmt.Sprintf("%d/%d", w, n)
					if found[k] == nil {
						found[k] = map[string]bool{}
					}
					if found[k][text] {
						t.Fatalf("%s is there twice", text)
					}
					found[k][text] = true
					want[k] = of
				}
			}
		}
	}
	for k, of := range want {
		if len(found[k]) != of {
			t.Errorf("batch %s: %d of %d records", k, len(found[k]), of)
		}
	}
	for k, of := range m.acked {
		if want[k] != of {
			t.Errorf("acknowledged batch %s of %d records is lost", k, of)
		}
	}
	for w, tried := range m.tried {
		v, err := s.Get([]byte{'w', byte(w)})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if v != nil {
			n = int(binary.BigEndian.Uint64(v))
		}
		if n < m.last[w] || n > tried {
			t.Errorf("writer %d: key says %d, acknowledged %d, tried %d", w, n, m.last[w], tried)
		}
		if (n > 0) != (want[fmt.Sprintf("%d/%d", w, n)] > 0) {
			t.Errorf("writer %d: key says %d, whose records are missing", w, n)
		}
		m.last[w] = n
		m.tried[w] = tried
	}
	m.acked = want
}

func createCrashStreams(t testing.TB, s *Store) {
	t.Helper()
	for _, name := range crashStreams {
		if err := s.Create(name, streams.Config{Shards: crashShards}); err != nil &&
			!errors.Is(err, streams.ErrExists) {
			t.Fatal(err)
		}
	}
}

// What was acknowledged survives a power cut; what wasn't is there as a whole
// or not at all; offsets stay dense.
func TestPowerCut(t *testing.T) {
	sd := seed(t)
	r := rand.New(rand.NewPCG(sd, 1))
	fs := vfs.NewCrashableMem()
	m := newModel()
	for cut := range *powerCuts {
		s, stop := start(t, "", Options{FS: fs, MemTableSize: 256 << 10})
		createCrashStreams(t, s)
		m.check(t, s)
		if t.Failed() {
			t.Fatalf("after %d power cuts", cut)
		}
		var wg sync.WaitGroup
		for w := range 4 {
			r := rand.New(rand.NewPCG(sd, uint64(100*cut+w)))
			wg.Go(func() { m.write(t.Context(), s, w, r) })
		}
		for before := m.count(); m.count() == before; { // however slow the machine
			time.Sleep(100 * time.Microsecond)
		}
		for range r.IntN(40) {
			time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond)
		}
		m.mu.Lock() // what is acknowledged from here on may be lost
		known := &model{acked: maps.Clone(m.acked), last: maps.Clone(m.last)}
		m.mu.Unlock()
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		m.mu.Lock()
		known.tried = maps.Clone(m.tried)
		m.mu.Unlock()
		stop()
		wg.Wait()
		m = known
	}
	t.Logf("%d batches survived", len(m.acked))
}

// A failed sync ends the store: the commit, those behind it and all later ones
// fail, and nothing of them is shown to readers.
func TestFailedSync(t *testing.T) {
	var broken atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		if broken.Load() && sync && strings.HasSuffix(op.Path, ".log") {
			return errors.New("the disk is gone")
		}
		return nil
	}))
	s, stop := start(t, "", Options{FS: fs})
	create(t, s, "a", streams.Config{Shards: 1})
	put := func(data string) error {
		b := s.NewBatch()
		b.Append("a", 0, rec("k", data))
		b.Set([]byte("m"), []byte(data))
		return s.Commit(t.Context(), b)
	}
	if err := put("kept"); err != nil || !s.Ready() {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(context.Background(), "a", 0, 1) }()
	broken.Store(true)
	if err := put("lost"); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Fatalf("commit: %v", err)
	}
	broken.Store(false) // a disk that says all is well again is not to be believed
	if err := put("later"); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Fatalf("later commit: %v", err)
	}
	if err := <-waiting; err == nil {
		t.Error("wait returned nil")
	}
	select {
	case <-s.stopped:
	case <-time.After(10 * time.Second):
		t.Error("Run goes on, so nobody starts the program again")
	}
	if err := put("last"); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Fatalf("commit after Run: %v", err)
	}
	if s.Ready() || s.Err() == nil {
		t.Error("the store says it is ready")
	}
	if err := s.Create("b", streams.Config{Shards: 1}); err == nil {
		t.Error("create worked")
	}
	if v, err := s.Get([]byte("m")); err == nil {
		t.Errorf("get of a key that may be lost: %q", v)
	}
	same(t, "readers", texts(read(t, s, "a", 0, 0, 0, 0)), "[0 k=kept]")
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	stop()
	s, _ = start(t, "", Options{FS: crashed})
	same(t, "after a restart", texts(read(t, s, "a", 0, 0, 0, 0)), "[0 k=kept]")
	if v, err := s.Get([]byte("m")); err != nil || string(v) != "kept" {
		t.Errorf("get: %q, %v", v, err)
	}
}

const childDir = "TIDEMILL_STREAMS_CHILD"

// child writes to a store and says on stdout what was acknowledged, until it
// is killed. It is this test binary again.
func child() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	s, err := Open(dir, Options{MemTableSize: 256 << 10})
	if err != nil {
		panic(err)
	}
	go s.Run(context.Background())
	for _, name := range crashStreams {
		if err := s.Create(name, streams.Config{Shards: crashShards}); err != nil &&
			!errors.Is(err, streams.ErrExists) {
			panic(err)
		}
	}
	var wg sync.WaitGroup
	for w := range 3 {
		v, err := s.Get([]byte{'w', byte(w)})
		if err != nil {
			panic(err)
		}
		m := newModel()
		if v != nil {
			m.tried[w] = int(binary.BigEndian.Uint64(v))
		}
		m.say = func(k string, of int) { fmt.Printf("%s %d\n", k, of) }
		r := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(w)))
		wg.Go(func() { m.write(context.Background(), s, w, r) })
	}
	wg.Wait()
	return true
}

// kill -9 at any instant is a supported way to stop.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(seed(t), 2))
	m := newModel()
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+r.IntN(200)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		for line := range strings.Lines(out.String()) {
			var w, n, of int
			if c, _ := fmt.Sscanf(line, "%d/%d %d\n", &w, &n, &of); c < 3 || !strings.HasSuffix(line, "\n") {
				continue // cut off
			}
			m.acked[fmt.Sprintf("%d/%d", w, n)] = of
			m.last[w] = max(m.last[w], n)
		}
		for w := range 3 {
			m.tried[w] = 1 << 40
		}
		s, stop := start(t, dir, Options{})
		createCrashStreams(t, s)
		m.check(t, s)
		stop()
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	t.Logf("%d batches", len(m.acked))
}
