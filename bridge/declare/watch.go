package declare

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How soon changes in bridge.d are applied.
const (
	watchQuiet = 300 * time.Millisecond // without a change, so that a half-written file is left to its writer
	watchMost  = 2 * time.Second        // after the first change, though they go on
	watchLook  = 30 * time.Second       // between two looks for what the system did not tell
)

// A watcher applies declarations when their files change. It listens to the
// system (inotify), which tells nothing of network file systems and of what
// links point to elsewhere, and may have no watch to give; so it also looks at
// names, sizes and times now and then.
type watcher struct {
	root    string   // bridge.d
	dirs    []string // below it
	listen  func(dirs []string) (*listener, error)
	apply   func()
	refused func() bool // something is: it may be well next time, though its file stays
	log     *slog.Logger

	deaf bool // listen failed the last time
}

// A listener is told of changes in some folders.
type listener struct {
	events <-chan fsnotify.Event
	errs   <-chan error
	close  func() error
}

// run watches until ctx ends. It listens anew after each change, since
// folders may be others than before under the same name, and reads after it
// began to listen, so that it misses nothing.
func (w *watcher) run(ctx context.Context) {
	look := time.NewTicker(watchLook)
	defer look.Stop()
	for {
		l, err := w.listen(append([]string{w.root}, w.dirs...))
		if err != nil && !w.deaf {
			w.log.Warn("changes of bridge.d may be seen late: they cannot be watched", "looked_at_every", watchLook,
				"err", err)
		}
		w.deaf = err != nil
		seen := fingerprint(w.dirs)
		w.apply()
		w.wait(ctx, l, look.C, seen)
		if err := l.close(); err != nil {
			w.log.Warn("a watch of bridge.d cannot be closed", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// wait returns after a change, once it is quiet.
func (w *watcher) wait(ctx context.Context, l *listener, look <-chan time.Time, seen string) {
	var quiet, most <-chan time.Time
	for {
		select {
		case e, ok := <-l.events:
			if !ok {
				l.events = nil
			}
			if !ok || !w.concerns(e.Name) {
				continue
			}
			quiet = time.After(watchQuiet)
			if most == nil {
				most = time.After(watchMost)
			}
		case err, ok := <-l.errs: // events were lost
			if !ok {
				l.errs = nil
				continue
			}
			w.log.Warn("watching bridge.d failed, it is read anew", "err", err)
			return
		case <-look:
			// While changes go on they are not looked for.
			if quiet == nil && (w.deaf || w.refused() || fingerprint(w.dirs) != seen) {
				return
			}
		case <-quiet:
			return
		case <-most:
			return
		case <-ctx.Done():
			return
		}
	}
}

// concerns says whether something that happened to the path may concern
// bridge.d: it is in there, or above it.
func (w *watcher) concerns(path string) bool {
	within := func(path, dir string) bool {
		return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	}
	path, root := filepath.Clean(path), filepath.Clean(w.root) // "./x" in a relative folder
	return within(path, root) || within(root, path)
}

// openListener makes a listener to the folders; where one is missing, to what is
// above it, and where one is a link, to where that is as well. With an error
// it listens to as much as could be had.
func openListener(dirs []string) (*listener, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return &listener{close: func() error { return nil }}, err
	}
	var errs []error
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			errs = append(errs, w.Add(filepath.Dir(dir)))
		}
		err := w.Add(dir)
		for errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			err = w.Add(dir)
		}
		errs = append(errs, err)
	}
	return &listener{w.Events, w.Errors, w.Close}, errors.Join(errs...)
}
