package streams

import (
	"context"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a Store. The zero value is good for use.
type Options struct {
	FS           vfs.FS           // nil: the operating system's
	Log          *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // nil: time.Now
	MemTableSize uint64           // bytes; 0: 32 MiB
	CacheSize    int64            // bytes of Pebble's block cache; 0: 32 MiB
	QueueBytes   int64            // batches that wait for the disk; 0: 32 MiB
	RetainEvery  time.Duration    // how often retention looks; 0: 30 s
}

// A Store holds streams. Its methods may be called from several goroutines.
type Store struct{}

// Open opens the store in dir, making it when absent. It starts nothing:
// commits wait until Run runs, while Create, Delete, Update and reads work.
func Open(dir string, o Options) (*Store, error) { return nil, ErrClosed }

// Run commits batches and applies retention until ctx ends. It then commits
// what was queued, answers everyone and returns; later commits get ErrClosed.
func (s *Store) Run(ctx context.Context) error { return ErrClosed }

// Close closes the files. Call it after Run has returned.
func (s *Store) Close() error { return nil }

// Ready says whether the store can take commits: Run runs and no sync failed.
func (s *Store) Ready() bool { return false }

// Err is the error that stopped the store, or nil.
func (s *Store) Err() error { return nil }

// Create makes a stream; it is durable when Create returns.
func (s *Store) Create(name string, c Config) error { return nil }

// Update sets the retention and size limit of a stream; its shards can't change.
func (s *Store) Update(name string, retention time.Duration, maxBytes int64) error { return nil }

// Delete removes a stream and its records.
func (s *Store) Delete(name string) error { return nil }

// List returns the streams by name.
func (s *Store) List() []Info { return nil }

// Describe returns one stream, or ErrNotFound.
func (s *Store) Describe(name string) (Info, error) { return Info{}, ErrNotFound }

// Size returns what the stream holds now.
func (s *Store) Size(name string) (Size, error) { return Size{}, ErrNotFound }

// Get returns the value of a metadata key, or nil, nil when there is none.
// It returns only what is synced; when a commit of the key is under way, it
// waits for that.
func (s *Store) Get(key []byte) ([]byte, error) { return nil, nil }

// Scan calls f for every metadata key that begins with prefix, ascending,
// until f returns false. f must not keep the slices.
func (s *Store) Scan(prefix []byte, f func(key, value []byte) bool) error { return nil }

// Read returns records of a shard from offset from on, at most maxRecords and
// about maxBytes of keys and data, but at least one if there is one.
func (s *Store) Read(stream string, shard int, from uint64, maxRecords, maxBytes int) ([]Record, error) {
	return nil, ErrNotFound
}

// Bounds returns the offset of the oldest record kept, and the one the next
// record will get.
func (s *Store) Bounds(stream string, shard int) (oldest, next uint64, err error) {
	return 0, 0, ErrNotFound
}

// Wait returns when the shard has a record with Offset >= from.
func (s *Store) Wait(ctx context.Context, stream string, shard int, from uint64) error {
	return ErrNotFound
}

// OffsetAt returns the offset of the first record that arrived at or after t,
// or the next offset when there is none.
func (s *Store) OffsetAt(stream string, shard int, t time.Time) (uint64, error) {
	return 0, ErrNotFound
}
