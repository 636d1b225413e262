package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// How far SkipAhead goes. What was given to clients after a backup was taken is not
// known to the store that is restored from it, so the numbers that follow begin
// behind all that can have been given.
const (
	// gapRecords are offsets of each shard: 17.6 million million. A shard that
	// took 500,000 records in each second, several times what the disk and the
	// processor of one machine do, gives them in 407 days. From 2^53 on programs
	// that take numbers for floats round them: that is after 512 restores.
	gapRecords = 1 << 44

	// gapStreams are ids of streams, gapShards indexes of shards. Both are 32 bits,
	// of which 4,096 and 65,536 restores take all.
	gapStreams = 1 << 20
	gapShards  = 1 << 16
)

// A gap is offsets that no record has: first up to, not including, after.
type gap struct{ first, after uint64 }

const gapLen = 16

func gapKey(id uint32, shard int) []byte { return shardPrefix(tagGap, id, shard) }

func appendGap(b []byte, g gap) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, g.first), g.after)
}

// parseGaps reads the gaps of a shard, ascending.
func parseGaps(v []byte) (gaps []gap, err error) {
	if len(v)%gapLen != 0 {
		return nil, fmt.Errorf("%w: gaps of %d bytes", streams.ErrCorrupt, len(v))
	}
	for ; len(v) > 0; v = v[gapLen:] {
		g := gap{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}
		if g.after <= g.first || len(gaps) > 0 && g.first < gaps[len(gaps)-1].after {
			return nil, fmt.Errorf("%w: gap from %d to %d", streams.ErrCorrupt, g.first, g.after)
		}
		gaps = append(gaps, g)
	}
	return gaps, nil
}

// within is how many offsets of gaps are in [from, to).
func within(gaps []gap, from, to uint64) (n uint64) {
	for _, g := range gaps {
		if lo, hi := max(g.first, from), min(g.after, to); lo < hi {
			n += hi - lo
		}
	}
	return n
}

// before is offset, or where the gap begins that ends there: nothing is between.
func before(gaps []gap, offset uint64) uint64 {
	if n := len(gaps); n > 0 && offset > gaps[n-1].first && offset <= gaps[n-1].after {
		return gaps[n-1].first
	}
	for _, g := range gaps {
		if offset > g.first && offset <= g.after {
			return g.first
		}
	}
	return offset
}

// SkipAhead has each open shard go on behind a gap, durably, and so do the ids of
// streams and the indexes of shards: what is given from now on was never given, also not by
// a bridge that went on after the backup from which this store comes. Call it before
// Run. Readers walk over a gap without noticing.
func (s *Store) SkipAhead() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.ran.Load() {
		return errors.New("streams: SkipAhead after Run")
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	b := s.db.NewBatch()
	next := s.nextID + gapStreams
	err := errors.Join(
		b.Set([]byte{tagNextID}, binary.BigEndian.AppendUint32(nil, next), nil),
		b.Set([]byte{tagFormat}, binary.BigEndian.AppendUint32(nil, FormatNumber), nil))
	moved := map[*shard][]gap{}
	for _, st := range s.all() {
		err = errors.Join(err, st.skipAhead(s, b, moved))
	}
	if err = errors.Join(err, s.apply(b, pebble.Sync)); err != nil {
		return fmt.Errorf("streams: skip ahead: %w", err)
	}
	s.nextID, s.stamped = next, true
	for sh, gaps := range moved {
		sh.mu.Lock()
		sh.gaps, sh.next = gaps, gaps[len(gaps)-1].after
		sh.assigned = sh.next
		sh.mu.Unlock()
	}
	return nil
}

// skipAhead adds to b what SkipAhead writes for a stream, and to moved the gaps that
// its open shards then have.
func (st *stream) skipAhead(s *Store, b *pebble.Batch, moved map[*shard][]gap) error {
	all := st.lineage.Load().All()
	info := st.state()
	info.nextShard = max(info.nextShard, all[len(all)-1].Index+1) + gapShards
	doc, err := info.doc()
	if err := errors.Join(err, b.Set(streamKey(st.name), doc, nil)); err != nil {
		return err
	}
	for i := range all {
		if !all[i].Open() {
			continue
		}
		sh, err := st.shard(s, all[i].Index)
		if err != nil {
			return err
		}
		gaps := slices.Clone(sh.gaps)
		if n := len(gaps); n > 0 && gaps[n-1].after == sh.next {
			gaps[n-1].after += gapRecords
		} else {
			gaps = append(gaps, gap{sh.next, sh.next + gapRecords})
		}
		var v []byte
		for _, g := range gaps {
			v = appendGap(v, g)
		}
		if err := b.Set(gapKey(st.id, sh.index), v, nil); err != nil {
			return err
		}
		moved[sh] = gaps
	}
	st.mu.Lock()
	st.info = info
	st.mu.Unlock()
	return nil
}

// last is the offset after the last record: next, but where a gap ends there. mu is held.
func (sh *shard) last() uint64 { return before(sh.gaps, sh.next) }
