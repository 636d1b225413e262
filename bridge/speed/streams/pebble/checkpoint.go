package pebble

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// BeforeCheckpoint writes to tables what only the write-ahead log has, so that a
// Checkpoint soon after it has little to copy. Commits go on meanwhile.
func (s *Store) BeforeCheckpoint() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("streams: flush: %w", err)
	}
	return nil
}

// Checkpoint makes a store in the new folder dir, below a folder that is there, that
// holds what this one holds now, and returns how far that has got. It is of hard links
// where dir is on the same file system, and of copies elsewhere; what cannot be linked,
// the write-ahead log and what lists the tables, is copied. All other writers wait
// meanwhile. Nothing in dir is synced: it is to be read and removed, not to be kept.
func (s *Store) Checkpoint(dir string) (at streams.Position, err error) {
	if err := s.enter(); err != nil {
		return at, err
	}
	defer s.leave()
	s.writes.Lock()
	defer s.writes.Unlock()
	if err := s.Err(); err != nil {
		return at, err
	}
	parent := s.opts.FS.PathDir(dir)
	s.unsynced.Store(&parent)
	defer s.unsynced.Store(nil)
	// A group that is written and not yet synced is in it: the flush syncs that, too.
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return at, errors.Join(fmt.Errorf("streams: checkpoint %s: %w", dir, err), s.Err())
	}
	return s.written, nil
}

// A syncing file system syncs but for what is below a folder, while there is one.
type syncing struct {
	vfs.FS
	not *atomic.Pointer[string]
}

func (s syncing) Unwrap() vfs.FS { return s.FS }

// skips says whether the file or folder at path is not synced.
func (s syncing) skips(path string) bool {
	folder := s.not.Load()
	return folder != nil && (path == *folder || strings.HasPrefix(path, *folder+"/"))
}

func (s syncing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return s.file(name, f), err
}

func (s syncing) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	return s.file(name, f), err
}

func (s syncing) file(name string, f vfs.File) vfs.File {
	if f == nil || !s.skips(name) {
		return f
	}
	return unsynced{f}
}

// An unsynced file is not synced when it is asked to be.
type unsynced struct{ vfs.File }

func (unsynced) Sync() error                { return nil }
func (unsynced) SyncData() error            { return nil }
func (unsynced) SyncTo(int64) (bool, error) { return false, nil }
