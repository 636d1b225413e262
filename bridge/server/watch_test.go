package server

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

// Files as editors and Kubernetes write them come into force by themselves,
// and a wrong one is told of once.
func TestWatch(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	dir := cfg.RulesDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	in := func(want string) {
		t.Helper()
		b.eventually("in force: "+want, func() bool {
			var got []string
			for _, r := range b.rules.Rules() {
				got = append(got, r.Name+strings.TrimSuffix(strings.TrimPrefix(r.Payload.SQL, "SELECT "), " AS v FROM 'a'"))
			}
			return strings.Join(got, " ") == want
		})
	}
	doc := func(n int) string { return payload(sql(n), "s") }

	write(at("a.json"), doc(1))
	in("a1")
	write(at(".a.json.new"), doc(2)) // an editor's write and rename
	must(os.Rename(at(".a.json.new"), at("a.json")))
	in("a2")

	f, err := os.Create(at("a.json")) // in two halves, slowly
	must(err)
	_, err = f.WriteString(doc(3)[:20])
	must(err)
	b.eventually("the half is refused", func() bool { return b.declared.NumRefused() == 1 })
	in("a2")
	_, err = f.WriteString(doc(3)[20:])
	must(err, f.Close())
	in("a3")
	b.eventually("nothing is refused", func() bool { return b.declared.NumRefused() == 0 })

	// A ConfigMap: names are links to ..data, which is a link that is swapped.
	must(os.Mkdir(at("..1"), 0o700), os.Mkdir(at("..2"), 0o700))
	write(at("..1/map.json"), doc(1))
	write(at("..2/map.json"), doc(2))
	must(os.Symlink("..1", at("..data")), os.Symlink("..data/map.json", at("map.json")))
	in("a3 map1")
	must(os.Symlink("..2", at("..data_tmp")), os.Rename(at("..data_tmp"), at("..data")), os.RemoveAll(at("..1")))
	in("a3 map2")

	write(at("bad.json"), "{")
	b.eventually("a bad one is refused", func() bool { return b.declared.NumRefused() == 1 })
	write(at("a.json"), doc(4))
	in("a4 map2")
	must(os.Remove(at("map.json")))
	in("a4")
	if n := strings.Count(b.log.String(), `bad.json"`); n != 1 {
		t.Errorf("bad.json is told of %d times:\n%s", n, b.log)
	}
	write(at("bad.json"), doc(5))
	in("a4 bad5")

	gone := func() {
		t.Helper()
		b.eventually("the folder is gone", func() bool { return b.declared.NumRefused() == 1 })
	}
	must(os.Rename(dir, dir+"-away"))
	gone() // and all stays
	in("a4 bad5")
	must(os.Rename(dir+"-away", dir))
	in("a4 bad5")
	root := cfg.BridgeD.Dir
	must(os.RemoveAll(root))
	gone()
	in("a4 bad5")
	must(os.MkdirAll(dir, 0o700))
	in("")
	write(at("late.json"), doc(1))
	in("late1")
	write(at("late.json"), doc(2))
	in("late2")

	// The whole folder is a link from now on, and is swapped.
	must(os.Rename(root, root+"-1"), os.Symlink(root+"-1", root))
	write(at("late.json"), doc(3))
	in("late3")
	must(os.MkdirAll(root+"-2/rules", 0o700))
	write(root+"-2/rules/late.json", doc(4))
	must(os.Symlink(root+"-2", root+".new"), os.Rename(root+".new", root))
	in("late4")
}

// bridge_d.watch = false leaves it to reload.
func TestNoWatch(t *testing.T) {
	cfg := configure(t)
	declare(t, cfg, map[string]string{"rules/a.json": payload(sql(1), "s")})
	b := idle(t, cfg)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		watch bool
		force []string
	}{{false, nil}, {true, []string{"a " + sql(1)}}} {
		b.declared.opts.Watch = c.watch
		if err := b.declared.Run(ended); err != nil { // it applies at first
			t.Error(err)
		}
		b.inForce(c.force...)
	}
}

// What was set by hand stays while another file changes.
func TestWatchLeavesUnchangedStreams(t *testing.T) {
	cfg := configure(t)
	declare(t, cfg, map[string]string{"streams/a.json": `{"StreamName":"s","RetentionPeriodHours":24}`})
	b := idle(t, cfg)
	retention := func(want time.Duration) {
		t.Helper()
		if s, err := b.streamInfo("s"); err != nil || s.Retention != want {
			t.Errorf("%+v, %v, want %v", s, err, want)
		}
	}
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := b.createStream("s", 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	declare(t, cfg, map[string]string{"rules/a.json": payload(sql(1), "s"), "streams/b.json": `{"StreamName":"s","RetentionPeriodHours":24}`})
	if n, err := b.declared.Apply(false); err == nil || !strings.Contains(err.Error(), "streams/b.json: s is in ") || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	retention(time.Hour)
	if _, err := b.Reload(); err == nil {
		t.Error("no error")
	}
	retention(24 * time.Hour)
}
