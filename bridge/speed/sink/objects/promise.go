package objects

import (
	"fmt"
)

// A promise is room that a Writer will need. Many Writers are open at once, and
// each is told at its beginning whether its object fits: so what was promised to
// the others, and is not in their files yet, is as good as written.

// promises are those of all open Writers.
type promises struct {
	held  map[string]int64 // bytes by bucket, written or not: its objects have them when they are committed
	ahead int64            // bytes of all buckets that are not written yet: the disk still tells them free
}

// promise gives w room for n bytes more, or says that bucket or disk have none.
func (w *Writer) promise(n int64) error {
	s := w.s
	// One after the other, for what is free and what is promised belong together.
	// ahead is read before free: what is written in between counts twice, not never.
	s.promising.Lock()
	defer s.promising.Unlock()
	s.mu.Lock()
	ahead, full, all := s.promises.ahead, s.isFull(w.bucket, n), s.areFull(n)
	s.mu.Unlock()
	if full {
		return fmt.Errorf("%w: %s may have %d bytes", ErrBucketFull, w.bucket, s.o.MaxBucket)
	}
	if all {
		return fmt.Errorf("%w: all buckets together may have %d bytes", ErrNoRoom, s.o.MaxBytes)
	}
	if s.o.Room != nil {
		if err := s.o.Room(); err != nil {
			return fmt.Errorf("%w: %w", ErrNoRoom, err)
		}
	}
	if s.o.MinFree > 0 {
		left, err := s.o.Free(s.path)
		if err != nil {
			return err
		}
		if left-ahead-n < s.o.MinFree {
			return fmt.Errorf("%w: %d bytes are free, of which %d are promised and %d stay so", ErrNoRoom, left, ahead,
				s.o.MinFree)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promises.held[w.bucket] += n
	s.promises.ahead += n
	w.held += n
	return nil
}

// isFull says whether a bucket has no room for n bytes more. s.mu is held.
func (s *Store) isFull(bucket string, n int64) bool {
	u := s.usage[bucket]
	return s.o.MaxBucket > 0 && u != nil && u.counted && n > s.o.MaxBucket-u.Bytes-s.promises.held[bucket]
}

// areFull says whether all buckets together have no room for n bytes more. s.mu is
// held.
func (s *Store) areFull(n int64) bool {
	if s.o.MaxBytes == 0 {
		return false
	}
	left := s.o.MaxBytes - s.parts
	for _, u := range s.usage {
		left -= u.Bytes
	}
	for _, held := range s.promises.held {
		left -= held
	}
	return n > left
}

// wrote says that n bytes of what was promised are in the file now.
func (w *Writer) wrote(n int64) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.promises.ahead -= min(n, w.held-w.n)
	w.n += n
}

// release gives back what was promised. It may be called again.
func (w *Writer) release() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	p := &w.s.promises
	p.ahead -= max(w.held-w.n, 0)
	if p.held[w.bucket] -= w.held; p.held[w.bucket] <= 0 {
		delete(p.held, w.bucket)
	}
	w.held = 0
}
