package pebble

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A checkpoint under load has all that was acknowledged before it, batches as a whole,
// and as many commits as it says; the store goes on, and removing a checkpoint does
// nothing to it.
func TestCheckpoint(t *testing.T) {
	sd, dir := seed(t), t.TempDir()
	s, stop := start(t, filepath.Join(dir, "log"), Options{MemTableSize: 256 << 10})
	createCrashStreams(t, s)
	m := newModel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for w := range 4 {
		r := rand.New(rand.NewPCG(sd, uint64(w)))
		wg.Go(func() { m.write(ctx, s, w, r) })
	}
	var longest time.Duration
	for i := range 10 {
		for before := m.count(); m.count() < before+20*i; { // however slow the machine
			time.Sleep(100 * time.Microsecond)
		}
		if err := s.BeforeCheckpoint(); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		known := &model{acked: maps.Clone(m.acked), last: maps.Clone(m.last)}
		m.mu.Unlock()
		cut := filepath.Join(dir, "cut")
		if err := os.Mkdir(cut, 0o700); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		at, err := s.Checkpoint(filepath.Join(cut, "log"))
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(began))
		m.mu.Lock()
		known.tried = maps.Clone(m.tried)
		m.mu.Unlock()
		c, end := start(t, filepath.Join(cut, "log"), Options{})
		if got := c.Position(); got != at || c.Missing() != 0 {
			t.Errorf("the checkpoint is at %+v and misses %d, want %+v and 0", got, c.Missing(), at)
		}
		known.check(t, c)
		end()
		if err := os.RemoveAll(cut); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("checkpoint %d", i)
		}
	}
	cancel()
	wg.Wait()
	stop()
	again, _ := start(t, filepath.Join(dir, "log"), Options{})
	m.check(t, again)
	t.Logf("%d batches, the longest checkpoint took %s", len(m.acked), longest)
}

// A checkpoint into a folder that is there, or of a closed store, is refused.
func TestCheckpointRefused(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, filepath.Join(dir, "log"), Options{})
	if _, err := s.Checkpoint(dir); err == nil {
		t.Error("a folder that is there was taken")
	}
	if _, err := s.Checkpoint(filepath.Join(dir, "one")); err != nil {
		t.Error(err)
	}
	stop()
	if _, err := s.Checkpoint(filepath.Join(dir, "two")); err == nil {
		t.Error("a closed store made a checkpoint")
	}
}
