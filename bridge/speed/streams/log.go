package streams

import (
	"context"
	"fmt"
	"time"
)

// A Log is what the bridge needs of the engine under its streams. Packages that
// use a log say which of these parts they need. Keys stands apart: not each
// engine has keys that commit together with records.
//
// All methods may be called from several goroutines. Names are of 1 to MaxName
// printable ASCII characters. Slices that go in may be used again when the call
// returns; slices that come out are the caller's, unless said otherwise.
type Log interface {
	Router
	Writer
	Reader
	Trimmer
	Catalog
	Resharder
	Positioner
}

// A Writer commits batches.
type Writer interface {
	// NewBatch returns an empty batch of this log.
	NewBatch() *Batch

	// Commit queues b and returns when it is durable, with nil, or with the reason
	// why nothing of it was stored: ErrNotFound, ErrShard, ErrShardClosed (of a
	// shard that Append named), ErrTooLarge, ErrClosed or the failure of the log.
	// A batch without content is done when all queued before it are.
	//
	// A batch is stored as a whole or not at all, over all its streams and keys.
	// Readers see records of it only once it is durable. Batches of one caller,
	// each committed after the one before was queued, are stored in that order: after
	// a crash those that are there are the first of them.
	//
	// Commit blocks while the queue is full. If ctx ends while b is queued, b is
	// withdrawn and ctx's error returned. Once b is being written Commit waits for
	// the outcome. After a failure of the log it is not known whether the batch
	// survives; but all of it does, or nothing.
	Commit(ctx context.Context, b *Batch) error

	// CommitAsync queues b and returns; it blocks while the queue is full. The
	// engine may put b off for a few milliseconds, so that more share its write.
	// done is called once, with what Commit would return, in the order of the
	// calls, so it must not block, nor commit. When the log is closed, done is
	// called before CommitAsync returns.
	CommitAsync(b *Batch, done func(error))
}

// A Reader reads what is durable.
type Reader interface {
	// Read returns records of a shard from offset from on, ascending, which may be a
	// gap apart: at most
	// maxRecords, and as long as their keys and data stay within maxBytes, but one
	// at least. Limits of 0 or less mean none. When from was trimmed it starts at
	// the oldest; at the tip it returns no records and no error. It does not wait
	// for records. Errors: ErrNotFound, ErrShard, ErrCorrupt, ErrClosed.
	Read(stream string, shard int, from uint64, maxRecords, maxBytes int) ([]Record, error)

	// Wait returns nil when the shard has a record with Offset >= from that Read
	// returns. Otherwise it blocks until then, or returns ctx's error if that ends
	// first, ErrNotFound when the stream is deleted, ErrShardClosed when the shard
	// is closed and has no more records, ErrShard when it is gone, ErrClosed when
	// the log ends, or the failure of the log. So who follows a shard calls Wait
	// and Read in turn.
	Wait(ctx context.Context, stream string, shard int, from uint64) error

	// Bounds returns the offset of the oldest record kept, and the one the next
	// record will get; they are equal when the shard is empty. Next never goes
	// back, oldest may after a crash: see Trim.
	Bounds(stream string, shard int) (oldest, next uint64, err error)

	// Count returns how many records there are from offset from on: what somebody
	// who has come to from has before him. An engine whose offsets have gaps counts
	// records and not offsets, or more than there are, but 0 only if there is none.
	// Differences of offsets are no counts: of what left a shard before from, Bounds
	// says only that there was some, and at most how many.
	Count(stream string, shard int, from uint64) (records uint64, err error)

	// OffsetAt returns the offset of the first record of the shard that was
	// committed at or after t, or the next offset when there is none. It may
	// return that of an earlier record, if both were committed together.
	OffsetAt(stream string, shard int, t time.Time) (uint64, error)
}

// A Runner is a log as the program that opened it has it: it runs once, is closed
// when Run has returned, and says how it is.
type Runner interface {
	// Run commits batches and applies retention until ctx ends or the log fails. It
	// then commits what was queued, answers everyone and returns nil, or the failure.
	Run(ctx context.Context) error
	// Ready says whether the log takes commits: it runs and has not failed.
	Ready() bool
	// Err is the failure that ended the log, or nil.
	Err() error
	// Close answers what is still queued with ErrClosed, and gives back what the log
	// has open.
	Close() error
}

