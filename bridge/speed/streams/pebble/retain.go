package pebble

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A cursor is a place among a shard's blocks.
type cursor struct {
	it    *pebble.Iterator
	sh    *shard
	ok    bool // it stands on a block
	first uint64
	head  header
	size  int
}

// load reads the block it stands on, if any.
func (c *cursor) load(ok bool) error {
	if c.ok = ok; !ok {
		return c.it.Error()
	}
	v, err := c.it.ValueAndErr()
	if err != nil {
		return err
	}
	c.first, c.size = blockFirst(c.it.Key()), len(v)
	c.head, err = parseHeader(v)
	return err
}

// seekTime moves to the first block committed at or after t, of those with
// offsets from oldest to next. Block times don't go back within a shard, so
// it halves the offsets: about 20 look-ups for a million blocks.
func (c *cursor) seekTime(oldest, next uint64, t int64) error {
	id, index := c.sh.stream.id, c.sh.index
	lo, hi := oldest, next // the answer's first offset is in [lo, hi], hi: none
	for lo < hi {
		mid := lo + (hi-lo)/2
		// The block that holds mid.
		if err := c.load(c.it.SeekLT(blockKey(id, index, mid+1)) || c.it.First()); err != nil {
			return err
		}
		switch {
		case !c.ok:
			return nil
		case c.head.time >= t:
			if c.first >= hi { // trimmed meanwhile
				lo = hi
				break
			}
			hi = c.first
		default:
			lo = max(mid+1, c.first+uint64(c.head.count))
		}
	}
	if hi < lo {
		hi = lo
	}
	return c.load(c.it.SeekGE(blockKey(id, index, hi)))
}

// look asks retention to look now.
func (s *Store) look() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// grew notes what is appended, so that a stream with a size limit isn't far
// over it until retention's next turn.
func (s *Store) grew(sh *shard, bytes int) {
	limit := sh.stream.maxBytes.Load()
	if limit == 0 {
		return
	}
	if sh.stream.grown.Add(int64(bytes)) > limit/8+maxBlock {
		s.look()
	}
}

func (s *Store) retainLoop(ctx context.Context) {
	tick := time.NewTicker(s.opts.RetainEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.kick:
		case <-s.failed:
			return
		case <-ctx.Done():
			return
		}
		if err := s.retain(ctx); err != nil && ctx.Err() == nil && s.Err() == nil {
			s.log.Warn("retention failed, will retry", "err", err, "in", s.opts.RetainEvery)
		}
	}
}

// retain trims every stream to its limits.
func (s *Store) retain(ctx context.Context) error {
	var errs []error
	for _, st := range s.all() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.retainStream(st); err != nil && !errors.Is(err, streams.ErrNotFound) {
			errs = append(errs, fmt.Errorf("stream %s: %w", st.name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) retainStream(st *stream) error {
	info := st.describe()
	st.grown.Store(0)
	for _, sh := range st.loaded() {
		sh.idle(s)
	}
	if info.Retention == 0 && info.MaxBytes == 0 {
		return nil
	}
	var shards []*shard
	var bytes int64
	for _, d := range st.lineage.Load().All() {
		sh, err := st.shard(s, d.Index)
		if err != nil {
			return err
		}
		if info.Retention > 0 {
			before := s.Expiry().Add(-info.Retention).UnixMilli()
			if err := s.trimTime(sh, before); err != nil {
				return err
			}
		}
		if n := sh.size().Bytes; n > 0 {
			bytes += n
			shards = append(shards, sh)
		}
	}
	if info.MaxBytes > 0 && bytes > info.MaxBytes {
		if err := s.trimBytes(shards, bytes-info.MaxBytes); err != nil {
			return err
		}
	}
	return s.dropShards(st, info.Retention)
}

// trimTime removes the blocks committed before t.
func (s *Store) trimTime(sh *shard, t int64) (err error) {
	sh.mu.Lock()
	oldest, next, cum := sh.oldest, sh.last(), sh.cum
	sh.mu.Unlock()
	if oldest == next {
		return nil
	}
	it, err := sh.iter(s, next)
	if err != nil {
		return err
	}
	defer func() { err = s.named(errors.Join(err, it.Close())) }()
	// Mostly nothing is due: one look at the oldest block says so.
	c := cursor{it: it, sh: sh}
	if err := c.load(it.SeekGE(blockKey(sh.stream.id, sh.index, oldest))); err != nil || !c.ok || c.head.time >= t {
		return err
	}
	if err := c.seekTime(oldest, next, t); err != nil {
		return err
	}
	if !c.ok {
		return s.trimTo(sh, next, cum)
	}
	return s.trimTo(sh, c.first, c.head.cum)
}

// trimBytes removes the oldest blocks of the shards until excess bytes are gone.
func (s *Store) trimBytes(shards []*shard, excess int64) (err error) {
	heads := make([]cursor, 0, len(shards))
	defer func() {
		for i := range heads {
			err = errors.Join(err, heads[i].it.Close())
		}
	}()
	for _, sh := range shards {
		oldest, next := sh.bounds()
		it, err := sh.iter(s, next)
		if err != nil {
			return err
		}
		heads = append(heads, cursor{it: it, sh: sh})
		if err := heads[len(heads)-1].load(it.SeekGE(blockKey(sh.stream.id, sh.index, oldest))); err != nil {
			return err
		}
	}
	moved := make([]bool, len(heads))
	for excess > 0 {
		at := -1
		for i := range heads {
			if heads[i].ok && (at < 0 || heads[i].head.time < heads[at].head.time) {
				at = i
			}
		}
		if at < 0 {
			break
		}
		excess -= int64(heads[at].size)
		moved[at] = true
		if err := heads[at].load(heads[at].it.Next()); err != nil {
			return err
		}
	}
	for i := range heads {
		c := &heads[i]
		switch {
		case !moved[i]:
		case c.ok:
			err = errors.Join(err, s.trimTo(c.sh, c.first, c.head.cum))
		default:
			// Everything its iterator could see; later records stay.
			err = errors.Join(err, s.trimTo(c.sh, c.first+uint64(c.head.count), c.head.cum+uint64(c.size)))
		}
	}
	return err
}

// trimTo makes oldest the shard's first offset, head being the bytes of the
// blocks before it. It isn't synced: after a crash the old blocks may be back
// until the next look.
func (s *Store) trimTo(sh *shard, oldest, head uint64) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	sh.mu.Lock()
	from, gone := sh.oldest, sh.gone
	oldest = before(sh.gaps, oldest) // who has read up to a gap has lost nothing
	sh.mu.Unlock()
	if gone || oldest <= from {
		return nil
	}
	id, index := sh.stream.id, sh.index
	b := s.db.NewBatch()
	err := errors.Join(
		b.DeleteRange(blockKey(id, index, from), blockKey(id, index, oldest), nil),
		b.Set(trimKey(id, index), trim{oldest, head, sh.lastTime}.bytes(), nil),
		s.apply(b, pebble.NoSync))
	if err != nil {
		return err
	}
	sh.mu.Lock()
	sh.oldest, sh.head = oldest, head
	sh.mu.Unlock()
	s.log.Debug("trimmed", "stream", sh.stream.name, "shard", index, "oldest", oldest, "records", oldest-from)
	return nil
}
