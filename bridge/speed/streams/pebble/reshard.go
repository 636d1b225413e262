package pebble

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Lineage implements streams.Router.
func (s *Store) Lineage(stream string) (*streams.Lineage, error) {
	st, err := s.stream(stream)
	if err != nil {
		return nil, err
	}
	return st.lineage.Load(), nil
}

// Reshard implements streams.Resharder.
func (s *Store) Reshard(stream string, changes ...streams.Change) ([]streams.Shard, error) {
	return s.reshard(stream, nil, changes)
}

// ReshardAs implements streams.Resharder.
func (s *Store) ReshardAs(stream string, attributes []byte, changes ...streams.Change) ([]streams.Shard, error) {
	return s.reshard(stream, func(c *streams.Config) { c.Attributes = bytes.Clone(attributes) }, changes)
}

func (s *Store) reshard(stream string, change func(*streams.Config), changes []streams.Change) ([]streams.Shard,
	error) {
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
	all := slices.Clone(old.All())
	now := s.now().Truncate(time.Millisecond)
	var closed []*shard
	for _, c := range changes {
		made := now
		var parents []*streams.Shard
		for _, index := range c.Parents {
			i, ok := slices.BinarySearchFunc(all, index, func(sh streams.Shard, index int) int {
				return cmp.Compare(sh.Index, index)
			})
			if !ok {
				return nil, fmt.Errorf("%w: %s has no shard %d", streams.ErrShard, stream, index)
			}
			parents = append(parents, &all[i])
		}
		if err := c.Check(parents); err != nil {
			return nil, fmt.Errorf("streams: reshard %s: %w", stream, err)
		}
		for _, p := range parents {
			// One that is as old as this call has no records.
			if _, ok := old.Find(p.Index); ok {
				sh, err := st.shard(s, p.Index)
				if err != nil {
					return nil, err
				}
				p.End = before(sh.gaps, sh.assigned)
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
		all = st.add(all, c, made)
	}
	l := streams.NewLineage(all)
	if len(l.Open()) > streams.MaxShards {
		return nil, fmt.Errorf("streams: reshard %s: %d open shards, want at most %d", stream, len(l.Open()),
			streams.MaxShards)
	}
	if err := s.storeLineage(st, old, l, change); err != nil {
		return nil, fmt.Errorf("streams: reshard %s: %w", stream, err)
	}
	st.lineage.Store(l)
	for _, sh := range closed {
		sh.close()
	}
	return all[len(old.All()):], nil
}

// add appends the shards that a change makes.
func (st *stream) add(all []streams.Shard, c streams.Change, made time.Time) []streams.Shard {
	for _, r := range c.Ranges {
		index := max(all[len(all)-1].Index+1, st.state().nextShard)
		all = append(all, streams.Shard{Index: index, Range: r, Parents: slices.Clone(c.Parents), Created: made})
	}
	return all
}

// close tells the readers of a shard that nothing more will come; writes is
// held.
func (sh *shard) close() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.closed, sh.end = true, before(sh.gaps, sh.assigned)
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

func shardValue(s *streams.Shard) ([]byte, error) {
	d := shardDoc{Start: s.Range.Start.String(), Last: s.Range.End.String(), Parents: s.Parents,
		Created: s.Created.UnixMilli(), End: s.End}
	if !s.Open() {
		d.Closed = s.Closed.UnixMilli()
	}
	return json.Marshal(d)
}

func parseShard(index int, v []byte) (streams.Shard, error) {
	var d shardDoc
	if err := json.Unmarshal(v, &d); err != nil {
		return streams.Shard{}, fmt.Errorf("shard %d: %w", index, err)
	}
	start, err := streams.ParseHash(d.Start)
	last, err2 := streams.ParseHash(d.Last)
	if err := errors.Join(err, err2); err != nil {
		return streams.Shard{}, fmt.Errorf("shard %d: %w", index, err)
	}
	sh := streams.Shard{Index: index, Range: streams.Range{Start: start, End: last}, Parents: d.Parents,
		Created: time.UnixMilli(d.Created), End: d.End}
	if d.Closed != 0 {
		sh.Closed = time.UnixMilli(d.Closed)
	}
	return sh, nil
}

// storeLineage writes what differs between two lineages, and the settings if
// change is not nil, synced; writes is held.
func (s *Store) storeLineage(st *stream, old, l *streams.Lineage, change func(*streams.Config)) error {
	b := s.db.NewBatch()
	info := st.state()
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
	for i := range old.All() {
		if _, ok := l.Find(old.All()[i].Index); !ok {
			index := old.All()[i].Index
			errs = append(errs, b.Delete(shardPrefix(tagShard, st.id, index), nil),
				b.Delete(trimKey(st.id, index), nil))
		}
	}
	for i := range l.All() {
		sh := &l.All()[i]
		if at, ok := old.Find(sh.Index); ok && !first && old.All()[at].Open() == sh.Open() {
			continue
		}
		doc, err := shardValue(sh)
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
func (s *Store) loadLineage(info streamInfo) (*streams.Lineage, error) {
	if !info.resharded {
		return streams.EvenLineage(info.Shards, info.Created), nil
	}
	var all []streams.Shard
	err := s.scanRaw(streamPrefix(tagShard, info.ID), func(k, v []byte) error {
		if len(k) != trimKeyLen {
			return fmt.Errorf("%w: key of a shard", streams.ErrCorrupt)
		}
		sh, err := parseShard(int(be32(k[5:])), v)
		all = append(all, sh)
		return err
	})
	if err != nil {
		return nil, err
	}
	l := streams.NewLineage(all)
	return l, l.Check()
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
	var all []streams.Shard
	for i := range old.All() {
		d := &old.All()[i]
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
	l := streams.NewLineage(all)
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
