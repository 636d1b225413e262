package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/shadow/format"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		crashChild(path)
	}
	goleak.VerifyTestMain(m)
}

var (
	quiet  = slog.New(slog.NewTextHandler(io.Discard, nil))
	counts = []telemetry.Channel{{Name: "n", Kind: telemetry.Int}}
)

func open(t testing.TB, path string, o Options) *Spool {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func add(t testing.TB, s *Spool, n int64) {
	t.Helper()
	if err := s.Append("count", counts, n, []telemetry.Value{telemetry.IntValue(n)}); err != nil {
		t.Fatal(err)
	}
}

func flushed(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

// numbers returns what the readings of a batch count.
func numbers(t testing.TB, payload []byte) (h telemetry.Header, n []int64) {
	t.Helper()
	b, err := telemetry.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range b.Series {
		for _, c := range s.Columns {
			if c.Name == "n" {
				n = append(n, c.Ints...)
			}
		}
	}
	return b.Header, n
}

// take calls Next without waiting; seq is 0 when there is none.
func take(t testing.TB, s *Spool, after uint64) (seq uint64, payload []byte) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.mu.Lock()
	db, durable := s.db, s.st.seq
	s.mu.Unlock()
	seq, payload, err := s.find(db, after, durable)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Next(ctx, after); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next with a dead context: %v", err)
	}
	return seq, payload
}

func TestAppendNextAck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	boot := [16]byte{1, 2, 3}
	s := open(t, path, Options{Boot: boot, Clock: func() Stamp {
		return Stamp{Clock: telemetry.ClockSynced, Now: time.Now().UnixMilli()}
	}})
	if err := s.Flush(); err != nil || s.Stats().Flushes != 0 {
		t.Fatalf("empty flush: %v, %+v", err, s.Stats())
	}
	for i := range int64(3) {
		add(t, s, i*2)
		add(t, s, i*2+1)
		if seq, _ := take(t, s, uint64(i)); seq != 0 {
			t.Fatalf("batch %d before its flush", seq)
		}
		flushed(t, s)
	}
	id := s.Stats().ID
	for i := range uint64(3) {
		seq, p := take(t, s, i)
		h, n := numbers(t, p)
		want := telemetry.Header{Spool: id, Seq: i + 1, Boot: boot, Clock: telemetry.ClockSynced}
		if seq != i+1 || h != want || len(n) != 2 || n[0] != int64(i)*2 || n[1] != int64(i)*2+1 {
			t.Fatalf("batch %d: %+v %v", seq, h, n)
		}
	}
	if seq, _ := take(t, s, 3); seq != 0 {
		t.Fatalf("batch %d, want none", seq)
	}
	s.Ack(2)
	s.Ack(2)
	s.Ack(99) // unknown
	if seq, _ := take(t, s, 1); seq != 3 {
		t.Fatalf("after 1 comes %d, want 3", seq)
	}
	st := s.Stats()
	if st.Batches != 2 || st.Readings != 4 || st.Appended != 6 || st.Acked != 2 || st.Flushes != 3 ||
		st.Oldest.IsZero() {
		t.Fatalf("%+v", st)
	}
	flushed(t, s)
	flushed(t, s) // nothing to do
	if st = s.Stats(); st.Acked != 2 || st.Flushes != 4 || st.Batches != 2 {
		t.Fatalf("%+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Next(t.Context(), 0); err != errClosed {
		t.Fatalf("Next: %v", err)
	}
	if err := s.Append("a", nil, 0, nil); err != errClosed {
		t.Fatalf("Append: %v", err)
	}

	in, err := Inspect(path)
	if err != nil || in.ID != id || in.Batches != 2 || in.Readings != 4 || in.Appended != 6 || in.Acked != 2 {
		t.Fatalf("Inspect = %+v, %v", in, err)
	}
	s = open(t, path, Options{})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if seq, _ := take(t, s, 0); seq != 1 || s.Stats().ID != id {
		t.Fatalf("after a restart: %d", seq)
	}
	add(t, s, 6)
	flushed(t, s)
	if seq, _ := take(t, s, 3); seq != 4 {
		t.Fatalf("new batch is %d, want 4", seq)
	}
	if _, err := Open(path, Options{Log: quiet}); !errors.Is(err, errLocked) {
		t.Fatalf("second Open: %v", err)
	}
	if _, err := Inspect(path); !errors.Is(err, errLocked) {
		t.Fatalf("Inspect of an open file: %v", err)
	}
}

func TestOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	_, err := Open(path, Options{FlushEvery: -1, MaxBytes: 4096, MaxAge: -1, Overflow: 9})
	for _, want := range []string{"spool.flush_every", "spool.max_bytes: 4096, want at least 131072", "spool.max_age",
		"spool.overflow"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("file made in spite of it")
	}
	if _, err := Open(filepath.Join(path, "no", "dir"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Inspect(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Inspect: %v", err)
	}
}

// fat appends a reading that compresses badly.
func fat(t testing.TB, s *Spool, seed int64, bytes int) error {
	t.Helper()
	text := make([]byte, bytes)
	x := uint64(seed)*2654435761 + 1
	for i := range text {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		text[i] = byte(x)
	}
	return s.Append("fat", []telemetry.Channel{{Name: "n", Kind: telemetry.Int}, {Name: "pad", Kind: telemetry.Text}},
		seed,
		[]telemetry.Value{telemetry.IntValue(seed), telemetry.TextValue(string(text))})
}

func TestDropOldest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	var log bytes.Buffer
	s := open(t, path, Options{MaxBytes: minMaxBytes, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for i := range int64(400) {
		if err := fat(t, s, i, 1000); err != nil {
			t.Fatal(err)
		}
		flushed(t, s)
	}
	st := s.Stats()
	if st.Bytes > minMaxBytes || st.Bytes < minMaxBytes*9/10 || st.Appended != 400 || st.Dropped+st.Readings != 400 ||
		st.Refused != 0 {
		t.Fatalf("%+v", st)
	}
	if seq, p := take(t, s, 0); seq != st.Dropped+1 || len(p) < 1000 {
		t.Fatalf("oldest is %d, %d dropped", seq, st.Dropped)
	}
	if st.FileBytes > 3*minMaxBytes+1<<20 {
		t.Errorf("file of %d bytes for %d", st.FileBytes, st.Bytes)
	}
	if n := strings.Count(log.String(), "over its limit"); n != 1 {
		t.Errorf("%d lines in the log, want one in ten minutes", n)
	}
}

func TestRefuseNew(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{MaxBytes: minMaxBytes, Overflow: RefuseNew})
	var err error
	n := int64(0)
	for ; err == nil && n < 1000; n++ {
		err = fat(t, s, n, 1000)
		flushed(t, s)
	}
	st := s.Stats()
	if !errors.Is(err, errFull) || st.Refused != 1 || st.Dropped != 0 || st.Readings != uint64(n-1) {
		t.Fatalf("%v %+v", err, st)
	}
	for i := range uint64(10) {
		s.Ack(i + 1)
	}
	if err := fat(t, s, n, 1000); err != nil {
		t.Fatalf("after acknowledgements: %v", err)
	}
}

// Memory that fills before its time is written in batches that fit, and Append
// does that itself.
func TestEarlyFlush(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{})
	const n = 3000
	for i := range int64(n) {
		if err := fat(t, s, i, 1000); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if st.Flushes == 0 || st.Unflushed > maxBuilders*telemetry.MaxBytes/1000 {
		t.Fatalf("%+v", st)
	}
	flushed(t, s)
	want := int64(0)
	for seq, p := take(t, s, 0); seq != 0; seq, p = take(t, s, seq) {
		if len(p) > telemetry.MaxBytes {
			t.Fatalf("batch of %d bytes", len(p))
		}
		_, got := numbers(t, p)
		for _, g := range got {
			if g != want {
				t.Fatalf("reading %d, want %d", g, want)
			}
			want++
		}
	}
	if want != n {
		t.Fatalf("%d readings, want %d", want, n)
	}
}

// broken makes every commit fail, as a card does that is full or read-only,
// until the function it returns is called.
func broken(t *testing.T, s *Spool) (mend func()) {
	t.Helper()
	// A read-only handle on another file: Update fails, reads work.
	other := filepath.Join(t.TempDir(), "other.db")
	open(t, other, Options{}).Close()
	ro, err := bbolt.Open(other, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	good := s.db
	s.db = ro
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.db = good
		ro.Close()
	}
}

// While the file can't be written, memory fills and then refuses.
func TestFailingFile(t *testing.T) {
	var log bytes.Buffer
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	add(t, s, -1)
	flushed(t, s)
	mend := broken(t, s)
	var n int64
	var err error
	for ; err == nil && n < 5000; n++ {
		err = fat(t, s, n, 1000)
	}
	if !errors.Is(err, errFull) || s.Stats().Unflushed != int(n)-1 {
		t.Fatalf("after %d: %v %+v", n, err, s.Stats())
	}
	for range 3 {
		if err := s.Flush(); err == nil {
			t.Fatal("flush to a read-only file")
		}
		if err := fat(t, s, 0, 1000); !errors.Is(err, errFull) {
			t.Fatal(err)
		}
	}
	if f := s.Stats().Failure; f == nil || f.Since.IsZero() || f.Refused != 4 ||
		!strings.Contains(f.Error, "read-only") {
		t.Fatalf("%+v", f)
	}
	mend()
	flushed(t, s)
	if st := s.Stats(); st.Appended != uint64(n) || st.Unflushed != 0 || st.Refused != 4 || st.Failure != nil {
		t.Fatalf("%+v", st)
	}
	for text, want := range map[string]int{"cannot be written": 1, "memory is full": 1, "written again": 1,
		"refused=4": 1} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q is %d times in the log, want %d:\n%s", text, got, want, &log)
		}
	}
}

