package objects

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"
)

// every is how often Run counts anew and looks for old uploads.
const every = time.Hour

// Counters are of what a Store has done since it was opened.
type Counters struct {
	Written, Read, Deleted, Parts int64 // objects and parts
	BytesWritten, BytesRead       int64
}

// Usage is what a bucket holds, as it was last counted and has changed since.
type Usage struct{ Objects, Bytes int64 }

// usage is Usage as it is kept: what was counted, and what has changed since the
// count began.
type usage struct {
	counted bool
	Usage
}

// parts are those of an open upload.
type parts struct {
	bucket string
	bytes  int64
}

// Uploads are the open uploads of all buckets.
type Uploads struct {
	Open  int
	Bytes int64 // of their parts
}

// Counters returns what the store has done.
func (s *Store) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Usage returns what each bucket holds that has been counted.
func (s *Store) Usage() (map[string]Usage, Uploads) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]Usage{}
	for name, u := range s.usage {
		if u.counted {
			all[name] = u.Usage
		}
	}
	return all, Uploads{len(s.uploads), s.parts}
}

func (s *Store) count(f func(*Counters)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.counts)
}

// changed says that an object of a bucket is another now.
func (s *Store) changed(bucket string, was int64, wasThere bool, is int64, isThere bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage[bucket]
	if u == nil {
		u = &usage{}
		s.usage[bucket] = u
	}
	if wasThere {
		u.Objects, u.Bytes = u.Objects-1, u.Bytes-was
	}
	if isThere {
		u.Objects, u.Bytes = u.Objects+1, u.Bytes+is
	}
}

// reserve takes a place among the open uploads.
func (s *Store) reserve(bucket, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.uploads) >= s.o.MaxUploads {
		return false
	}
	s.uploads[id] = &parts{bucket: bucket}
	return true
}

// ended gives the place of an upload and the bytes of its parts back.
func (s *Store) ended(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(id)
}

// end is ended. s.mu is held.
func (s *Store) end(id string) {
	if u := s.uploads[id]; u != nil {
		delete(s.uploads, id)
		s.parts -= u.bytes
	}
}

// addParts counts n bytes more of an upload's parts, if that may be.
func (s *Store) addParts(id string, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil {
		return true // ended meanwhile, which the caller finds
	}
	if n > 0 && s.o.MaxUploadBytes > 0 && s.parts+n > s.o.MaxUploadBytes {
		return false
	}
	u.bytes += n
	s.parts += n
	return true
}

// findUploads fills s.uploads.
func (s *Store) findUploads() error {
	buckets, err := s.Buckets()
	for _, b := range buckets {
		at := path.Join(b.Name, openUploads)
		err = errors.Join(err, s.readFolder(at, func(e fs.DirEntry) {
			s.uploads[e.Name()] = &parts{bucket: b.Name}
		}))
	}
	for id, u := range s.uploads {
		u.bytes = s.sizeOf(uploadName(u.bucket, id))
		s.parts += u.bytes
	}
	return err
}

// sizeOf is how many bytes the parts of an upload have.
func (s *Store) sizeOf(folder string) (bytes int64) {
	_ = s.readFolder(folder, func(e fs.DirEntry) {
		if info, err := e.Info(); err == nil && e.Name() != uploadFile {
			bytes += info.Size()
		}
	})
	return bytes
}

// Run counts what the buckets hold and ends uploads that are too old, at once and
// each hour, until ctx ends. Before a bucket was counted its size is not bounded.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.tidy(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("the objects cannot be counted, will be again", "err", err, "in", every)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Store) tidy(ctx context.Context) error {
	buckets, err := s.Buckets()
	for _, b := range buckets {
		err = errors.Join(err, s.sweep(ctx, b.Name), s.recount(ctx, b.Name))
	}
	return err
}

// sweep ends the old uploads of a bucket.
func (s *Store) sweep(ctx context.Context, bucket string) error {
	all, err := s.Uploads(ctx, bucket, "")
	for _, u := range all {
		if age := s.o.Now().Sub(u.Made); age > s.o.MaxUploadAge {
			s.o.Log.Info("an upload is ended for its age", "bucket", bucket, "key", u.Key, "upload", u.ID, "age", age)
			if failed := s.Abort(bucket, u); !errors.Is(failed, ErrNoUpload) {
				err = errors.Join(err, failed)
			}
		}
	}
	return err
}

// recount counts a bucket. What changes meanwhile may be counted or not; the next
// count is right about it.
func (s *Store) recount(ctx context.Context, bucket string) error {
	s.mu.Lock()
	before := Usage{}
	if u := s.usage[bucket]; u != nil {
		before = u.Usage
	}
	s.mu.Unlock()
	var found Usage
	var failed error
	for key := range s.walk(bucket, "", "", &failed) {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := s.size(bucket, key)
		if err == nil {
			found.Objects, found.Bytes = found.Objects+1, found.Bytes+info
		}
	}
	if failed != nil {
		return failed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage[bucket]
	if u == nil {
		u = &usage{}
		s.usage[bucket] = u
	}
	u.Objects, u.Bytes = found.Objects+u.Objects-before.Objects, found.Bytes+u.Bytes-before.Bytes
	u.counted = true
	return nil
}

// size is an object's, without opening it.
func (s *Store) size(bucket, key string) (int64, error) {
	if isPath(key) {
		if info, err := s.root.Lstat(path.Join(bucket, key)); err == nil && info.Mode().IsRegular() {
			return info.Size(), nil
		}
	}
	info, err := s.root.Lstat(path.Join(bucket, escaped(key)))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
