package objects

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// A Bucket is a folder.
type Bucket struct {
	Name string
	Made time.Time // or the folder's time, of one that was made otherwise
}

// Buckets are all, by name.
func (s *Store) Buckets() ([]Bucket, error) {
	f, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var all []Bucket
	for _, e := range entries {
		if sink.CheckBucket(e.Name()) != nil || !e.IsDir() {
			continue
		}
		b, err := s.Bucket(e.Name())
		if errors.Is(err, ErrNoBucket) {
			continue // deleted since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Bucket) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Bucket is that of a name, or ErrNoBucket.
func (s *Store) Bucket(name string) (Bucket, error) {
	if err := sink.CheckBucket(name); err != nil {
		return Bucket{}, err
	}
	info, err := s.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return Bucket{}, fmt.Errorf("%w: %s", ErrNoBucket, name)
	}
	if err != nil {
		return Bucket{}, err
	}
	// The store's own folder is made with a bucket, and nothing changes there.
	if made, err := s.root.Stat(path.Join(name, own, "made")); err == nil {
		info = made
	}
	return Bucket{name, info.ModTime()}, nil
}

// CreateBucket makes a bucket, or says ErrBucketExists.
func (s *Store) CreateBucket(name string) error {
	if err := sink.CheckBucket(name); err != nil {
		return err
	}
	s.tree.shape.RLock()
	defer s.tree.shape.RUnlock()
	if _, err := s.root.Lstat(name); err == nil {
		return fmt.Errorf("%w: %s", ErrBucketExists, name)
	}
	return s.mkdirs(path.Join(name, own, "made"))
}

// DeleteBucket removes a bucket without objects, and the uploads to it that are
// open. ErrNotEmpty: there are objects.
func (s *Store) DeleteBucket(name string) error {
	if _, err := s.Bucket(name); err != nil {
		return err
	}
	s.tree.shape.Lock()
	defer s.tree.shape.Unlock()
	if holds, err := s.holdsFiles(name, name); err != nil || holds {
		return cmp.Or(err, fmt.Errorf("%w: %s", ErrNotEmpty, name))
	}
	// First out of sight, as a whole.
	gone := beside()
	if err := s.root.Rename(name, gone); err != nil {
		return err
	}
	s.forget(name)
	if err := s.sync("."); err != nil {
		return err
	}
	return s.root.RemoveAll(gone)
}

// holdsFiles says whether a folder of a bucket has a file, also one that is no
// object, uploads aside.
func (s *Store) holdsFiles(bucket, folder string) (holds bool, err error) {
	var folders []string
	err = s.readFolder(folder, func(e fs.DirEntry) {
		switch name := path.Join(folder, e.Name()); {
		case !isFolder(e):
			holds = true
		case name == path.Join(bucket, own):
			folders = append(folders, path.Join(bucket, escapedKeys))
		default:
			folders = append(folders, name)
		}
	})
	for _, f := range folders {
		if err != nil || holds {
			break
		}
		holds, err = s.holdsFiles(bucket, f)
	}
	return holds, err
}

// forget drops what is known of a bucket.
func (s *Store) forget(bucket string) {
	s.tree.mu.Lock()
	clear(s.tree.known)
	s.tree.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.usage, bucket)
	for id, u := range s.uploads {
		if u.bucket == bucket {
			s.end(id)
		}
	}
}
