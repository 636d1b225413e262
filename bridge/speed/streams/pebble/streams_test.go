package pebble

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// start opens a store in memory, or as o says, and runs it. stop, which the
// test's end calls too, ends Run and closes.
func start(t testing.TB, dir string, o Options) (s *Store, stop func()) {
	t.Helper()
	if o.FS == nil && dir == "" {
		o.FS = vfs.NewMem()
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = 1 << 20
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			<-ran
			if err := s.Close(); err != nil && s.Err() == nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return s, stop
}

func create(t testing.TB, s *Store, name string, c streams.Config) {
	t.Helper()
	if err := s.Create(name, c); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, s *Store, f func(b *streams.Batch)) *streams.Batch {
	t.Helper()
	b := s.NewBatch()
	f(b)
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func rec(key, data string) streams.Record { return streams.Record{Key: key, Data: []byte(data)} }

// texts is "offset key=data" for each record.
func texts(rs []streams.Record) []string {
	out := []string{}
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%d %s=%s", r.Offset, r.Key, r.Data))
	}
	return out
}

func read(t testing.TB, s *Store, stream string, shard int, from uint64, n, bytes int) []streams.Record {
	t.Helper()
	rs, err := s.Read(stream, shard, from, n, bytes)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

func TestBatchAcrossStreams(t *testing.T) {
	fs := vfs.NewMem()
	s, stop := start(t, "", Options{FS: fs})
	create(t, s, "$ingest", streams.Config{Shards: 4})
	create(t, s, "plant", streams.Config{Shards: 2})
	b := commit(t, s, func(b *streams.Batch) {
		b.Append("$ingest", 1, rec("a", "1"), rec("a", "2"))
		b.Append("plant", 0, rec("x", "p"))
		b.Append("$ingest", 1, rec("b", "3"))
		b.Append("$ingest", 3, streams.Record{Key: "c", Time: 42})
		b.Set([]byte("pos"), []byte("7"))
	})
	same(t, "offsets", []uint64{b.Offset(0), b.Offset(1), b.Offset(2), b.Offset(3), b.Offset(4)}, "[0 1 0 2 0]")
	commit(t, s, func(b *streams.Batch) {
		b.Append("$ingest", 1, rec("b", "4"))
		b.Set([]byte("pos"), []byte("8"))
		b.Set([]byte("gone"), []byte("x"))
		b.Unset([]byte("gone"))
	})
	check := func(s *Store) {
		t.Helper()
		same(t, "ingest", texts(read(t, s, "$ingest", 1, 0, 0, 0)), "[0 a=1 1 a=2 2 b=3 3 b=4]")
		same(t, "middle", texts(read(t, s, "$ingest", 1, 2, 1, 0)), "[2 b=3]")
		same(t, "two bytes", texts(read(t, s, "$ingest", 1, 0, 0, 5)), "[0 a=1 1 a=2]")
		same(t, "one at least", texts(read(t, s, "$ingest", 1, 3, 0, 1)), "[3 b=4]")
		same(t, "tip", texts(read(t, s, "$ingest", 1, 4, 0, 0)), "[]")
		same(t, "beyond", texts(read(t, s, "$ingest", 1, 1<<63, 0, 0)), "[]")
		same(t, "plant", texts(read(t, s, "plant", 0, 0, 0, 0)), "[0 x=p]")
		if r := read(t, s, "$ingest", 3, 0, 0, 0); r[0].Time != 42 || len(r[0].Data) != 0 {
			t.Fatalf("record %+v", r[0])
		}
		if r := read(t, s, "plant", 0, 0, 0, 0); r[0].Time != b.Time() {
			t.Fatalf("time %d, want %d", r[0].Time, b.Time())
		}
		if v, err := s.Get([]byte("pos")); err != nil || string(v) != "8" {
			t.Fatalf("pos %q, %v", v, err)
		}
		if v, err := s.Get([]byte("gone")); err != nil || v != nil {
			t.Fatalf("gone %q, %v", v, err)
		}
		var keys []string
		if err := s.Scan([]byte("p"), func(k, v []byte) bool {
			keys = append(keys, string(k)+string(v))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		same(t, "scan", keys, "[pos8]")
		size, err := s.Size("$ingest")
		if err != nil || size.Records != 5 {
			t.Fatalf("size %+v, %v", size, err)
		}
	}
	check(s)
	before, _ := s.Size("$ingest")
	stop()
	s, _ = start(t, "", Options{FS: fs})
	check(s)
	after, _ := s.Size("$ingest")
	same(t, "size after reopening", after, before)
	b = commit(t, s, func(b *streams.Batch) { b.Append("$ingest", 1, rec("b", "5")) })
	same(t, "next offset", b.Offset(0), 4)
}

func TestRefused(t *testing.T) {
	s, stop := start(t, "", Options{MemTableSize: 32 << 20})
	create(t, s, "a", streams.Config{Shards: 2})
	commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "v")) })
	tests := []struct {
		name string
		fill func(b *streams.Batch)
		want error
	}{
		{"no stream", func(b *streams.Batch) { b.Append("b", 0, rec("k", "v")) }, streams.ErrNotFound},
		{"no shard", func(b *streams.Batch) { b.Append("a", 2, rec("k", "v")) }, streams.ErrShard},
		{"negative shard", func(b *streams.Batch) { b.Append("a", -1, rec("k", "v")) }, streams.ErrShard},
		{"data", func(b *streams.Batch) {
			b.Append("a", 0, streams.Record{Data: make([]byte, streams.MaxData+1)})
		}, streams.ErrTooLarge},
		{"key", func(b *streams.Batch) {
			b.Append("a", 0, streams.Record{Key: string(make([]byte, streams.MaxKey+1))})
		}, streams.ErrTooLarge},
		{"empty", func(b *streams.Batch) {}, nil},
		{"largest", func(b *streams.Batch) {
			b.Append("a", 1, streams.Record{Key: string(make([]byte, streams.MaxKey)),
				Data: make([]byte, streams.MaxData)})
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := s.NewBatch()
			b.Append("a", 0, rec("good", "neighbour"))
			b.Reset()
			tt.fill(b)
			if tt.want != nil { // nothing of such a batch is stored
				b.Append("a", 0, rec("good", "neighbour"))
				b.Set([]byte("k"), []byte("v"))
			}
			if err := s.Commit(t.Context(), b); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			same(t, "shard 0", texts(read(t, s, "a", 0, 0, 0, 0)), "[0 k=v]")
			if v, _ := s.Get([]byte("k")); v != nil {
				t.Fatal("metadata of a refused batch was stored")
			}
		})
	}
	if err := s.Create("a", streams.Config{Shards: 1}); !errors.Is(err, streams.ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	for _, bad := range []struct {
		name string
		c    streams.Config
	}{{"", streams.Config{Shards: 1}}, {"a b", streams.Config{Shards: 1}}, {"x", streams.Config{}},
		{"x", streams.Config{Shards: streams.MaxShards + 1}}, {"x", streams.Config{Shards: 1, MaxBytes: -1}}} {
		if err := s.Create(bad.name, bad.c); err == nil {
			t.Errorf("Create(%q, %+v) worked", bad.name, bad.c)
		}
	}
	if _, err := s.Read("a", 9, 0, 1, 1); !errors.Is(err, streams.ErrShard) {
		t.Errorf("read: %v", err)
	}
	if _, err := s.Describe("none"); !errors.Is(err, streams.ErrNotFound) {
		t.Errorf("describe: %v", err)
	}
	stop()
	if err := s.Commit(context.Background(), s.NewBatch()); !errors.Is(err, streams.ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
	called := false
	s.CommitAsync(s.NewBatch(), func(err error) { called = errors.Is(err, streams.ErrClosed) })
	if !called {
		t.Error("CommitAsync after close: done not called with ErrClosed")
	}
	if _, err := s.Get([]byte("k")); !errors.Is(err, streams.ErrClosed) {
		t.Errorf("get after close: %v", err)
	}
	if err := s.Create("late", streams.Config{Shards: 1}); !errors.Is(err, streams.ErrClosed) {
		t.Errorf("create after close: %v", err)
	}
	if err := s.Trim("a", 0, 1); !errors.Is(err, streams.ErrClosed) {
		t.Errorf("trim after close: %v", err)
	}
}

// Blocks are bounded, also when a batch is much larger, and reads cross them.
func TestManyBlocks(t *testing.T) {
	s, _ := start(t, "", Options{MemTableSize: 4 << 20})
	create(t, s, "a", streams.Config{Shards: 1})
	const n, size = 3000, 1000
	commit(t, s, func(b *streams.Batch) {
		for i := range n {
			b.Append("a", 0, streams.Record{Key: fmt.Sprint("k", i/10), Data: fmt.Appendf(make([]byte, size), "%d", i)})
		}
		if b.Len() != n || b.Bytes() < n*size {
			t.Errorf("len %d, bytes %d", b.Len(), b.Bytes())
		}
	})
	for from := uint64(0); from < n; {
		rs := read(t, s, "a", 0, from, 700, 900_000)
		if len(rs) == 0 || len(rs) > 700 {
			t.Fatalf("%d records from %d", len(rs), from)
		}
		for i, r := range rs {
			want := int(from) + i
			if r.Offset != uint64(want) || r.Key != fmt.Sprint("k", want/10) ||
				string(r.Data[size:]) != fmt.Sprint(want) {
				t.Fatalf("record %d: offset %d key %s", want, r.Offset, r.Key)
			}
		}
		from += uint64(len(rs))
	}
	size1, _ := s.Size("a")
	blocks := 0
	it, err := s.streams["a"].shards[0].iter(s, n)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, _ := it.ValueAndErr()
		size1.Bytes -= int64(len(v))
		if blocks++; len(v) > maxBlock+headerLen {
			t.Errorf("block of %d bytes", len(v))
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if size1.Bytes != 0 || blocks < 3 {
		t.Errorf("accounting is off by %d bytes, %d blocks", size1.Bytes, blocks)
	}
}

func TestDeleteAndCreateAgain(t *testing.T) {
	fs := vfs.NewMem()
	s, stop := start(t, "", Options{FS: fs})
	create(t, s, "a", streams.Config{Shards: 1})
	create(t, s, "b", streams.Config{Shards: 1})
	one, _ := s.Describe("a")
	commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "old")); b.Append("b", 0, rec("k", "stays")) })
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(context.Background(), "a", 0, 5) }()
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, streams.ErrNotFound) {
		t.Fatalf("wait: %v", err)
	}
	if err := s.Delete("a"); !errors.Is(err, streams.ErrNotFound) {
		t.Fatalf("delete twice: %v", err)
	}
	stop()
	s, _ = start(t, "", Options{FS: fs})
	create(t, s, "a", streams.Config{Shards: 1})
	two, _ := s.Describe("a")
	if two.ID <= one.ID || two.ID == 2 {
		t.Fatalf("ids %d, %d", one.ID, two.ID)
	}
	same(t, "a", texts(read(t, s, "a", 0, 0, 0, 0)), "[]")
	same(t, "b", texts(read(t, s, "b", 0, 0, 0, 0)), "[0 k=stays]")
	names := ""
	for _, i := range s.List() {
		names += i.Name
	}
	same(t, "list", names, "ab")
}

