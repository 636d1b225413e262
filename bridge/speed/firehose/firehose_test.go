package firehose

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
	"github.com/tidemill/tidemill/deploy/await"
)

// bucket is an object store in memory that can fail.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	writes  int
	fail    func(attempt int) error
	not     string // a bucket that is not there
}

func (k *bucket) Put(_ context.Context, bucket, key string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes++
	if bucket == k.not {
		return errors.New("there is no such bucket")
	}
	if k.fail != nil {
		if err := k.fail(k.writes); err != nil {
			return err
		}
	}
	k.objects[bucket+"/"+key] = b.Bytes()
	return nil
}

func (k *bucket) lines(t *testing.T) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for key, o := range k.objects {
		if strings.HasSuffix(key, ".gz") {
			zr, err := gzip.NewReader(bytes.NewReader(o))
			if err != nil {
				t.Fatal(err)
			}
			if o, err = io.ReadAll(zr); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, strings.Fields(string(o))...)
	}
	slices.Sort(all)
	return all
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func config(t *testing.T, name string, size int64, every time.Duration) *Config {
	t.Helper()
	p, err := parseObjectPrefix("", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return &Config{Name: name, Version: 1, Kind: ExtendedS3, Buffer: Buffer{size, every},
		Objects:    Objects{Bucket: "readings", Prefix: p, Compression: compress.Gzip, Suffix: ".gz"},
		Processing: Processing{Delimiter: []byte("\n")}}
}

// running starts a store and a service over fs and returns them with a
// function that stops both.
func running(t *testing.T, fs vfs.FS, k *bucket, c *Config) (*pebble.Store, *Service, func()) {
	t.Helper()
	return runningWith(t, fs, Options{Objects: k, Log: quiet()}, c)
}

func runningWith(t *testing.T, fs vfs.FS, o Options, c *Config) (*pebble.Store, *Service, func()) {
	t.Helper()
	store, err := pebble.Open("log", pebbletest.Options(fs))
	if err != nil {
		t.Fatal(err)
	}
	s := New(store, o)
	if err := s.Apply(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	logCtx, cancelLog := context.WithCancel(context.Background())
	var log, sinks sync.WaitGroup
	log.Go(func() { _ = store.Run(logCtx) })
	sinks.Go(func() { _ = s.Run(ctx) })
	return store, s, func() {
		cancel()
		sinks.Wait()
		cancelLog()
		log.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func put(t *testing.T, store *pebble.Store, name string, records ...string) {
	t.Helper()
	b := store.NewBatch()
	for _, r := range records {
		b.Append(StreamName(name), 0, streams.Record{Data: []byte(r)})
	}
	if err := store.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestSizeMakesAnObject(t *testing.T) {
	k := &bucket{objects: map[string][]byte{}}
	store, s, stop := running(t, vfs.NewMem(), k, config(t, "a", 100, time.Hour))
	defer stop()
	var want []string
	for i := range 95 { // 10 bytes each with the delimiter
		want = append(want, fmt.Sprintf("rec%06d", i))
	}
	put(t, store, "a", want...)
	await.True(t, "nine objects", func() bool { return s.Stats()["a"].Objects == 9 })
	slices.Sort(want)
	if got := k.lines(t); !slices.Equal(got, want[:90]) {
		t.Errorf("delivered %v", got)
	}
}

func TestIntervalMakesAnObject(t *testing.T) {
	k := &bucket{objects: map[string][]byte{}}
	store, s, stop := running(t, vfs.NewMem(), k, config(t, "a", 1<<20, 30*time.Millisecond))
	defer stop()
	put(t, store, "a", "one", "two")
	await.True(t, "object", func() bool { return s.Stats()["a"].Records == 2 })
	put(t, store, "a", "three")
	await.True(t, "second object", func() bool { return s.Stats()["a"].Records == 3 })
	if got := k.lines(t); !slices.Equal(got, []string{"one", "three", "two"}) {
		t.Errorf("delivered %v", got)
	}
}

// A record is in exactly one object, however often Put fails after it wrote
// and however often the service stops on the way.
func TestRetryOverwrites(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	k := &bucket{objects: map[string][]byte{}}
	fs := vfs.NewMem()
	var want []string
	for round := range 12 {
		c := config(t, "a", 64, 5*time.Millisecond)
		store, s, stop := running(t, fs, k, c)
		for range 20 {
			r := fmt.Sprintf("rec%06d", len(want))
			want = append(want, r)
			put(t, store, "a", r)
		}
		if round == 11 {
			await.True(t, "the rest", func() bool { return len(k.lines(t)) >= len(want) })
			if n := s.Stats()["a"].Failures; n != 0 {
				t.Errorf("%d failures", n)
			}
		} else if n := rnd.IntN(6); n > 0 {
			await.True(t, "some objects", func() bool { return s.Stats()["a"].Objects >= int64(n)/2 })
		}
		stop()
	}
	if got := k.lines(t); !slices.Equal(got, want) {
		t.Errorf("delivered %d records, want %d once each", len(got), len(want))
	}
}

// An object that was written but not recorded as delivered is written again
// under the same name with the same bytes.
func TestPlanIsRepeated(t *testing.T) {
	k := &bucket{objects: map[string][]byte{}}
	fs := vfs.NewMem()
	wrote := make(chan struct{})
	var once sync.Once
	k.fail = func(int) error { once.Do(func() { close(wrote) }); return errors.New("answer lost") }
	store, _, stop := running(t, fs, k, config(t, "a", 1<<20, time.Millisecond))
	put(t, store, "a", "one", "two")
	<-wrote
	put(t, store, "a", "three") // after the plan: not part of the repeated object
	stop()

	k.fail = nil
	_, s, stop := running(t, fs, k, config(t, "a", 1<<20, time.Millisecond))
	defer stop()
	await.True(t, "delivery", func() bool { return s.Stats()["a"].Records >= 3 })
	if got := k.lines(t); !slices.Equal(got, []string{"one", "three", "two"}) || len(k.objects) != 2 {
		t.Errorf("delivered %v in %d objects", got, len(k.objects))
	}
}

func TestBackoffOfAFailingTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, fail: func(n int) error {
			if n < 8 {
				return errors.New("no such host")
			}
			return nil
		}}
		store, s, stop := running(t, vfs.NewMem(), k, config(t, "a", 1<<20, 0))
		defer stop()
		put(t, store, "a", "one")
		time.Sleep(time.Hour)
		if st := s.Stats()["a"]; st.Failures != 7 || st.Records != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// A name that cannot be stored is given up with its plan, so that a corrected
// configuration helps; the records are delivered once.
func TestNameIsPlannedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, fail: func(int) error { return sink.ErrName }}
		store, s, stop := running(t, vfs.NewMem(), k, config(t, "a", 1<<20, 0))
		defer stop()
		put(t, store, "a", "one", "two")
		time.Sleep(time.Hour)
		k.mu.Lock()
		k.fail = nil
		k.mu.Unlock()
		c := config(t, "a", 1<<20, 0)
		c.Objects.Bucket = "other"
		if err := s.Apply(c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := k.lines(t); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("delivered %v", got)
		}
		for name := range k.objects {
			if !strings.HasPrefix(name, "other/") {
				t.Errorf("object %s", name)
			}
		}
	})
}