// Flushes that fail take no memory of their own, however many they are, and
// nothing is lost that fits: a full card and one reading between two flushes.
func TestFailingFlushesAreBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{})
	const n = 2000
	mend := broken(t, s)
	for i := range int64(n) {
		add(t, s, i)
		if err := s.Flush(); err == nil {
			t.Fatal("flush to a read-only file")
		}
	}
	s.mu.Lock()
	builders := len(s.full) + 1
	s.mu.Unlock()
	if builders > 2 {
		t.Errorf("%d readings are in %d batches, though one holds them", n, builders)
	}
	mend()
	flushed(t, s)
	// numbers that only rise are split, for their weight
	if st := s.Stats(); st.Appended != n || st.Refused != 0 || st.Unflushed != 0 || st.Batches > 8 {
		t.Fatalf("%+v", st)
	}
	want := int64(0)
	for seq, p := take(t, s, 0); seq != 0; seq, p = take(t, s, seq) {
		_, got := numbers(t, p)
		for _, g := range got {
			if g != want {
				t.Fatalf("reading %d, want %d", g, want)
			}
			want++
		}
	}
}

func TestFlushInterval(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, filepath.Join(dir, "spool.db"), Options{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		check := func(what string, flushes uint64) {
			t.Helper()
			synctest.Wait()
			if got := s.Stats().Flushes; got != flushes {
				t.Fatalf("%s: %d flushes, want %d", what, got, flushes)
			}
		}
		for i := range int64(12) { // one reading a second
			time.Sleep(time.Second)
			add(t, s, i)
		}
		check("12 s", 2)
		time.Sleep(4 * time.Second)
		check("16 s", 3)
		time.Sleep(time.Hour)
		check("nothing new for an hour", 3)
		s.Ack(1)
		time.Sleep(5 * time.Second)
		check("an acknowledgement", 4)
		s.SetFlushEvery(time.Minute)
		add(t, s, 12)
		time.Sleep(50 * time.Second)
		check("longer interval", 4)
		time.Sleep(10 * time.Second)
		check("longer interval over", 5)

		// Next sleeps until a flush, not longer.
		got := make(chan uint64, 1)
		go func() {
			seq, _, err := s.Next(ctx, 4)
			if err != nil {
				t.Error(err)
			}
			got <- seq
		}()
		add(t, s, 13)
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("Next returned before the flush")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(got) != 1 || <-got != 5 {
			t.Fatal("Next did not see the flush")
		}
		add(t, s, 14)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		check("the last", 7)
		if st := s.Stats(); st.Appended != 15 || st.Unflushed != 0 {
			t.Fatalf("%+v", st)
		}
		s.Close()
	})
}

func TestMaxAge(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		trusted := true
		o := Options{MaxAge: time.Hour, Clock: func() Stamp {
			if trusted {
				return wallClock()
			}
			return Stamp{}
		}}
		s := open(t, filepath.Join(dir, "spool.db"), o)
		flush := func(n int64) {
			add(t, s, n)
			flushed(t, s)
		}
		flush(0) // the bubble's clock shows 2000: can't be true
		time.Sleep(30 * 365 * 24 * time.Hour)
		trusted = false
		flush(1) // said to be wrong
		trusted = true
		flush(2)
		s.Ack(1)
		s.Ack(2)
		time.Sleep(61 * time.Minute)
		if seq, _ := take(t, s, 0); seq != 3 {
			t.Fatalf("oldest is %d", seq)
		}
		trusted = false
		flushed(t, s)
		if st := s.Stats(); st.Batches != 1 || st.Dropped != 0 || st.Acked != 2 {
			t.Fatalf("%+v", st)
		}
		trusted = true
		flushed(t, s)
		if st := s.Stats(); st.Batches != 0 || st.Dropped != 1 || st.Acked != 2 || st.Appended != 3 ||
			!st.Oldest.IsZero() {
			t.Fatalf("%+v", st)
		}
		s.Close()
	})
}

