package streams

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Shard of a stream. A shard that is closed stays until retention has taken
// its last record and it has been closed for as long as retention is; without
// retention by time it stays for good.
type Shard struct {
	Index   int // never given twice
	Range   Range
	Parents []int     // none; one, of a split; or two, of a merge, the lower range first
	Created time.Time // to the millisecond; of a child, in a later second than its parents'
	Closed  time.Time // when its children were created; zero while the shard is open
	End     uint64    // of a closed shard: the offset after its last record
}

// Open says whether the shard takes records.
func (s *Shard) Open() bool { return s.Closed.IsZero() }

// A Lineage is the shards of a stream at one time. It is never changed, so it
// may be shared.
type Lineage struct {
	all  []Shard // by index
	open []int   // places in all of the open ones, by range
}

// NewLineage returns the lineage of shards, which are in order of their index.
// It keeps the slice.
func NewLineage(all []Shard) *Lineage {
	l := &Lineage{all: all}
	for i := range all {
		if all[i].Open() {
			l.open = append(l.open, i)
		}
	}
	slices.SortFunc(l.open, func(a, b int) int { return all[a].Range.Start.Compare(all[b].Range.Start) })
	return l
}

// EvenLineage is the lineage of a stream that was created with n shards and
// never resharded: they share the hash keys evenly.
func EvenLineage(n int, created time.Time) *Lineage {
	all := make([]Shard, n)
	for i, r := range Even(n) {
		all[i] = Shard{Index: i, Range: r, Created: created}
	}
	return NewLineage(all)
}

// All returns the shards by index, those that are closed too. The slice is
// shared: it must not be changed.
func (l *Lineage) All() []Shard { return l.all }

// Open returns the places in All of the open shards, by range. The slice is
// shared: it must not be changed.
func (l *Lineage) Open() []int { return l.open }

// Find returns the place of a shard in All.
func (l *Lineage) Find(index int) (place int, ok bool) {
	return slices.BinarySearchFunc(l.all, index, func(sh Shard, index int) int { return cmp.Compare(sh.Index, index) })
}

// Route returns the index of the open shard of a hash key.
func (l *Lineage) Route(h Hash) int {
	lo, hi := 0, len(l.open)-1
	for lo < hi {
		if mid := (lo + hi + 1) / 2; l.all[l.open[mid]].Range.Start.Compare(h) <= 0 {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return l.all[l.open[lo]].Index
}

// Check returns ErrCorrupt unless each hash key has exactly one open shard.
func (l *Lineage) Check() error {
	if len(l.open) == 0 {
		return fmt.Errorf("%w: no open shard", ErrCorrupt)
	}
	at := l.all[l.open[0]].Range.Start
	for _, i := range l.open {
		if l.all[i].Range.Start != at {
			return fmt.Errorf("%w: no shard for hash key %s", ErrCorrupt, at)
		}
		at = l.all[i].Range.End.Next()
	}
	if at != (Hash{}) { // next after MaxHash is 0 again
		return fmt.Errorf("%w: no shard for hash key %s", ErrCorrupt, at)
	}
	return nil
}

// A Change makes new shards out of old ones, which it closes: one into two, a
// split, or two into one, a merge. The new ones' ranges are in order and cover
// what the old ones' did.
type Change struct {
	Parents []int
	Ranges  []Range
}

// Check says whether the change can be made of its parents, which are in the
// order of Parents: ErrShardClosed if one of them is closed.
func (c *Change) Check(parents []*Shard) error {
	split := len(parents) == 1 && len(c.Ranges) == 2
	merge := len(parents) == 2 && len(c.Ranges) == 1
	if !split && !merge {
		return fmt.Errorf("%d shards into %d, want one into two or two into one", len(parents), len(c.Ranges))
	}
	was := make([]Range, len(parents))
	for i, p := range parents {
		if !p.Open() {
			return fmt.Errorf("%w: %d", ErrShardClosed, p.Index)
		}
		was[i] = p.Range
	}
	before, ok := join(was)
	after, fits := join(c.Ranges)
	if !ok || !fits || before != after {
		return errors.New("the new ranges are not those of the old shards, in order")
	}
	return nil
}

// join returns the range that rs make together, if they are in order and leave
// no hole.
func join(rs []Range) (Range, bool) {
	for i, r := range rs {
		if r.Start.Compare(r.End) > 0 || i > 0 && (rs[i-1].End == MaxHash || rs[i-1].End.Next() != r.Start) {
			return Range{}, false
		}
	}
	return Range{rs[0].Start, rs[len(rs)-1].End}, true
}
