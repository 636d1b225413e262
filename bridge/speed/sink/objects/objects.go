// Package objects is the bridge's own store of objects: a directory whose folders
// are buckets. It is a sink.Objects, and what the S3 endpoint stands on. A Store
// is opened once for a directory; its Writer takes an object's bytes, an Object
// is one that is read, an Upload is one that comes in parts.
//
// An object is a file of its own, under the path that its key is, so that other
// programs may read it, and a file that somebody copies into a bucket's folder is
// an object. What else an object has (ETag, checksums, headers) is an extended
// attribute of the file, which is renamed into place with it: there is no moment
// at which one is there without the other. FORMAT.md has the layout, and how
// keys are kept that are no path.
//
// Where the file system keeps no extended attributes, Put and Get work as ever,
// and a Writer that has something to keep fails with ErrNoAttributes.
package objects

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/bounded"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/speed/sink"
)

const (
	// tmp is the folder, beside the buckets, in which objects are written before
	// they are renamed into place. Its name is no valid bucket.
	tmp = ".tmp"
	// own is the folder in a bucket that is the store's. A key below it is kept as
	// one that is no path.
	own = ".tidemill"
)

// Errors beside those of package sink.
var (
	ErrNoBucket     = errors.New("objects: there is no such bucket")
	ErrBucketExists = errors.New("objects: there is such a bucket already")
	ErrNotEmpty     = errors.New("objects: the bucket holds objects")
	ErrCondition    = errors.New("objects: the condition does not hold")
	ErrNoRoom       = errors.New("objects: the disk has no room")
	ErrBucketFull   = errors.New("objects: the bucket is full")
	ErrAttributes   = errors.New("objects: too much metadata")
	ErrNoAttributes = errors.New("objects: the file system keeps no extended attributes")
	ErrChecksum     = errors.New("objects: the content has another checksum than was said")
)

// Options of a Store; zero values are defaults.
type Options struct {
	MinFree        int64         // bytes that a write leaves free on the disk; 0: all may be used
	MaxBucket      int64         // bytes of a bucket's objects; 0: no limit
	MaxBytes       int64         // of all buckets' objects together; 0: no limit
	MaxUploads     int           // open ones, of all buckets; 0: 1,000
	MaxUploadBytes int64         // of their parts together; 0: no limit
	MaxUploadAge   time.Duration // after which Run ends one; 0: 7 days
	MinPart        int64         // of all parts but the last; 0: 5 MiB, S3's
	Log            *slog.Logger  // nil: none
	Now            func() time.Time
	Free           func(dir string) (int64, error) // bytes free on a disk; nil: statfs(2)
	Room           func() error                    // why nothing is written now, asked often; nil: nobody says
}

// A Store keeps objects as files: DIR/bucket/key. Several goroutines may use it.
type Store struct {
	path string
	root *os.Root
	o    Options
	sync func(folder string) error     // fsync
	mark func(*os.File, *record) error // setRecord
	tree tree
	keys [256]sync.Mutex // by hash of bucket and key: held from a condition's check until the change is durable

	mu      sync.Mutex // guards what follows
	usage   map[string]*usage
	uploads map[string]*parts // open ones, by their id
	parts   int64             // bytes of all of them
	counts  Counters

	promising sync.Mutex // held, before mu, while room is looked for
	promises  promises   // mu guards them
}

// Open opens, or makes, the directory at path and clears out what a crash left
// half written.
func Open(dir string, o Options) (*Store, error) {
	o.MaxUploads = cmp.Or(o.MaxUploads, 1000)
	o.MaxUploadAge = cmp.Or(o.MaxUploadAge, 7*24*time.Hour)
	o.MinPart = cmp.Or(o.MinPart, 5<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Free == nil {
		o.Free = func(dir string) (int64, error) {
			free, _, err := disk.Free(dir)
			return free, err
		}
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	s := &Store{path: dir, root: root, o: o, usage: map[string]*usage{},
		uploads: map[string]*parts{}, promises: promises{held: map[string]int64{}}}
	s.tree.known = map[string]bool{}
	s.sync, s.mark = s.syncFolder, setRecord
	if err := errors.Join(s.clearTmp(), s.findUploads()); err != nil {
		return nil, errors.Join(fmt.Errorf("objects %s: %w", dir, err), root.Close())
	}
	return s, nil
}

// clearTmp removes what writes of a run before left. The folder itself stays: a directory
// without any is one that was emptied, for the owner of the directory.
func (s *Store) clearTmp() error {
	if err := s.root.Mkdir(tmp, 0o750); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := s.root.Open(tmp)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.root.RemoveAll(path.Join(tmp, name)); err != nil {
			return err
		}
	}
	return nil
}

// Path returns the directory.
func (s *Store) Path() string { return s.path }

// Close lets go of the directory.
func (s *Store) Close() error { return s.root.Close() }

// Put implements sink.Objects; a bucket that is not there is made.
func (s *Store) Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error {
	if err := errors.Join(sink.CheckBucket(bucket), checkKey(key)); err != nil {
		return err
	}
	err := s.put(ctx, bucket, key, write)
	if err != nil {
		return fmt.Errorf("object %s/%s: %w", bucket, key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, bucket, key string, write func(io.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := s.Create(bucket, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := write(w); err != nil {
		return err
	}
	w.plain = true
	_, err = w.Commit(key, Attributes{}, Condition{})
	return err
}

// Get implements sink.Getter.
func (s *Store) Get(ctx context.Context, bucket, key string, most int) (data []byte, tag string, err error) {
	if err := errors.Join(sink.CheckBucket(bucket), checkKey(key), ctx.Err()); err != nil {
		return nil, "", err
	}
	o, err := s.Open(bucket, key)
	if err != nil {
		return nil, "", err
	}
	defer o.Close()
	if data, err = bounded.ReadAll(o, int64(most)); err != nil {
		return nil, "", fmt.Errorf("object %s/%s: %w", bucket, key, err)
	}
	return data, fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// lock holds bucket/key against other changes until the returned function is
// called. Only one key is held at a time.
func (s *Store) lock(bucket, key string) (unlock func()) {
	h := uint32(2166136261) // FNV-1a
	for _, c := range []byte(bucket + "/" + key) {
		h = (h ^ uint32(c)) * 16777619
	}
	m := &s.keys[h%uint32(len(s.keys))]
	m.Lock()
	return m.Unlock
}

// beside is a name for a file that is being written.
func beside() string { return path.Join(tmp, rand.Text()) }
