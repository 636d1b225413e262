package objects

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// promiseStep is how many bytes are promised at once to a Writer whose object gets
// larger than was said, where there is room for them.
const promiseStep = 1 << 20

// A Condition is what must hold of the object that is replaced or deleted.
type Condition struct {
	Absent bool   // there is none
	Match  string // its ETag is one of these, in quotes and between commas, or "*": there is one

	// Still is asked last, when all is on disk and before it is seen or gone: an error is
	// the result. nil: nobody is asked.
	Still func() error
}

// A Writer takes an object's bytes and puts them beside the buckets, where nobody
// sees them before Commit. It belongs to one goroutine.
type Writer struct {
	s      *Store
	bucket string
	name   string // of the file; "": it is in place, or gone
	f      *os.File
	buf    *bufio.Writer // of f, behind the sums
	sums   *sums
	n      int64
	held   int64 // bytes that are promised to it, at least n
	plain  bool  // of Put: an object without a record will do, and the bucket is made
}

// Create begins an object of bucket that is to have size bytes, 0 if that is not
// known. They are promised to the Writer until it ends: nobody else gets that room
// of the disk or the bucket. Checksums are computed on the way: MD5 and CRC-64, and
// those of asked.
func (s *Store) Create(bucket string, size int64, asked ...Algorithm) (*Writer, error) {
	if err := sink.CheckBucket(bucket); err != nil {
		return nil, err
	}
	w := &Writer{s: s, bucket: bucket, sums: newSums(asked)}
	if err := w.promise(size); err != nil {
		return nil, err
	}
	name := beside()
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
	if err != nil {
		w.release()
		return nil, err
	}
	w.name, w.f = name, f
	w.buf = bufio.NewWriterSize(f, 64<<10)
	return w, nil
}

// Write implements io.Writer. It fails with ErrNoRoom or ErrBucketFull before the
// disk or the bucket is full.
func (w *Writer) Write(p []byte) (int, error) {
	if more := w.n + int64(len(p)) - w.held; more > 0 {
		if w.promise(max(more, promiseStep)) != nil { // near the end there may be room for this alone
			if err := w.promise(more); err != nil {
				return 0, err
			}
		}
	}
	w.sums.write(p)
	n, err := w.buf.Write(p)
	w.wrote(int64(n))
	return n, err
}

// Size is how much was written.
func (w *Writer) Size() int64 { return w.n }

// MD5 is that of what was written, in hexadecimal.
func (w *Writer) MD5() string { return hex.EncodeToString(w.sums.md5.Sum(nil)) }

// Sums are the checksums of what was written.
func (w *Writer) Sums() map[Algorithm]string { return w.sums.all() }

// Commit makes what was written the object key, if cond holds of the one that is
// there. When it returns nil the object is on disk and seen, as a whole, in place
// of an older one; else nothing has changed, or, after an error of the disk,
// all has or nothing. ErrNoBucket: the bucket is not there.
func (w *Writer) Commit(key string, a Attributes, cond Condition) (Info, error) {
	return w.commit(key, &record{ETag: w.MD5(), Sums: w.sums.all(), Headers: a.Headers, User: a.User}, cond)
}

func (w *Writer) commit(key string, r *record, cond Condition) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	if err := w.finish(r); err != nil {
		return Info{}, err
	}
	unlock := w.s.lock(w.bucket, key)
	defer unlock()
	old, err := w.s.Stat(w.bucket, key)
	if err != nil && !errors.Is(err, sink.ErrNotFound) {
		return Info{}, err
	}
	there := err == nil
	if r.Upload != "" {
		if there && old.upload == r.Upload {
			return old, nil // another call completed it meanwhile
		}
		if _, err := w.s.Upload(w.bucket, key, r.Upload); err != nil {
			return Info{}, err
		}
	}
	if err := cond.holds(old, there); err != nil {
		return Info{}, err
	}
	if err := w.s.place(w.name, w.bucket, key, w.plain); err != nil {
		return Info{}, err
	}
	w.name = ""
	w.s.changed(w.bucket, old.Size, there, r.Size, true)
	w.release()
	w.s.count(func(c *Counters) { c.Written++; c.BytesWritten += r.Size })
	return infoOf(w.f, key)
}

// finish gives the file its record and syncs it.
func (w *Writer) finish(r *record) error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	if err := w.s.mark(w.f, r); err != nil && (!w.plain || !errors.Is(err, ErrNoAttributes)) {
		return err
	}
	return w.f.Sync()
}

// holds returns nil, ErrCondition, ErrNotFound for a Match of nothing, or what Still says.
func (c Condition) holds(now Info, there bool) error {
	switch {
	case c.Absent && there:
		return ErrCondition
	case c.Match != "" && !there:
		return sink.ErrNotFound
	case c.Match != "" && !Matches(c.Match, now.ETag):
		return ErrCondition
	case c.Still != nil:
		return c.Still()
	}
	return nil
}

// Close drops what was not committed. It may be called after Commit, and again.
func (w *Writer) Close() {
	if w.f == nil {
		return
	}
	_ = w.f.Close() // synced if it counts
	w.f = nil
	defer w.release() // when the file is gone
	if w.name != "" {
		if err := w.s.drop(w.name); err != nil {
			w.s.o.Log.Warn("a file that is no object cannot be removed", "file", w.name, "err", err)
		}
	}
}

func (s *Store) drop(name string) error {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
