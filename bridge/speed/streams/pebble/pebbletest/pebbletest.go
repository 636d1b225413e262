// Package pebbletest starts logs in memory for tests.
package pebbletest

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// Start opens a log in memory that runs until the test ends; it may be called in a
// bubble of testing/synctest.
func Start(t testing.TB) *pebble.Store { return On(t, vfs.NewMem()) }

// On is Start on a file system, such as one that an earlier log was on.
func On(t testing.TB, fs vfs.FS) *pebble.Store {
	t.Helper()
	store, err := pebble.Open("log", Options(fs))
	if err != nil {
		t.Fatal(err)
	}
	Run(t, store)
	return store
}

// Options are those of a log on a file system that logs nothing. Nothing in it looks every
// 100 ms whether to compact: over a day of a bubble's clock that is a million wake-ups, and
// took seconds.
func Options(fs vfs.FS) pebble.Options {
	return pebble.Options{FS: fs, Log: slog.New(slog.DiscardHandler),
		Compactions: engine.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
}

// Run runs a log until the test ends, which closes it.
func Run(t testing.TB, store *pebble.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = store.Run(ctx) }) // ends with ctx
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}
