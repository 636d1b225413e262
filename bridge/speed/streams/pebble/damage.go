package pebble

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/blob"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// openDB opens the database. What Pebble finds wrong with its files is an error
// with ErrCorrupt that names them.
func (s *Store) openDB(o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: %s: %v", streams.ErrCorrupt, s.frame(), p)
		}
	}()
	o.FS = sound{syncing{o.FS, &s.unsynced}}
	// Without its marker Pebble begins a new database beside the old one.
	names, _ := o.FS.List(s.dir)
	has := func(prefix string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) })
	}
	if has("MANIFEST-") && !has("marker.manifest.") {
		return nil, fmt.Errorf("%w: %s: marker.manifest.* is missing", streams.ErrCorrupt, s.dir)
	}
	if err := pebbleFormat(names); err != nil {
		return nil, err
	}
	db, err = pebble.Open(s.dir, o)
	var system syscall.Errno
	switch {
	case err == nil:
	case s.fileOf(err) != "":
		return nil, s.named(err)
	case errors.As(err, &system) && system != syscall.ENOENT, strings.Contains(err.Error(), "lock held"):
		return nil, err
	default:
		return nil, fmt.Errorf("%w: %s: %w", streams.ErrCorrupt, s.frame(), err)
	}
	if err := valuesThere(db, o.FS, s.dir); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// frame names the files that hold the database together.
func (s *Store) frame() string {
	names, _ := s.opts.FS.List(s.dir)
	slices.Sort(names)
	var all []string
	for _, n := range names {
		if strings.HasPrefix(n, "MANIFEST-") || strings.HasPrefix(n, "OPTIONS-") || strings.HasPrefix(n, "marker.") ||
			strings.HasSuffix(n, ".log") {
			all = append(all, n)
		}
	}
	return "one of " + strings.Join(all, ", ")
}

// fileNumber is how Pebble's errors call a file, whose ending they leave out.
var fileNumber = regexp.MustCompile(`(?:file|table) (\d{6,})`)

// fileOf returns the name of the file that an error of Pebble's is about, ""
// if that is none. A file that is missing may be one that a damaged manifest
// refers to.
func (s *Store) fileOf(err error) string {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return s.opts.FS.PathBase(info.Path)
	}
	m := fileNumber.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	names, _ := s.opts.FS.List(s.dir)
	for _, n := range names {
		if strings.HasPrefix(n, m[1]+".") {
			return n
		}
	}
	return m[1] + ".sst is missing, or damaged is " + s.frame()
}

// named marks an error of damage with ErrCorrupt, names the file, and logs that
// once.
func (s *Store) named(err error) error {
	if err == nil || errors.Is(err, streams.ErrCorrupt) || !pebble.IsCorruptionError(err) &&
		pebble.ExtractDataCorruptionInfo(err) == nil &&
		!strings.Contains(err.Error(), "unknown to the objstorage provider") {
		return err
	}
	name := s.fileOf(err)
	err = plain{err}
	s.logDamage(name, err)
	return fmt.Errorf("%w: %s: %w", streams.ErrCorrupt, s.opts.FS.PathJoin(s.dir, name), err)
}

// plain is an error of Pebble without the line that stands for its details.
type plain struct{ error }

func (e plain) Error() string {
	return strings.ReplaceAll(e.error.Error(), "\n<corruption detail carrier>", "")
}

// Unwrap returns the error with its details.
func (e plain) Unwrap() error { return e.error }

// valuesThere returns an error if there are fewer files of values than the
// database refers to. Pebble finds tables that are missing, but would panic for
// such a file when it is read, see sound. There may be more of them, which are to be
// removed.
func valuesThere(db *pebble.DB, fs vfs.FS, dir string) error {
	live := int(db.Metrics().BlobFiles.LiveCount)
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	found := 0
	for _, n := range names {
		if strings.HasSuffix(n, ".blob") {
			found++
		}
	}
	if found < live {
		return fmt.Errorf("%w: %s: %d of %d files *.blob are missing", streams.ErrCorrupt, dir, live-found, live)
	}
	return nil
}

// A sound file system looks at the frame of each file of values that is opened.
// Pebble v2.1.7 panics where that is damaged (file_cache.go, findOrCreateBlob,
// reports the corruption of no file), unless the file cannot be opened at all.
type sound struct{ vfs.FS }

func (s sound) Unwrap() vfs.FS { return s.FS }

func (s sound) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, ".blob") {
		return f, err
	}
	in, err := sstable.NewSimpleReadable(unclosed{f})
	if err == nil {
		_, err = blob.NewFileReader(context.Background(), in, blob.FileReaderOptions{})
	}
	if err != nil {
		// Not the cause itself: its mark is what Pebble would panic for.
		return nil, errors.Join(fmt.Errorf("%w: %s: %v", streams.ErrCorrupt, name, err), f.Close())
	}
	return f, nil
}

// unclosed is a file that stays open.
type unclosed struct{ vfs.File }

func (unclosed) Close() error { return nil }

// damages are the files that were found damaged, each logged once.
type damages struct {
	mu     sync.Mutex
	logged map[string]bool
}

// logDamage logs damage, once a file.
func (s *Store) logDamage(name string, err error) {
	s.damages.mu.Lock()
	defer s.damages.mu.Unlock()
	if s.damages.logged[name] {
		return
	}
	if s.damages.logged == nil {
		s.damages.logged = map[string]bool{}
	}
	s.damages.logged[name] = true
	s.log.Error("a file of the log is damaged, what it holds cannot be read", "file", s.opts.FS.PathJoin(s.dir, name),
		"err", err)
}

// damaged is told by Pebble of a damaged file, in its background work too.
func (s *Store) damaged(info pebble.DataCorruptionInfo) {
	s.logDamage(s.opts.FS.PathBase(info.Path), info.Details)
}
