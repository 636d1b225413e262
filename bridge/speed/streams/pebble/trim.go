package pebble

import "errors"

// Trim implements streams.Trimmer: what fills whole blocks is dropped.
func (s *Store) Trim(stream string, shard int, before uint64) (err error) {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	sh, err := s.shard(stream, shard)
	if err != nil {
		return err
	}
	sh.mu.Lock()
	oldest, next, cum := sh.oldest, sh.last(), sh.cum
	sh.mu.Unlock()
	switch {
	case before <= oldest:
		return nil
	case before >= next:
		return s.trimTo(sh, next, cum)
	}
	it, err := sh.iter(s, next)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	c := cursor{it: it, sh: sh}
	// The block that holds before.
	if err := c.load(it.SeekLT(blockKey(sh.stream.id, sh.index, before+1))); err != nil || !c.ok {
		return err
	}
	return s.trimTo(sh, c.first, c.head.cum)
}
