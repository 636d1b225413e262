package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// Flush writes what Append gathered and deletes what was acknowledged, in one
// transaction, and returns when that is synced. With nothing to do it writes
// nothing. After an error the readings are still in memory. The log says when
// failing begins, when its cause changes and when it ends, not each time.
func (s *Spool) Flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return s.flushHeld()
}

// flushHeld is Flush with flushing held.
func (s *Spool) flushHeld() error {
	clock := s.o.Clock()
	more, err := s.flushOnce(clock)
	if more && err == nil { // what gathered while flushes failed
		_, err = s.flushOnce(clock)
	}
	if errors.Is(err, errClosed) {
		return err
	}
	s.note(err)
	if err != nil {
		return fmt.Errorf("spool %s: flush: %w", s.path, err)
	}
	return nil
}

func (s *Spool) flushOnce(clock Stamp) (more bool, err error) {
	db, more, err := s.flush(clock)
	if db != nil && errors.Is(err, errDamaged) {
		if err = s.replace(db, err); err == nil {
			_, more, err = s.flush(clock) // to the new file
		}
	}
	return more, err
}

// flush is one try on the file that it returns. more says that readings were
// left for the next. flushing is held.
func (s *Spool) flush(clock Stamp) (db *bbolt.DB, more bool, err error) {
	s.mu.Lock()
	closed, lost, known, gone := s.closed, s.db == nil, s.st, maps.Clone(s.gone)
	s.mu.Unlock()
	if closed {
		return nil, false, errClosed
	}
	if lost { // there was no room for a salvage: perhaps now
		if err := s.take(s.open(known, gone)); err != nil {
			return nil, false, err
		}
	}
	s.mu.Lock()
	// While the file can't be written, a try repeats what the first one took,
	// and cur goes on to fill. Else each try would add a batch to the memory.
	if more = s.failure != nil && len(s.full) > 0; !more && s.cur.Readings() > 0 {
		s.full = append(s.full, s.cur)
		s.cur = s.builder()
	}
	db = s.db
	since := time.Now() // what is in memory after the commit came later
	f := flush{s: s, st: s.st, thin: s.thin, oldest: s.oldest, work: s.full, gone: maps.Clone(s.gone), clock: clock,
		now: clock.Now, wanted: s.wanted, live: s.waiters > 0}
	f.thin.levels = slices.Clone(f.thin.levels)
	s.full, s.writing = nil, len(f.work)
	s.mu.Unlock()

	wrote := len(f.work) > 0 || len(f.gone) > 0 || f.aged(f.oldest) ||
		s.o.Overflow == ThinOut && min(f.wanted, f.st.seq) > f.thin.lent
	if wrote {
		err = update(db, f.run)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = 0
	if err != nil {
		s.full = append(f.work, s.full...)
		return db, false, err
	}
	if wrote {
		s.apply(&f)
	}
	if !more {
		s.loss.Since = since
	}
	if s.pending == 0 {
		s.loss.Since = time.Time{}
	}
	return db, more, nil
}

// note takes over how a flush went. flushing is held.
func (s *Spool) note(err error) {
	s.mu.Lock()
	before, refused, pending := s.failure, s.refused, s.pending
	s.failure = nil
	if err != nil {
		s.failure = &failure{since: time.Now(), err: err.Error(), refused: refused}
		if before != nil {
			s.failure.since, s.failure.refused, s.failure.told = before.since, before.refused, before.told
		}
	}
	s.mu.Unlock()
	switch {
	case err == nil && before != nil:
		s.o.Log.Info("spool: readings are written again", "path", s.path,
			"after", time.Since(before.since).Round(time.Millisecond), "refused", refused-before.refused)
	case err != nil && before == nil:
		s.o.Log.Error("spool: readings cannot be written: they wait in memory, and are lost with the power",
			"path", s.path, "readings", pending, "err", err)
	case err != nil && before.err != err.Error():
		s.o.Log.Error("spool: readings still cannot be written, for another cause", "path", s.path,
			"readings", pending, "err", err)
	}
}

// apply takes over what f has committed. flushing and mu are held.
func (s *Spool) apply(f *flush) {
	added := f.st.seq != s.st.seq
	s.stored += f.st.appended - s.st.appended
	s.st, s.thin, s.oldest = f.st, f.thin, f.oldest
	s.flushes++
	s.refused += f.lost
	for seq := range f.gone {
		delete(s.gone, seq)
	}
	for _, b := range f.work {
		s.pending -= b.Readings()
		b.Reset()
		if len(s.idle) < 2 {
			s.idle = append(s.idle, b)
		}
	}
	if added {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	if f.overflowed > 0 {
		s.logDrop(f.overflowed)
	}
}

// logDrop says once in a while that readings give way. flushing is held.
func (s *Spool) logDrop(readings uint64) {
	s.dropLog.readings += readings
	if now := time.Now(); now.After(s.dropLog.next) {
		s.o.Log.Warn("spool is over its limit: oldest readings dropped", "path", s.path, "readings", s.dropLog.readings,
			"dropped_total", s.st.dropped)
		s.dropLog.next, s.dropLog.readings = now.Add(dropLogEvery), 0
	}
}

// replace sets the file aside and puts a new one into its place, with what can
// be read of it. Its sequence numbers continue, so that late acknowledgements
// and Next(after) keep their meaning. What is in memory stays there. flushing is
// held, mu is not: readings are taken meanwhile.
func (s *Spool) replace(db *bbolt.DB, cause error) error {
	s.mu.Lock()
	if s.db != db || s.closed {
		s.mu.Unlock()
		return nil
	}
	known, gone := s.st, maps.Clone(s.gone)
	s.db = nil
	s.mu.Unlock()
	if db != nil {
		abandon(db, cause)
	}
	return s.take(s.renew(cause, known, gone))
}

// take makes a file that was opened the spool's: it lacks what was gone. flushing is held.
func (s *Spool) take(o opened, err error) error {
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.st, s.oldest = o.db, o.st, o.oldest
	s.thin = thinning{lent: o.st.seq, thinned: s.thin.thinned} // their places in the file say nothing any more
	clear(s.gone)
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// A flush is one transaction and what it changes, applied when it committed.
type flush struct {
	s      *Spool
	st     state
	thin   thinning
	wanted uint64 // Spool.wanted
	live   bool   // somebody waits for a batch
	oldest int64
	work   []*telemetry.Builder
	gone   map[uint64]departure
	clock  Stamp
	now    int64

	overflowed uint64 // readings dropped for want of room or age
	lost       uint64 // readings that could not be encoded
}

func (f *flush) aged(at int64) bool {
	return f.s.o.MaxAge > 0 && f.now > 0 && at > 0 && f.now-at > f.s.o.MaxAge.Milliseconds()
}

func (f *flush) run(tx *bbolt.Tx) error {
	batches, meta := tx.Bucket(bucketBatches), tx.Bucket(bucketMeta)
	if batches == nil || meta == nil {
		return damaged("a bucket is missing")
	}
	batches.FillPercent = 1 // keys only rise: a page that is left is left for good
	for seq, d := range f.gone {
		v := batches.Get(batchKey(seq))
		if v == nil {
			continue // dropped before
		}
		if d.bad {
			f.st.dropped += d.readings
		} else {
			f.st.acked += d.readings
		}
		f.st.remove(d.readings, uint64(max(len(v)-headBytes, 0)))
		if err := batches.Delete(batchKey(seq)); err != nil {
			return err
		}
	}
	for _, b := range f.work {
		batch := f.clock.batch(b.Batch(telemetry.Header{Spool: f.st.id, Boot: f.s.o.Boot}))
		if err := f.put(batches, batch); err != nil {
			return err
		}
	}
	f.lend()
	if f.s.o.Overflow == ThinOut {
		if err := f.thinOut(batches); err != nil {
			return err
		}
	}
	if err := f.trim(batches); err != nil {
		return err
	}
	if f.st.batches == 0 {
		f.st.readings, f.st.bytes = 0, 0
	}
	f.oldest = oldestOf(batches)
	if f.s.o.Overflow == ThinOut {
		if err := meta.Put(keyThin, f.thin.append(nil, &f.st)); err != nil {
			return err
		}
	}
	return meta.Put(keyState, f.st.append(nil))
}

// put encodes and stores one batch, or its halves when it says too much in too
// few bytes for a bridge to take. bbolt keeps the value until the commit, so each
// has its own memory.
func (f *flush) put(batches *bbolt.Bucket, batch *telemetry.Batch) error {
	batch.Seq = f.st.seq + 1
	n := batch.Readings()
	var err error
	f.s.value, err = telemetry.Append(append(f.s.value[:0], make([]byte, headBytes)...), batch)
	if errors.Is(err, telemetry.ErrTooLarge) {
		if first, second, ok := batch.Halves(); ok {
			if err := f.put(batches, first); err != nil {
				return err
			}
			return f.put(batches, second)
		}
	}
	if err != nil {
		// The builder has checked all there is to check: a fault of ours. The
		// readings must not hold up all that follow.
		f.lost += uint64(n)
		f.s.o.Log.Error("spool: batch can't be encoded, its readings are lost", "readings", n, "err", err)
		return nil
	}
	value := append([]byte(nil), f.s.value...)
	f.st.seq++
	f.st.batches++
	f.st.appended += uint64(n)
	f.st.readings += uint64(n)
	f.st.bytes += uint64(len(value) - headBytes)
	sealBatch(value, f.st.seq, f.now, n)
	return batches.Put(batchKey(f.st.seq), value)
}

// trim deletes the oldest batches beyond the limits, but the last one never
// for its size.
func (f *flush) trim(batches *bbolt.Bucket) error {
	type key struct {
		seq uint64
		entry
	}
	var drop []key
	left, room := f.st, f.room()
	c := batches.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		e := headOf(v)
		over := f.s.o.Overflow != RefuseNew && left.bytes > room && left.batches > 1
		if !over && !f.aged(e.at) {
			break
		}
		if len(k) != 8 {
			return damaged("key of %d bytes", len(k))
		}
		if e.readings > telemetry.MaxReadings {
			e.readings = 0 // a damaged head
		}
		left.remove(e.readings, e.bytes)
		drop = append(drop, key{binary.BigEndian.Uint64(k), e})
	}
	for _, d := range drop { // a cursor does not survive deletions
		if err := batches.Delete(batchKey(d.seq)); err != nil {
			return err
		}
		f.gone[d.seq] = departure{entry: d.entry}
		left.dropped += d.readings
		f.overflowed += d.readings
	}
	f.st = left
	return nil
}
