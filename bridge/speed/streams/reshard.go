package streams

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
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

// A Change makes new shards out of old ones, which it closes: one into two, a
// split, or two into one, a merge. The new ones' ranges are in order and cover
// what the old ones' did.
type Change struct {
	Parents []int
	Ranges  []Range
}

// Shards returns the shards of a stream by index, those that are closed too.
// The slice is shared: it must not be changed.
func (s *Store) Shards(stream string) ([]Shard, error) {
	st, err := s.stream(stream)
	if err != nil {
		return nil, err
	}
	return st.lineage.Load().all, nil
}

// Shard returns one shard of a stream, or ErrShard if it has none of that index.
func (s *Store) Shard(stream string, index int) (Shard, error) {
	st, err := s.stream(stream)
	if err != nil {
		return Shard{}, err
	}
	l := st.lineage.Load()
	if i, ok := l.find(index); ok {
		return l.all[i], nil
	}
	return Shard{}, fmt.Errorf("%w: %s has no shard %d", ErrShard, stream, index)
}

// Route returns the index of the shard that is open for a hash key.
func (s *Store) Route(stream string, h Hash) (int, error) {
	st, err := s.stream(stream)
	if err != nil {
		return 0, err
	}
	return st.lineage.Load().route(h), nil
}

// A lineage is the shards of a stream at one time. It is never changed.
type lineage struct {
	all  []Shard // by index
	open []int   // places in all of the open ones, by range
}

func newLineage(all []Shard) *lineage {
	l := &lineage{all: all}
	for i := range all {
		if all[i].Open() {
			l.open = append(l.open, i)
		}
	}
	slices.SortFunc(l.open, func(a, b int) int { return all[a].Range.Start.Compare(all[b].Range.Start) })
	return l
}

// evenly is the lineage of a stream that was never resharded.
func evenly(info Info) *lineage {
	all := make([]Shard, info.Shards)
	for i, r := range Even(info.Shards) {
		all[i] = Shard{Index: i, Range: r, Created: info.Created}
	}
	return newLineage(all)
}

// find returns the place of a shard in all.
func (l *lineage) find(index int) (int, bool) {
	return slices.BinarySearchFunc(l.all, index, func(sh Shard, index int) int { return cmp.Compare(sh.Index, index) })
}

// route returns the index of the open shard of a hash key.
func (l *lineage) route(h Hash) int {
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

// Reshard makes changes to a stream's shards, all or none, durable when it
// returns; a later change may have shards of an earlier one as parents. Records
// committed before are in the old shards and later ones in the new. It returns
// the new shards, those of the first change first.
func (s *Store) Reshard(stream string, changes ...Change) ([]Shard, error) {
	return s.reshard(stream, nil, changes)
}

// ReshardAs is Reshard that replaces the stream's attributes in the same write.
func (s *Store) ReshardAs(stream string, attributes []byte, changes ...Change) ([]Shard, error) {
	return s.reshard(stream, func(c *Config) { c.Attributes = bytes.Clone(attributes) }, changes)
}

func (s *Store) reshard(stream string, change func(*Config), changes []Change) ([]Shard, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.writes.Lock()
	defer s.writes.Unlock()
	st, err := s.stream(stream)
	if err != nil {
		return nil, err
	}
	old := st.lineage.Load()
	all := slices.Clone(old.all)
	now := s.now().Truncate(time.Millisecond)
	var closed []*shard
	for _, c := range changes {
		made := now
		var parents []*Shard
		for _, index := range c.Parents {
			i, ok := slices.BinarySearchFunc(all, index, func(sh Shard, index int) int { return cmp.Compare(sh.Index, index) })
			if !ok {
				return nil, fmt.Errorf("%w: %s has no shard %d", ErrShard, stream, index)
			}
			parents = append(parents, &all[i])
		}
		if err := c.check(parents); err != nil {
			return nil, fmt.Errorf("streams: reshard %s: %w", stream, err)
		}
		for _, p := range parents {
			// One that is as old as this call has no records.
			if _, ok := old.find(p.Index); ok {
				sh, err := st.shard(s, p.Index)
				if err != nil {
					return nil, err
				}
				p.End = sh.assigned
				closed = append(closed, sh)
			}
			// Sequence numbers begin with the second that a shard was made in:
			// it grows from parent to child, so that a key's numbers grow too.
			if least := p.Created.Truncate(time.Second).Add(time.Second); made.Before(least) {
				made = least
			}
		}
		for _, p := range parents {
			p.Closed = made
		}
		for _, r := range c.Ranges {
			all = append(all, Shard{Index: all[len(all)-1].Index + 1, Range: r, Parents: slices.Clone(c.Parents), Created: made})
		}
	}
	l := newLineage(all)
	if len(l.open) > MaxShards {
		return nil, fmt.Errorf("streams: reshard %s: %d open shards, want at most %d", stream, len(l.open), MaxShards)
	}
	if err := s.storeLineage(st, old, l, change); err != nil {
		return nil, fmt.Errorf("streams: reshard %s: %w", stream, err)
	}
	st.lineage.Store(l)
	for _, sh := range closed {
		sh.close()
	}
	return all[len(old.all):], nil
}

// check says whether the change can be made of its parents.
func (c *Change) check(parents []*Shard) error {
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
		if r.Start.Compare(r.End) > 0 || i > 0 && (rs[i-1].End == MaxHash || rs[i-1].End.next() != r.Start) {
			return Range{}, false
		}
	}
	return Range{rs[0].Start, rs[len(rs)-1].End}, true
}