// A Trimmer gives back room.
type Trimmer interface {
	// Trim drops records with offsets below before; some of the last may stay, an
	// engine need not cut between two of one commit. Readers of a stream without
	// retention call it for what they have dealt with, once their own position is
	// durable. It is not durable itself: after a crash trimmed records may be back
	// until they are trimmed again.
	Trim(stream string, shard int, before uint64) error

	// Expiry returns the time by which retention goes: what was committed before
	// Expiry less its stream's retention may be gone at any time.
	Expiry() time.Time
}

// A Catalog makes streams and tells of them. What it changes is durable when it
// returns.
type Catalog interface {
	// Create makes a stream, or returns ErrExists if there is one of that name.
	Create(name string, c Config) error

	// Update sets the limits of a stream. What is over the new limits goes at
	// retention's next look. 0 is no limit.
	Update(name string, retention time.Duration, maxBytes int64) error

	// SetAttributes replaces the attributes of a stream.
	SetAttributes(name string, attributes []byte) error

	// Delete removes a stream and its records. Batches still queued for it fail
	// with ErrNotFound. A stream that is created later under the name has another
	// ID, and its offsets begin at 0.
	Delete(name string) error

	// Describe returns one stream, or ErrNotFound.
	Describe(name string) (Info, error)

	// List returns all streams by name.
	List() []Info

	// Size returns what a stream holds now, over all its shards.
	Size(name string) (Size, error)
}

// A Resharder changes the shards of streams.
type Resharder interface {
	// Reshard makes changes to a stream's shards, all or none, durable when it
	// returns; a later change may have shards of an earlier one as parents. Records
	// committed before are in the old shards and later ones in the new: a batch that
	// was filled by Put before goes to the shards that are open when it is committed.
	// It returns the new shards, those of the first change first. Errors:
	// ErrNotFound, ErrShard, ErrShardClosed, and those of Change.Check.
	Reshard(stream string, changes ...Change) ([]Shard, error)

	// ReshardAs is Reshard that replaces the stream's attributes in the same write.
	ReshardAs(stream string, attributes []byte, changes ...Change) ([]Shard, error)
}

// Keys are values under keys that a Batch changes (Set, Unset, SetFrom) together
// with the records it holds: sessions, marks of what was stored, positions of
// readers. An engine without them answers a batch that changes keys with
// errors.ErrUnsupported, and is of use only to who does not need them.
type Keys interface {
	// Get returns the value of a key, or nil, nil when there is none. It returns
	// only what is durable; when a commit of the key is under way, it waits for
	// that. The value is the caller's.
	Get(key []byte) ([]byte, error)

	// Scan calls f for every key that begins with prefix, ascending, until f
	// returns false. f must not keep the slices, nor use the log. Unlike Get it may
	// see what is not durable yet: it is for a look at the start, and for tools.
	Scan(prefix []byte, f func(key, value []byte) bool) error
}

// A Position says how far a log has got: it only grows, and all before it is
// durable. Kept elsewhere, it tells later whether the end of the log is missing,
// of which the log itself may know nothing.
type Position struct {
	Commits uint64 `json:"commits"` // writes that one or more batches shared
	Records uint64 `json:"records"` // of all streams together, trimmed ones too
}

// A Positioner says how far the log has got.
type Positioner interface {
	// Position returns the position of what is durable. After a crash the log may be
	// found further on, never less far.
	Position() Position
}

// Shards returns the shards that a stream has now, by index, those that are
// closed too. The slice is shared: it must not be changed.
func Shards(r Router, stream string) ([]Shard, error) {
	l, err := r.Lineage(stream)
	if err != nil {
		return nil, err
	}
	return l.All(), nil
}

// ShardAt returns one shard of a stream, or ErrShard if it has none of that
// index.
func ShardAt(r Router, stream string, index int) (Shard, error) {
	l, err := r.Lineage(stream)
	if err != nil {
		return Shard{}, err
	}
	if i, ok := l.Find(index); ok {
		return l.All()[i], nil
	}
	return Shard{}, fmt.Errorf("%w: %s has no shard %d", ErrShard, stream, index)
}

// Route returns the index of the shard that is open for a hash key.
func Route(r Router, stream string, h Hash) (int, error) {
	l, err := r.Lineage(stream)
	if err != nil {
		return 0, err
	}
	return l.Route(h), nil
}
