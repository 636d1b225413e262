package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A shard in memory. It is loaded by three look-ups, however much it holds.
type shard struct {
	stream *stream
	index  int

	mu     sync.Mutex
	oldest uint64        // offset of the oldest record kept
	head   uint64        // bytes of all blocks before that, see header.cum
	next   uint64        // offset of the next record; those below are synced
	cum    uint64        // bytes of all blocks ever, synced
	tip    chan struct{} // made by who waits; closed when next grows
	tail   tail
	gone   bool
	closed bool   // written with writes held too
	end    uint64 // of a closed shard: last when all is synced
	gaps   []gap  // ascending; most shards have none

	followed atomic.Bool // the committer keeps blocks for tail; written with mu held

	// Of the committer, guarded by Store.writes: as above, but not yet synced.
	assigned uint64 // next
	written  uint64 // cum
	lastTime int64  // of the last block
	group    uint64 // the group that touches it, and where in group.touched
	touched  int
}

// stream finds a stream.
func (s *Store) stream(name string) (*stream, error) {
	s.mu.RLock()
	st := s.streams[name]
	s.mu.RUnlock()
	if st == nil {
		return nil, fmt.Errorf("%w: %q", streams.ErrNotFound, name)
	}
	return st, nil
}

// shard finds a shard, loading it at first use. The store is held open.
func (s *Store) shard(name string, index int) (*shard, error) {
	st, err := s.stream(name)
	if err != nil {
		return nil, err
	}
	return st.shard(s, index)
}

func (st *stream) shard(s *Store, index int) (*shard, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if sh := st.shards[index]; sh != nil {
		return sh, nil
	}
	if st.gone {
		return nil, fmt.Errorf("%w: %q", streams.ErrNotFound, st.name)
	}
	l := st.lineage.Load()
	at, ok := l.Find(index)
	if !ok {
		return nil, fmt.Errorf("%w: %s has no shard %d", streams.ErrShard, st.name, index)
	}
	sh := &shard{stream: st, index: index}
	if err := sh.load(s); err != nil {
		return nil, fmt.Errorf("streams: load %s shard %d: %w", st.name, index, err)
	}
	sh.closed, sh.end = !l.All()[at].Open(), l.All()[at].End
	st.shards[index] = sh
	return sh, nil
}

// loaded returns the shards that were used since the store was opened.
func (st *stream) loaded() []*shard {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Collect(maps.Values(st.shards))
}

// load reads where the shard begins and ends. Nobody has appended to it yet
// since the store was opened, or it would be loaded.
func (sh *shard) load(s *Store) (err error) {
	v, err := s.getRaw(trimKey(sh.stream.id, sh.index))
	if err != nil {
		return err
	}
	if v != nil {
		if len(v) != trimLen {
			return fmt.Errorf("%w: trim", streams.ErrCorrupt)
		}
		t := parseTrim(v)
		sh.oldest, sh.head, sh.lastTime = t.oldest, t.head, t.time
	}
	if v, err = s.getRaw(gapKey(sh.stream.id, sh.index)); err == nil {
		sh.gaps, err = parseGaps(v)
	}
	if err != nil {
		return err
	}
	sh.next, sh.cum = sh.oldest, sh.head
	lower := blockKey(sh.stream.id, sh.index, sh.oldest)
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: lower,
		UpperBound: append(shardPrefix(tagBlock, sh.stream.id, sh.index), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0),
	})
	if err != nil {
		return err
	}
	defer func() { err = s.named(errors.Join(err, it.Close())) }()
	if it.Last() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		h, err := parseHeader(v)
		if err != nil {
			return err
		}
		sh.next = blockFirst(it.Key()) + uint64(h.count)
		sh.cum = h.cum + uint64(len(v))
		sh.lastTime = h.time
	}
	if n := len(sh.gaps); n > 0 && sh.next <= sh.gaps[n-1].first { // nothing came since
		sh.next = sh.gaps[n-1].after
	}
	sh.assigned, sh.written = sh.next, sh.cum
	return it.Error()
}

// advance shows a synced group to readers.
func (sh *shard) advance(s *Store, t *touch) {
	sh.mu.Lock()
	sh.next, sh.cum = t.next, t.cum
	sh.keep(s, t)
	tip := sh.tip
	sh.tip = nil
	sh.mu.Unlock()
	if tip != nil {
		close(tip)
	}
}

// remove marks the shard of a deleted stream, or one that retention has emptied
// after its end, and wakes all who wait for its records.
func (sh *shard) remove(s *Store) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.gone = true
	sh.unfollow(s)
	if sh.tip != nil {
		close(sh.tip)
		sh.tip = nil
	}
}

func (sh *shard) bounds() (oldest, next uint64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.oldest, sh.next
}

// count is how many records there are from an offset on.
func (sh *shard) count(from uint64) uint64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if from = max(from, sh.oldest); from >= sh.next {
		return 0
	}
	return sh.next - from - within(sh.gaps, from, sh.next)
}

func (sh *shard) size() streams.Size {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return streams.Size{Records: sh.next - sh.oldest - within(sh.gaps, sh.oldest, sh.next),
		Bytes: int64(sh.cum - sh.head), Ever: sh.next - within(sh.gaps, 0, sh.next)}
}

// A trim says where a shard begins after old blocks were removed. It is
// written with their removal, so an empty shard still knows its next offset.
type trim struct {
	oldest uint64
	head   uint64
	time   int64 // of the last block when it was written
}

const trimLen = 24

func (t trim) bytes() []byte {
	b := make([]byte, 0, trimLen)
	b = binary.BigEndian.AppendUint64(b, t.oldest)
	b = binary.BigEndian.AppendUint64(b, t.head)
	return binary.BigEndian.AppendUint64(b, uint64(t.time))
}

func parseTrim(v []byte) trim {
	return trim{
		oldest: binary.BigEndian.Uint64(v),
		head:   binary.BigEndian.Uint64(v[8:]),
		time:   int64(binary.BigEndian.Uint64(v[16:])),
	}
}
