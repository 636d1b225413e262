package pebble

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/streamstest"
)

// An engine is a Store in memory that loses what was not synced.
type engine struct {
	fs     *vfs.MemFS
	ahead  atomic.Int64 // the clock, ns
	random *rand.Rand

	store *Store
	end   context.CancelFunc
	ran   chan error
}

func (e *engine) now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

func (e *engine) Start(t testing.TB) streams.Log {
	t.Helper()
	s, err := Open("log", Options{FS: e.fs, MemTableSize: 1 << 20, Now: e.now, RetainEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.store, e.end, e.ran = s, cancel, make(chan error, 1)
	go func() { e.ran <- s.Run(ctx) }()
	return s
}

func (e *engine) Stop(t testing.TB) {
	t.Helper()
	if e.store == nil {
		return
	}
	e.end()
	if err := errors.Join(<-e.ran, e.store.Close()); err != nil {
		t.Error(err)
	}
	e.store = nil
}

func (e *engine) Crash(t testing.TB) {
	t.Helper()
	// Of what was not synced the disk may have any part.
	after := e.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: e.random.IntN(101), RNG: e.random})
	e.Stop(t)
	e.fs = after
}

func (e *engine) Skip(t testing.TB) {
	t.Helper()
	s, err := Open("log", Options{FS: e.fs, MemTableSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SkipAhead(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func (e *engine) Advance(d time.Duration) { e.ahead.Add(int64(d)) }

func TestConformance(t *testing.T) {
	random := rand.New(rand.NewPCG(seed(t), 1))
	streamstest.Run(t, func(t *testing.T) streamstest.Engine {
		e := &engine{fs: vfs.NewCrashableMem(), random: random}
		t.Cleanup(func() { e.Stop(t) })
		return e
	})
}