// Records that left the log are counted and do not hold up the others, whether
// a plan names them or not.
func TestGoneRecords(t *testing.T) {
	for _, planned := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			k := &bucket{objects: map[string][]byte{}}
			every := time.Hour
			if planned {
				every = 0
				k.fail = func(int) error { return errors.New("no such host") }
			}
			fs := vfs.NewMem()
			store, _, stop := running(t, fs, k, config(t, "a", 1<<20, every))
			put(t, store, "a", "one", "two")
			time.Sleep(time.Minute)
			if err := store.Trim(StreamName("a"), 0, 2); err != nil {
				t.Fatal(err)
			}
			put(t, store, "a", "three")
			stop()
			k.fail = nil
			_, s, stop := running(t, fs, k, config(t, "a", 1<<20, 0))
			defer stop()
			time.Sleep(time.Hour)
			if got := k.lines(t); !slices.Equal(got, []string{"three"}) {
				t.Errorf("planned %v: delivered %v", planned, got)
			}
			if st := s.Stats()["a"]; st.Lost != 2 || st.Failures != 0 {
				t.Errorf("planned %v: %+v", planned, st)
			}
		})
	}
}

// A record that was put while the clock was a year ahead waits no longer than
// the others.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}}
		store, s, stop := running(t, vfs.NewMem(), k, config(t, "a", 1<<20, time.Minute))
		defer stop()
		b := store.NewBatch()
		b.Append(StreamName("a"), 0, streams.Record{Time: time.Now().AddDate(1, 0, 0).UnixMilli(), Data: []byte("one")})
		if err := store.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if st := s.Stats()["a"]; st.Records != 0 {
			t.Errorf("before its time: %+v", st)
		}
		time.Sleep(2 * time.Second)
		if st := s.Stats()["a"]; st.Records != 1 {
			t.Errorf("after a minute: %+v", st)
		}
	})
}

