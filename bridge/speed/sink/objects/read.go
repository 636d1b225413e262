package objects

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// An Object is one that is open for reading. It stays as it is while it is
// replaced or deleted.
type Object struct {
	Info
	f *os.File
	s *Store
	n int64 // bytes read
}

// Read implements io.Reader.
func (o *Object) Read(p []byte) (int, error) {
	n, err := o.f.Read(p)
	o.n += int64(n)
	return n, err
}

// Range has Read give n bytes from offset on.
func (o *Object) Range(offset, n int64) (io.Reader, error) {
	if _, err := o.f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.LimitReader(o, n), nil
}

// Close closes the file.
func (o *Object) Close() error {
	o.s.count(func(c *Counters) { c.Read++; c.BytesRead += o.n })
	return o.f.Close()
}

// Open opens an object; sink.ErrNotFound if there is none.
func (s *Store) Open(bucket, key string) (*Object, error) {
	f, err := s.find(bucket, key)
	if err != nil {
		return nil, err
	}
	info, err := infoOf(f, key)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Object{Info: info, f: f, s: s}, nil
}

// Stat is what is known of an object; sink.ErrNotFound if there is none.
func (s *Store) Stat(bucket, key string) (Info, error) {
	f, err := s.find(bucket, key)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	return infoOf(f, key)
}

// find opens the file of an object. One that another moves meanwhile from the
// one place to the other is found by the third look.
func (s *Store) find(bucket, key string) (*os.File, error) {
	if err := errors.Join(sink.CheckBucket(bucket), checkKey(key)); err != nil {
		return nil, err
	}
	at := []string{path.Join(bucket, escaped(key))}
	if isPath(key) {
		at = []string{path.Join(bucket, key), at[0], path.Join(bucket, key)}
	}
	for _, name := range at {
		f, err := s.openFile(name)
		if err != nil || f != nil {
			return f, err
		}
	}
	return nil, fmt.Errorf("object %s/%s: %w", bucket, key, sink.ErrNotFound)
}

// openFile opens a plain file, nil where there is none.
func (s *Store) openFile(name string) (*os.File, error) {
	// Not to wait where somebody has put a pipe.
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// Delete removes an object, if cond holds of it: one that is not there is
// deleted already. When it returns nil it stays so.
func (s *Store) Delete(bucket, key string, cond Condition) error {
	if err := errors.Join(sink.CheckBucket(bucket), checkKey(key)); err != nil {
		return err
	}
	unlock := s.lock(bucket, key)
	defer unlock()
	old, err := s.Stat(bucket, key)
	if err != nil && !errors.Is(err, sink.ErrNotFound) {
		return err
	}
	if err != nil { // also where a condition asks for one
		return s.removeBoth(bucket, key)
	}
	if err := cond.holds(old, true); err != nil {
		return err
	}
	err = s.removeBoth(bucket, key)
	if err != nil {
		err = fmt.Errorf("object %s/%s: %w", bucket, key, err)
		if _, still := s.Stat(bucket, key); !errors.Is(still, sink.ErrNotFound) {
			return err
		}
	}
	s.changed(bucket, old.Size, true, 0, false)
	s.count(func(c *Counters) { c.Deleted++ })
	if err != nil { // it is not seen any more, and may come back with a crash
		return err
	}
	if isPath(key) {
		s.prune(bucket, path.Dir(path.Join(bucket, key)))
	}
	return nil
}

// removeBoth removes the files of a key, that which does not count first.
func (s *Store) removeBoth(bucket, key string) error {
	s.tree.shape.RLock()
	defer s.tree.shape.RUnlock()
	if err := s.remove(path.Join(bucket, escaped(key))); err != nil || !isPath(key) {
		return err
	}
	name := path.Join(bucket, key)
	if info, err := s.root.Lstat(name); err == nil && info.IsDir() {
		return nil // it was the other
	}
	return s.remove(name)
}

// Matches says whether an ETag is one of a header's: in quotes or not, between
// commas, or "*" for any.
func Matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		if tag == "*" || tag == etag {
			return true
		}
	}
	return false
}