func TestConcurrent(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{FlushEvery: time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	const writers, each = 4, 500
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.Append(fmt.Sprint("w", w), counts, 0,
					[]telemetry.Value{telemetry.IntValue(int64(w*each + i))}); err != nil {
					t.Error(err)
				}
				_ = s.Stats()
			}
		})
	}
	seen := make(map[int64]bool)
	for after := uint64(0); len(seen) < writers*each; {
		seq, p, err := s.Next(ctx, after)
		if err != nil {
			t.Fatal(err)
		}
		_, ns := numbers(t, p)
		for _, n := range ns {
			if seen[n] {
				t.Fatalf("reading %d twice", n)
			}
			seen[n] = true
		}
		s.Ack(seq)
		after = seq
	}
	wg.Wait()
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	flushed(t, s)
	if st := s.Stats(); st.Acked != writers*each || st.Batches != 0 {
		t.Fatalf("%+v", st)
	}
}

// A sensor that says the same for long makes more batches, not one that no bridge
// takes, and nothing is lost or counted twice.
func TestDenseReadingsAreSplit(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{})
	const n = 3000
	for i := range int64(n) {
		if err := s.Append("count", counts, i, []telemetry.Value{telemetry.IntValue(7)}); err != nil {
			t.Fatal(err)
		}
	}
	flushed(t, s)
	got := 0
	for after := uint64(0); ; {
		seq, payload := take(t, s, after)
		if seq == 0 {
			break
		}
		h, values := numbers(t, payload)
		if h.Seq != seq {
			t.Errorf("batch %d says that it is %d", seq, h.Seq)
		}
		after, got = seq, got+len(values)
	}
	if st := s.Stats(); got != n || st.Readings != n || st.Appended != n || st.Batches < 3 || st.Unflushed != 0 {
		t.Fatalf("%d readings, %+v", got, st)
	}
}

// A spool of a newer version is refused and stays as it is; one whose number is
// damaged is salvaged.
func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	add(t, s, 1)
	flushed(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	put := func(state []byte) {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, NoFreelistSync: true})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyState, state) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	newer := append([]byte{formatNumber + 1}, "a state of another length"...)
	newer = binary.BigEndian.AppendUint32(newer, crc32.Checksum(newer, castagnoli))
	put(newer)
	again, err := Open(path, Options{Log: quiet})
	if !errors.Is(err, format.ErrNewer) || !strings.Contains(err.Error(), "format 2, this program knows up to 1") {
		t.Errorf("%v", err)
	}
	if err == nil {
		again.Close()
	}
	if names, _ := filepath.Glob(path + "*"); len(names) != 1 {
		t.Errorf("files: %v", names)
	}
	newer[len(newer)-1]++
	put(newer)
	if st := open(t, path, Options{}).Stats(); st.Batches != 1 || st.Readings != 1 {
		t.Errorf("salvaged: %+v", st)
	}
}

// Abandon leaves what the last flush made: readings in memory are gone, and a batch whose
// acknowledgement was not written is there again.
func TestAbandon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	add(t, s, 1)
	flushed(t, s)
	seq, _ := take(t, s, 0)
	s.Ack(seq)
	add(t, s, 2)
	if err := s.Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append("count", counts, 3, []telemetry.Value{telemetry.IntValue(3)}); !errors.Is(err, errClosed) {
		t.Errorf("a reading after it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close after it: %v", err)
	}
	if st := s.Stats(); st.Unflushed != 1 {
		t.Errorf("%+v, want 1 reading that was lost", st)
	}
	s = open(t, path, Options{})
	if st := s.Stats(); st.Readings != 1 || st.Acked != 0 || st.Unflushed != 0 {
		t.Errorf("%+v, want the first reading alone", st)
	}
	if again, p := take(t, s, 0); again != seq {
		t.Errorf("batch %d, want %d again", again, seq)
	} else if _, ns := numbers(t, p); len(ns) != 1 || ns[0] != 1 {
		t.Errorf("it holds %v", ns)
	}
}