// close tells the readers of a shard that nothing more will come; writes is
// held.
func (sh *shard) close() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.closed, sh.end = true, sh.assigned
	if sh.tip != nil {
		close(sh.tip)
		sh.tip = nil
	}
}

// shardDoc is a shard's entry in the database.
type shardDoc struct {
	Start   string `json:"start"`
	Last    string `json:"last"`
	Parents []int  `json:"parents,omitempty"`
	Created int64  `json:"created_ms"`
	Closed  int64  `json:"closed_ms,omitempty"`
	End     uint64 `json:"end,omitempty"`
}

func (s *Shard) doc() ([]byte, error) {
	d := shardDoc{Start: s.Range.Start.String(), Last: s.Range.End.String(), Parents: s.Parents, Created: s.Created.UnixMilli(), End: s.End}
	if !s.Open() {
		d.Closed = s.Closed.UnixMilli()
	}
	return json.Marshal(d)
}

func parseShard(index int, v []byte) (Shard, error) {
	var d shardDoc
	if err := json.Unmarshal(v, &d); err != nil {
		return Shard{}, fmt.Errorf("shard %d: %w", index, err)
	}
	start, err := ParseHash(d.Start)
	last, err2 := ParseHash(d.Last)
	if err := errors.Join(err, err2); err != nil {
		return Shard{}, fmt.Errorf("shard %d: %w", index, err)
	}
	sh := Shard{Index: index, Range: Range{start, last}, Parents: d.Parents, Created: time.UnixMilli(d.Created), End: d.End}
	if d.Closed != 0 {
		sh.Closed = time.UnixMilli(d.Closed)
	}
	return sh, nil
}

// storeLineage writes what differs between two lineages, and the settings if
// change is not nil, synced; writes is held.
func (s *Store) storeLineage(st *stream, old, l *lineage, change func(*Config)) error {
	b := s.db.NewBatch()
	info := st.describe()
	first := !info.resharded
	var errs []error
	if change != nil {
		change(&info.Config)
	}
	if first || change != nil {
		info.resharded = true
		doc, err := info.doc()
		errs = append(errs, err, b.Set(streamKey(st.name), doc, nil))
	}
	for i := range old.all {
		if _, ok := l.find(old.all[i].Index); !ok {
			index := old.all[i].Index
			errs = append(errs, b.Delete(shardPrefix(tagShard, st.id, index), nil), b.Delete(trimKey(st.id, index), nil))
		}
	}
	for i := range l.all {
		sh := &l.all[i]
		if at, ok := old.find(sh.Index); ok && !first && old.all[at].Open() == sh.Open() {
			continue
		}
		doc, err := sh.doc()
		errs = append(errs, err, b.Set(shardPrefix(tagShard, st.id, sh.Index), doc, nil))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.apply(b, pebble.Sync); err != nil {
		return err
	}
	st.mu.Lock()
	st.info = info
	st.mu.Unlock()
	return nil
}

// loadLineage reads the shards of a stream.
func (s *Store) loadLineage(info Info) (*lineage, error) {
	if !info.resharded {
		return evenly(info), nil
	}
	var all []Shard
	err := s.scanRaw(streamPrefix(tagShard, info.ID), func(k, v []byte) error {
		if len(k) != trimKeyLen {
			return fmt.Errorf("%w: key of a shard", ErrCorrupt)
		}
		sh, err := parseShard(int(be32(k[5:])), v)
		all = append(all, sh)
		return err
	})
	if err != nil {
		return nil, err
	}
	l := newLineage(all)
	if len(l.open) == 0 {
		return nil, fmt.Errorf("%w: no open shard", ErrCorrupt)
	}
	at := l.all[l.open[0]].Range.Start
	for _, i := range l.open {
		if l.all[i].Range.Start != at {
			return nil, fmt.Errorf("%w: no shard for hash key %s", ErrCorrupt, at)
		}
		at = l.all[i].Range.End.next()
	}
	if at != (Hash{}) { // next after MaxHash is 0 again
		return nil, fmt.Errorf("%w: no shard for hash key %s", ErrCorrupt, at)
	}
	return l, nil
}

// dropShards forgets the closed shards of which nothing is left.
func (s *Store) dropShards(st *stream, retention time.Duration) error {
	if retention == 0 {
		return nil
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	old := st.lineage.Load()
	before := s.Expiry().Add(-retention)
	var gone []*shard
	var all []Shard
	for i := range old.all {
		d := &old.all[i]
		if !d.Open() && d.Closed.Before(before) {
			sh, err := st.shard(s, d.Index)
			if err != nil {
				return err
			}
			if oldest, _ := sh.bounds(); oldest == d.End {
				gone = append(gone, sh)
				continue
			}
		}
		all = append(all, *d)
	}
	if len(gone) == 0 {
		return nil
	}
	l := newLineage(all)
	if err := s.storeLineage(st, old, l, nil); err != nil {
		return fmt.Errorf("streams: drop shards of %s: %w", st.name, err)
	}
	st.lineage.Store(l)
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, sh := range gone {
		delete(st.shards, sh.index)
		sh.remove(s)
	}
	return nil
}