// A delivery stream that is removed leaves no key and no object that was kept for it,
// a crash in the middle neither; what is there loses nothing.
func TestRemoveLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	kept, err := objects.Open(dir, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	ctx := t.Context()
	fs := vfs.NewMem()
	o := Options{Objects: &bucket{objects: map[string][]byte{}}, Kept: kept, Log: quiet()}
	store, s, stop := runningWith(t, fs, o, config(t, "a", 1<<20, 0))
	if err := s.Apply(config(t, "b", 1<<20, time.Hour)); err != nil {
		t.Fatal(err)
	}
	count := func(store *pebble.Store) (n int) {
		if err := store.Scan([]byte("firehose/"), func([]byte, []byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	fail := func(name string) {
		file := name + "/file"
		text := func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }
		if err := kept.Put(ctx, keptBucket, file, text); err != nil {
			t.Fatal(err)
		}
		d, err := s.stream(name)
		if err != nil {
			t.Fatal(err)
		}
		b := store.NewBatch()
		err = errors.Join(d.register(b, []Failed{{ID: "1", Type: s3Failed, File: file}}), store.Commit(ctx, b))
		if err != nil {
			t.Fatal(err)
		}
	}
	fail("a")
	fail("b")
	undo := leadAstray(t, filepath.Join(dir, keptBucket, "a"))
	if err := s.Remove(ctx, "a"); err == nil || count(store) != 2 {
		t.Errorf("a file that cannot be deleted: %v, %d keys", err, count(store))
	}
	undo()
	if err := s.Remove(ctx, "a"); err != nil || count(store) != 1 {
		t.Errorf("%v, %d keys", err, count(store))
	}
	if err := s.Remove(ctx, "a"); err != nil {
		t.Errorf("again: %v", err)
	}
	// Keys of streams that are not there, or of an earlier one of the name.
	b := store.NewBatch()
	for _, key := range []string{"firehose/gone/7", "firehose/gone/7/source/x/1/", "firehose/b/99",
		"firehose/b/99/failed/1"} {
		b.Set([]byte(key), []byte("{}"))
	}
	if err := store.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	stop()
	store, s, stop = runningWith(t, fs, o, config(t, "b", 1<<20, time.Hour))
	defer stop()
	await.True(t, "one key", func() bool { return count(store) == 1 })
	if f, err := s.Failed("b"); err != nil || len(f) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	for name, want := range map[string]bool{"a/file": false, "b/file": true} {
		in, err := kept.Open(keptBucket, name)
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			in.Close()
		}
	}
}

// leadAstray has nobody reach what is in a folder, until undo is called.
func leadAstray(t *testing.T, folder string) (undo func()) {
	t.Helper()
	err := errors.Join(os.Rename(folder, folder+"-away"), os.Symlink(filepath.Base(folder), folder))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.Remove(folder), os.Rename(folder+"-away", folder)); err != nil {
			t.Fatal(err)
		}
	}
}
