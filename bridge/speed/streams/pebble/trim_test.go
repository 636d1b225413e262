package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func TestTrim(t *testing.T) {
	s, err := Open("log", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	defer func() {
		cancel()
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Create("a", streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // four blocks of ten records
		b := s.NewBatch()
		for j := range 10 {
			b.Append("a", 0, streams.Record{Data: []byte(fmt.Sprint(10*i + j))})
		}
		if err := s.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ before, oldest uint64 }{{0, 0}, {9, 0}, {10, 10}, {25, 20}, {12, 20}, {40, 40},
		{99, 40}} {
		if err := s.Trim("a", 0, c.before); err != nil {
			t.Fatal(err)
		}
		oldest, next, err := s.Bounds("a", 0)
		if err != nil || oldest != c.oldest || next != 40 {
			t.Errorf("Trim(%d): %d to %d, %v; want %d to 40", c.before, oldest, next, err, c.oldest)
		}
		recs, err := s.Read("a", 0, 0, 100, 1<<20)
		if err != nil || uint64(len(recs)) != 40-c.oldest || len(recs) > 0 && recs[0].Offset != c.oldest {
			t.Errorf("Trim(%d): %d records to read, %v", c.before, len(recs), err)
		}
	}
	if err := s.Trim("none", 0, 1); !errors.Is(err, streams.ErrNotFound) {
		t.Errorf("no stream: %v", err)
	}
}

// A reader whose records all were trimmed waits for new ones.
func TestWaitBeforeTrimmed(t *testing.T) {
	s, _ := start(t, "", Options{})
	create(t, s, "a", streams.Config{Shards: 1})
	put := func() { commit(t, s, func(b *streams.Batch) { b.Append("a", 0, rec("k", "v")) }) }
	put()
	if err := s.Trim("a", 0, 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Wait(ctx, "a", 0, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v, with nothing to read", err)
	}
	put()
	if err := s.Wait(t.Context(), "a", 0, 0); err != nil {
		t.Error(err)
	}
	same(t, "after the wait", texts(read(t, s, "a", 0, 0, 0, 0)), "[1 k=v]")
}

// On a disk whose files cannot be made the log says so now and then, not
// thousands of times in a second, and commits go on when there is room again.
func TestFullDiskInTheBackground(t *testing.T) {
	var full atomic.Bool
	var tries atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			tries.Add(1)
			return syscall.ENOSPC
		}
		return nil
	}))
	var lines atomic.Int64
	s, _ := start(t, "", Options{FS: fs, MemTableSize: 256 << 10,
		Log: slog.New(slog.NewTextHandler(counter{&lines}, &slog.HandlerOptions{Level: slog.LevelError}))})
	create(t, s, "a", streams.Config{Shards: 1})
	full.Store(true)
	done := make(chan error)
	go func() { // more than the memory takes
		for range 40 {
			b := s.NewBatch()
			b.Append("a", 0, rec("k", strings.Repeat("v", 64<<10)))
			if err := s.Commit(t.Context(), b); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		t.Fatalf("commits did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	full.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := lines.Load(); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
	if n := tries.Load(); n > 100 { // in 0.3 s; without a pause thousands
		t.Errorf("%d tries", n)
	}
}

// A counter counts writes.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(1); return len(p), nil }
