package streams

import (
	"errors"
	"time"
)

// A Shard of a stream, as List has it: by index, which is never given twice.
// Shards that are closed stay until retention has taken their last record, and
// until they have been closed for as long as that.
type Shard struct {
	Index   int
	Range   Range
	Parents []int     // none; one, of a split; or two, of a merge, the lower range first
	Created time.Time // to the millisecond
	Closed  time.Time // zero while the shard is open
	End     uint64    // of a closed shard: the offset after its last record
}

// Open says whether the shard takes records.
func (s *Shard) Open() bool { return s.Closed.IsZero() }

// A Change makes new shards out of old ones, which it closes: one into two, a
// split, or two into one, a merge. The new ones' ranges are in order and cover
// what the old ones' did.
type Change struct {
	Parents []int
	Ranges  []Range
}

var errNotYet = errors.New("not yet")

// Shards returns the shards of a stream by index, the closed ones too.
func (s *Store) Shards(stream string) ([]Shard, error) {
	info, err := s.Describe(stream)
	if err != nil {
		return nil, err
	}
	all := make([]Shard, info.Shards)
	for i, r := range Even(info.Shards) {
		all[i] = Shard{Index: i, Range: r, Created: info.Created}
	}
	return all, nil
}

// Reshard makes changes to a stream's shards, all or none, durable when it
// returns; a later change may have shards of an earlier one as parents. Records
// committed before are in the old shards and later ones in the new. It returns
// the new shards, in the order of their ranges within the changes.
func (s *Store) Reshard(stream string, changes ...Change) ([]Shard, error) {
	return nil, errNotYet
}

// Put adds records to the shard of a stream that is open for hash key h when
// the batch is committed; Place says which that was. Else it is as Append.
func (b *Batch) Put(stream string, h Hash, rs ...Record) {
	shards := 1
	if info, err := b.store.Describe(stream); err == nil {
		shards = info.Shards
	}
	for i, r := range Even(shards) {
		if r.Contains(h) {
			b.Append(stream, i, rs...)
		}
	}
}

// SetAttributes replaces the attributes of a stream, durably.
func (s *Store) SetAttributes(stream string, attributes []byte) error { return errNotYet }