func TestUpdateSurvives(t *testing.T) {
	fs := vfs.NewMem()
	s, stop := start(t, "", Options{FS: fs})
	create(t, s, "a", streams.Config{Shards: 3, Retention: time.Hour, MaxBytes: 5})
	if err := s.Update("a", 2*time.Hour, 6); err != nil {
		t.Fatal(err)
	}
	if err := s.Update("b", 0, 0); !errors.Is(err, streams.ErrNotFound) {
		t.Fatal(err)
	}
	want, _ := s.Describe("a")
	stop()
	s, _ = start(t, "", Options{FS: fs})
	got, err := s.Describe("a")
	if err != nil || got.Retention != 2*time.Hour || got.MaxBytes != 6 || got.Shards != 3 ||
		!got.Created.Equal(want.Created) || got.ID != want.ID {
		t.Fatalf("%+v, %v", got, err)
	}
}

// Create and reads work without Run, commits wait for it, and ctx takes a
// batch back.
func TestBeforeRun(t *testing.T) {
	s, err := Open("", Options{FS: vfs.NewMem(), QueueBytes: 150})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", streams.Config{Shards: 1})
	if s.Ready() {
		t.Error("ready without Run")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	b := s.NewBatch()
	b.Append("a", 0, rec("k", "withdrawn"))
	if err := s.Commit(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("commit: %v", err)
	}
	// Two fit, the third waits for room and the fourth gives up.
	got := make(chan int, 3)
	var wg sync.WaitGroup
	for i := range 3 {
		b := s.NewBatch()
		b.Append("a", 0, rec("k", fmt.Sprint(i)))
		queue := func() { s.CommitAsync(b, func(err error) { same(t, "err", err, nil); got <- i }) }
		if i < 2 {
			queue()
			continue
		}
		wg.Go(queue)
	}
	for {
		s.queue.mu.Lock()
		n := len(s.queue.room)
		s.queue.mu.Unlock()
		if n == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Commit(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("commit: %v", err)
	}
	same(t, "nothing yet", texts(read(t, s, "a", 0, 0, 0, 0)), "[]")

	ctx, cancel = context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	for i := range 3 {
		same(t, "order", <-got, i)
	}
	wg.Wait()
	same(t, "all", texts(read(t, s, "a", 0, 0, 0, 0)), "[0 k=0 1 k=1 2 k=2]")
	if !s.Ready() {
		t.Error("not ready")
	}
	// What is queued when Run is told to end is still written.
	for i := range 50 {
		b := s.NewBatch()
		b.Append("a", 0, rec("k", fmt.Sprint(i)))
		s.CommitAsync(b, func(error) {})
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if _, next, _ := s.Bounds("a", 0); next != 53 {
		t.Errorf("next %d, want 53", next)
	}
	if err := s.Wait(t.Context(), "a", 0, 99); !errors.Is(err, streams.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run twice worked")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// latest says what a key holds now.
type latest map[string]string

func (l latest) Value(key []byte) []byte {
	if v, ok := l[string(key)]; ok {
		return []byte(v)
	}
	return nil
}

// A value from a source is the one that the source has when the batch is
// written, so a batch that comes late brings no older one back.
func TestSetFrom(t *testing.T) {
	s, _ := start(t, "", Options{FS: vfs.NewMem()})
	src := latest{"a": "1"}
	early, late := s.NewBatch(), s.NewBatch()
	early.SetFrom([]byte("a"), src, 1)
	src["a"] = "2"
	late.SetFrom([]byte("a"), src, 1)
	for _, b := range []*streams.Batch{late, early} {
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Get([]byte("a")); string(v) != "2" || err != nil {
			t.Errorf("%q %v", v, err)
		}
	}
	delete(src, "a")
	early.Reset()
	early.SetFrom([]byte("a"), src, 1)
	if err := s.Commit(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get([]byte("a")); v != nil || err != nil {
		t.Errorf("%q %v", v, err)
	}
}
