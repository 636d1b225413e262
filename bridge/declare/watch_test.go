package declare

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

// A watched folder has a watcher whose events the test makes.
type watched struct {
	*watcher
	events  chan fsnotify.Event
	errs    chan error
	fail    error       // of listen
	wrong   atomic.Bool // something is refused
	applied atomic.Int64
	since   atomic.Int64 // ns of the bubble's clock at the last one
	began   time.Time
}

// watchInBubble runs a watcher of an empty folder until the test ends.
func watchInBubble(t *testing.T, fail error) *watched {
	root := t.TempDir()
	w := &watched{events: make(chan fsnotify.Event), errs: make(chan error), fail: fail, began: time.Now()}
	w.watcher = &watcher{root: root, dirs: []string{filepath.Join(root, "rules")}, log: slog.New(slog.DiscardHandler),
		listen: func([]string) (*listener, error) {
			if w.fail != nil {
				return &listener{close: func() error { return nil }}, w.fail
			}
			return &listener{w.events, w.errs, func() error { return nil }}, nil
		},
		apply:   func() { w.applied.Add(1); w.since.Store(int64(time.Since(w.began))) },
		refused: func() bool { return w.wrong.Load() },
	}
	if err := os.Mkdir(w.dirs[0], 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return w
}

func (w *watched) event(name string) {
	w.events <- fsnotify.Event{Name: filepath.Join(w.root, name), Op: fsnotify.Write}
}

func (w *watched) want(t *testing.T, n int64) {
	t.Helper()
	synctest.Wait()
	if got := w.applied.Load(); got != n {
		t.Errorf("after %v applied %d times, want %d", time.Since(w.began), got, n)
	}
}

// Changes are applied once, when it is quiet.
func TestWatchWaitsForQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchInBubble(t, nil)
		w.want(t, 1) // at the start
		for range 5 {
			w.event("rules/a.json")
			time.Sleep(watchQuiet - time.Millisecond)
		}
		w.want(t, 1)
		time.Sleep(time.Millisecond)
		w.want(t, 2)
		time.Sleep(watchLook)
		w.want(t, 2)
	})
}

func TestWatchDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchInBubble(t, nil)
		for range 39 {
			w.event("rules/a.json")
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if got := time.Duration(w.since.Load()); w.applied.Load() != 2 || got != watchMost {
			t.Errorf("applied %d times, the last after %v", w.applied.Load(), got)
		}
	})
}

// What happens beside bridge.d is nothing to it; what is lost is looked for.
func TestWatchHeedsWhatConcerns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchInBubble(t, nil)
		for _, other := range []string{"../registry.db", "../" + filepath.Base(w.root) + "2/rules/a.json"} {
			w.event(other)
		}
		time.Sleep(watchMost)
		w.want(t, 1)
		for i, mine := range []string{"", "..", "rules", "rules/a.json"} {
			w.event(mine)
			time.Sleep(watchQuiet)
			w.want(t, int64(2+i))
		}
		w.errs <- errors.New("queue overflow")
		w.want(t, 6)
	})
}

// Paths are as configured, perhaps relative.
func TestConcerns(t *testing.T) {
	for _, c := range []struct {
		root, path string
		want       bool
	}{
		{"bridge.d", "./bridge.d", true}, {"bridge.d", "./bridge.d/rules", true}, {"./data/bridge.d", "data", true},
		{"bridge.d", "./registry.db", false}, {"data/bridge.d/", "data/bridge.dx", false}, {"/bridge.d", "/", true},
	} {
		if got := (&watcher{root: c.root}).concerns(c.path); got != c.want {
			t.Errorf("%s below %s: %v", c.path, c.root, got)
		}
	}
}

// A file system that does not tell of changes is looked at.
func TestWatchLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchInBubble(t, nil)
		path := filepath.Join(w.dirs[0], "a.json")
		now := time.Now()
		n := int64(1)
		for _, change := range []func() error{
			func() error { return os.WriteFile(path, []byte("one"), 0o600) },
			func() error { return os.WriteFile(path, []byte("three"), 0o600) },
			func() error { return os.Chtimes(path, now, now.Add(time.Hour)) },
			func() error { return os.Remove(path) },
			func() error { return os.Remove(w.dirs[0]) },
			func() error { return errors.Join(os.Mkdir(w.dirs[0], 0o700), os.WriteFile(path, nil, 0o600)) },
		} {
			time.Sleep(watchLook)
			w.want(t, n) // nothing changed
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); err != nil && n == 5 {
				continue // an empty folder and none are the same
			}
			time.Sleep(watchLook)
			n++
			w.want(t, n)
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := watchInBubble(t, nil)
			w.wrong.Store(true)
			time.Sleep(watchLook)
			w.want(t, 2)
		})
	})
	t.Run("without a watch", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := watchInBubble(t, errors.New("too many watches"))
			time.Sleep(watchLook)
			w.want(t, 2)
		})
	})
}

// bridge_d.watch = false leaves it to reload.
func TestNoWatch(t *testing.T) {
	data := t.TempDir()
	write(t, data, map[string]string{"rules/a.json": payload(sql(1), "s")})
	b := open(t, data)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		watch bool
		force []string
	}{{false, nil}, {true, []string{"a " + sql(1)}}} {
		if err := b.openDir(c.watch, nil).Run(ended); err != nil { // it applies at first
			t.Error(err)
		}
		b.inForce(c.force...)
	}
}

// What was set by hand stays while another file changes.
func TestWatchLeavesUnchangedStreams(t *testing.T) {
	data := t.TempDir()
	write(t, data, map[string]string{"streams/a.json": `{"StreamName":"s","RetentionPeriodHours":24}`})
	b := open(t, data)
	retention := func(want time.Duration) {
		t.Helper()
		if s, err := b.store.Describe("s"); err != nil || s.Config.Retention != want {
			t.Errorf("%+v, %v, want %v", s, err, want)
		}
	}
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	one, hour := int32(1), time.Hour
	if err := b.kinesis.Declare(kinesis.Declaration{StreamName: "s", ShardCount: &one, Retention: &hour}); err != nil {
		t.Fatal(err)
	}
	write(t, data, map[string]string{"rules/a.json": payload(sql(1), "s"),
		"streams/b.json": `{"StreamName":"s","RetentionPeriodHours":24}`})
	if n, err := b.dir.Apply(false); err == nil || !strings.Contains(err.Error(), "streams/b.json: s is in ") ||
		n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	retention(time.Hour)
	if _, err := b.dir.Apply(true); err == nil {
		t.Error("no error")
	}
	retention(24 * time.Hour)
}
