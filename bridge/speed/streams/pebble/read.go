package pebble

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Read implements streams.Reader.
func (s *Store) Read(stream string, shard int, from uint64, maxRecords, maxBytes int) ([]streams.Record, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	sh, err := s.shard(stream, shard)
	if err != nil {
		return nil, err
	}
	if maxRecords <= 0 {
		maxRecords = math.MaxInt
	}
	if maxBytes <= 0 {
		maxBytes = math.MaxInt
	}
	recs, err := sh.read(s, from, maxRecords, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("streams: read %s shard %d from %d: %w", stream, shard, from, err)
	}
	return recs, nil
}

func (sh *shard) read(s *Store, from uint64, maxRecords, maxBytes int) (recs []streams.Record, err error) {
	oldest, next := sh.bounds()
	from = max(from, oldest)
	if from >= next {
		return nil, nil
	}
	recs = make([]streams.Record, 0, min(uint64(maxRecords), next-from, 1024))
	var few [8]tailBlock
	if blocks := sh.recent(few[:0], from, maxRecords); len(blocks) > 0 {
		for _, bl := range blocks {
			var used int
			var more bool
			recs, used, more, err = appendBlock(recs, bl.value, true, bl.first, from, maxRecords-len(recs), maxBytes)
			if err != nil {
				return nil, err
			}
			maxBytes -= used
			if !more || len(recs) >= maxRecords || maxBytes <= 0 {
				break
			}
		}
		return recs, nil
	}
	it, err := sh.iter(s, next)
	if err != nil {
		return nil, err
	}
	defer func() { err = s.named(errors.Join(err, it.Close())) }()
	// The block that holds from begins at it or before; retention may have
	// taken it a moment ago.
	for ok := it.SeekLT(blockKey(sh.stream.id, sh.index, from+1)) || it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		var used int
		var more bool
		recs, used, more, err = appendBlock(recs, v, false, blockFirst(it.Key()), from, maxRecords-len(recs), maxBytes)
		if err != nil {
			return nil, err
		}
		maxBytes -= used
		if !more || len(recs) >= maxRecords || maxBytes <= 0 {
			break
		}
	}
	return recs, it.Error()
}

// iter walks the shard's blocks that begin before offset next.
func (sh *shard) iter(s *Store, next uint64) (*pebble.Iterator, error) {
	return s.db.NewIter(&pebble.IterOptions{
		LowerBound: blockKey(sh.stream.id, sh.index, 0),
		UpperBound: blockKey(sh.stream.id, sh.index, next),
	})
}

// Bounds implements streams.Reader.
func (s *Store) Bounds(stream string, shard int) (oldest, next uint64, err error) {
	if err := s.enter(); err != nil {
		return 0, 0, err
	}
	defer s.leave()
	sh, err := s.shard(stream, shard)
	if err != nil {
		return 0, 0, err
	}
	oldest, next = sh.bounds()
	return oldest, next, nil
}

// Count implements streams.Reader. It is exact: gaps are known.
func (s *Store) Count(stream string, shard int, from uint64) (records uint64, err error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	sh, err := s.shard(stream, shard)
	if err != nil {
		return 0, err
	}
	return sh.count(from), nil
}

// Wait implements streams.Reader.
func (s *Store) Wait(ctx context.Context, stream string, shard int, from uint64) error {
	sh, err := s.waitShard(stream, shard)
	if err != nil {
		return err
	}
	for {
		sh.mu.Lock()
		// Without the second, who reads from before a trim that took
		// everything would get nothing, be told to read, and so on for ever.
		last := sh.last()
		if last > from && last > sh.oldest {
			sh.mu.Unlock()
			return nil
		}
		if sh.gone {
			sh.mu.Unlock()
			if _, err := s.stream(stream); err != nil {
				return err
			}
			return fmt.Errorf("%w: %s has no shard %d any more", streams.ErrShard, stream, shard)
		}
		if sh.closed && last == sh.end {
			sh.mu.Unlock()
			return fmt.Errorf("%w: %s shard %d", streams.ErrShardClosed, stream, shard)
		}
		sh.follow(s)
		if sh.tip == nil {
			sh.tip = make(chan struct{})
		}
		tip := sh.tip
		sh.mu.Unlock()
		if err := s.await(ctx, tip); err != nil {
			return err
		}
	}
}

// await returns nil when tip is closed, or why it will not be looked for longer.
func (s *Store) await(ctx context.Context, tip <-chan struct{}) error {
	select {
	case <-tip:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return streams.ErrClosed
	case <-s.failed:
		return s.Err()
	}
}

func (s *Store) waitShard(stream string, shard int) (*shard, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.shard(stream, shard)
}

// OffsetAt implements streams.Reader.
func (s *Store) OffsetAt(stream string, shard int, t time.Time) (uint64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	sh, err := s.shard(stream, shard)
	if err != nil {
		return 0, err
	}
	off, err := sh.offsetAt(s, t.UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("streams: search %s shard %d: %w", stream, shard, err)
	}
	return off, nil
}

func (sh *shard) offsetAt(s *Store, t int64) (off uint64, err error) {
	oldest, next := sh.bounds()
	it, err := sh.iter(s, next)
	if err != nil {
		return 0, err
	}
	defer func() { err = s.named(errors.Join(err, it.Close())) }()
	c := cursor{it: it, sh: sh}
	if err := c.seekTime(oldest, next, t); err != nil {
		return 0, err
	}
	if !c.ok {
		return next, nil
	}
	return c.first, nil
}
