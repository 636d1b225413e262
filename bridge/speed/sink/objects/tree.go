package objects

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// maxKnown bounds tree.known; beyond it folders are synced once more.
const maxKnown = 4096

// tries is how often a file is put where folders come and go.
const tries = 8

// errFolder means that a path is a folder's.
var errFolder = errors.New("objects: it is a folder")

// A tree is what is known of the folders below a Store's.
type tree struct {
	// shape is held for reading while an object is put into its folder, from the
	// making of that until the sync, and for writing while folders are removed or
	// objects make way for one. It is taken after Store.keys.
	shape sync.RWMutex

	mu    sync.Mutex      // guards known
	known map[string]bool // folders whose entry in their parent is synced

	// unsynced says that a file was removed whose folder could not be synced: what is not
	// there may come back with a crash.
	unsynced atomic.Bool
}

// place makes the file from the object key of bucket, which has to be there unless
// it is to be made. The key's lock is held.
func (s *Store) place(from, bucket, key string, makes bool) error {
	err := errFolder
	if isPath(key) {
		err = s.placePath(from, bucket, key, makes)
	}
	if !errors.Is(err, errFolder) {
		return err
	}
	s.tree.shape.RLock()
	defer s.tree.shape.RUnlock()
	if err := s.stands(bucket, makes); err != nil {
		return err
	}
	return s.rename(from, path.Join(bucket, escaped(key)))
}

// stands says ErrNoBucket of one that is not there, unless it is to be made. While
// tree.shape is held it stays so: what was deleted is not brought back by a put that
// saw it before.
func (s *Store) stands(bucket string, makes bool) error {
	if makes {
		return nil
	}
	_, err := s.Bucket(bucket)
	return err
}

// placePath is place for a key that is a path: errFolder if that is a folder. An
// object that is where a folder has to be makes way.
func (s *Store) placePath(from, bucket, key string, makes bool) error {
	name := path.Join(bucket, key)
	for range tries {
		blocked, err := s.tryPath(from, bucket, key, makes)
		if err != nil || blocked == "" {
			return err
		}
		if err := s.makeWay(bucket, blocked); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: its folders do not stay", name)
}

// tryPath renames from to where key is as a path, and removes an older object of it
// from where it is escaped. blocked is an object in the place of one of its folders; then nothing
// happened.
func (s *Store) tryPath(from, bucket, key string, makes bool) (blocked string, err error) {
	s.tree.shape.RLock()
	defer s.tree.shape.RUnlock()
	if err := s.stands(bucket, makes); err != nil {
		return "", err
	}
	name := path.Join(bucket, key)
	if info, err := s.root.Lstat(name); err == nil && info.IsDir() {
		return "", errFolder
	}
	err = s.rename(from, name)
	var in *blockedError
	if errors.As(err, &in) {
		return in.object, nil
	}
	if err == nil {
		err = s.remove(path.Join(bucket, escaped(key)))
	}
	return "", err
}

// A blockedError says which object is in the place of a folder.
type blockedError struct{ object string }

func (e *blockedError) Error() string { return e.object + " is an object, not a folder" }

// rename puts from at name, making its folders, and syncs. tree.shape is held.
func (s *Store) rename(from, name string) error {
	folder := path.Dir(name)
	if err := s.mkdirs(folder); err != nil {
		return err
	}
	if err := s.root.Rename(from, name); err != nil {
		return err
	}
	return s.sync(folder)
}

// makeWay moves an object that is where a folder has to be among the escaped
// ones. Readers find it at one of the two.
func (s *Store) makeWay(bucket, object string) error {
	s.tree.shape.Lock()
	defer s.tree.shape.Unlock()
	if info, err := s.root.Lstat(object); err != nil || info.IsDir() {
		return nil // the next try sees
	}
	key := strings.TrimPrefix(object, bucket+"/")
	if key == object { // the bucket itself
		return fmt.Errorf("%s is a file, not a bucket's folder", object)
	}
	to := path.Join(bucket, escaped(key))
	if err := s.rename(object, to); err != nil {
		return err
	}
	return s.sync(path.Dir(object))
}

// remove removes a file, if it is there, for good. tree.shape is held.
func (s *Store) remove(name string) error {
	switch err := s.root.Remove(name); {
	case err == nil:
		if err = s.sync(path.Dir(name)); err != nil {
			s.tree.unsynced.Store(true)
		}
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return s.gone(name)
	default:
		return err
	}
}

// gone makes sure that a file that is not there does not come back: where a sync failed,
// it may be a removal that is asked for again.
func (s *Store) gone(name string) error {
	if !s.tree.unsynced.Load() {
		return nil
	}
	for folder := path.Dir(name); ; folder = path.Dir(folder) {
		err := s.sync(folder)
		if err == nil || folder == "." || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
}

// mkdirs makes folder. A folder that is there already may have been made a
// moment ago by another, or by one that failed, or before a crash, and not
// be on disk yet: so the first use of each syncs its parent too.
func (s *Store) mkdirs(folder string) error {
	parent := "."
	for _, el := range strings.Split(folder, "/") {
		full := path.Join(parent, el)
		made := false
		switch err := s.root.Mkdir(full, 0o750); {
		case err == nil:
			made = true
		case errors.Is(err, fs.ErrExist):
			info, err := s.root.Stat(full)
			if err != nil {
				return err
			}
			if !info.IsDir() {
				return &blockedError{full}
			}
		default:
			return err
		}
		if err := s.knowFolder(parent, full, made); err != nil {
			return err
		}
		parent = full
	}
	return nil
}

// knowFolder syncs the entry of full in parent, unless it is known to be.
func (s *Store) knowFolder(parent, full string, made bool) error {
	t := &s.tree
	t.mu.Lock()
	if made {
		delete(t.known, full)
	}
	known := t.known[full]
	t.mu.Unlock()
	if known {
		return nil
	}
	if err := s.sync(parent); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxKnown {
		clear(t.known)
	}
	t.known[full] = true
	return nil
}

// prune removes folder and those above it, up to but not the bucket's, as far as
// they are empty. A crash brings some back, which nobody sees.
func (s *Store) prune(bucket, folder string) {
	for ; strings.HasPrefix(folder, bucket+"/"); folder = path.Dir(folder) {
		if empty, err := s.isEmpty(folder); err != nil || !empty || !s.rmdir(folder) {
			return
		}
	}
}

func (s *Store) rmdir(folder string) bool {
	s.tree.shape.Lock()
	defer s.tree.shape.Unlock()
	// Remove takes files too, and an object may be where the folder was.
	if info, err := s.root.Lstat(folder); err != nil || !info.IsDir() || s.root.Remove(folder) != nil {
		return false
	}
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	delete(s.tree.known, folder)
	return true
}

// isEmpty says whether name is a folder without entries.
func (s *Store) isEmpty(name string) (bool, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	return len(names) == 0 && errors.Is(err, io.EOF), nil
}

func (s *Store) syncFolder(name string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeDir makes dir and syncs the folder above each level that was missing.
func makeDir(dir string) error {
	var above []string
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		above = append(above, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, a := range above {
		f, err := os.Open(a)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
