package streams

import "context"

// A Batch collects records and metadata that are committed together: after a
// crash all of it is there, or none. It is for one goroutine at a time.
type Batch struct{}

// NewBatch returns an empty batch.
func (s *Store) NewBatch() *Batch { return &Batch{} }

// Append adds records to a shard of a stream, which must exist when the batch
// is committed. Record.Offset is ignored. The bytes are copied.
func (b *Batch) Append(stream string, shard int, r ...Record) {}

// Set sets a metadata key.
func (b *Batch) Set(key, value []byte) {}

// Unset removes a metadata key.
func (b *Batch) Unset(key []byte) {}

// Bytes is the size of the batch as it will be stored, about.
func (b *Batch) Bytes() int { return 0 }

// Len is the number of records in the batch.
func (b *Batch) Len() int { return 0 }

// Offset returns the offset given to record i, counted in the order of
// appending, after the batch was committed.
func (b *Batch) Offset(i int) uint64 { return 0 }

// Reset empties the batch for use again, keeping its memory.
func (b *Batch) Reset() {}

// Commit queues b and returns when it is synced.
func (s *Store) Commit(ctx context.Context, b *Batch) error { return ErrClosed }

// CommitAsync queues b and returns; done is called once, from the committer,
// in the order of the calls.
func (s *Store) CommitAsync(b *Batch, done func(error)) { done(ErrClosed) }
