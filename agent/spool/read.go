package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// Next returns the oldest batch with a sequence number above after that is
// durable and not acknowledged, and blocks until there is one, ctx ends (its
// error) or the spool is closed (errClosed). payload is the caller's.
//
// Several batches may be in flight: call Next with the last one taken. After a
// reconnect begin again with 0. A batch in flight may be dropped by a limit.
func (s *Spool) Next(ctx context.Context, after uint64) (seq uint64, payload []byte, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, nil, err
		}
		s.mu.Lock()
		db, durable, lent, changed, closed := s.db, s.st.seq, s.thin.lent, s.changed, s.closed
		s.mu.Unlock()
		if closed {
			return 0, nil, errClosed
		}
		if db != nil { // else the next flush makes a new file
			seq, payload, err = s.find(db, after, durable)
		}
		if payload != nil && s.o.Overflow == ThinOut && seq > lent {
			s.lend(seq) // then it may be another
			continue
		}
		if payload != nil || err != nil {
			return seq, payload, err
		}
		if err := s.await(ctx, changed); err != nil {
			return 0, nil, err
		}
	}
}

// await waits until batches were written or ctx is done.
func (s *Spool) await(ctx context.Context, changed <-chan struct{}) error {
	wait := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiters += n
	}
	wait(1)
	defer wait(-1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
		return nil
	}
}

// Last returns the newest batch in the file, acknowledged or not, nil if there is
// none or it is damaged.
func (s *Spool) Last() (payload []byte) {
	s.mu.Lock()
	db := s.db
	s.mu.Unlock()
	if db == nil {
		return nil
	}
	_ = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if k, v := tx.Bucket(bucketBatches).Cursor().Last(); k != nil {
				if _, p, ok := openBatch(k, v); ok {
					payload = append([]byte(nil), p...)
				}
			}
			return nil
		})
	})
	return payload // damage shows at the next read or flush
}

// find looks for the batch once; payload is nil when there is none. It does
// not look above durable: a commit shows in the mapped file before it is
// synced, and a batch sent then and lost in a power cut would leave its
// sequence number to another.
func (s *Spool) find(db *bbolt.DB, after, durable uint64) (seq uint64, payload []byte, err error) {
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketBatches)
			if b == nil {
				return damaged("a bucket is missing")
			}
			if after == ^uint64(0) {
				return nil
			}
			c := b.Cursor()
			for k, v := c.Seek(batchKey(after + 1)); k != nil; k, v = c.Next() {
				n, p, ok := openBatch(k, v)
				if n > durable {
					return nil
				}
				s.mu.Lock()
				_, gone := s.gone[n]
				if !gone && !ok {
					s.bad(n, headOf(v))
				}
				s.mu.Unlock()
				if !gone && ok {
					seq, payload = n, append(make([]byte, 0, len(p)), p...)
					return nil
				}
			}
			return nil
		})
	})
	switch {
	case err == nil:
		return seq, payload, nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return 0, nil, errClosed
	case errors.Is(err, errDamaged):
		s.flushing.Lock()
		defer s.flushing.Unlock()
		if err := s.replace(db, err); err != nil {
			s.note(err) // a flush tries again
		}
		return 0, nil, nil
	}
	return 0, nil, fmt.Errorf("spool %s: read: %w", s.path, err)
}

// bad gives up a batch that failed its checksum. mu is held.
func (s *Spool) bad(seq uint64, e entry) {
	if e.readings > telemetry.MaxReadings {
		e.readings = 0 // the head itself is damaged
	}
	s.corrupt++
	s.gone[seq] = departure{entry: e, bad: true}
	s.o.Log.Error("spool: a stored batch is damaged and dropped", "path", s.path, "seq", seq, "readings", e.readings)
}

// Ack says that the bridge has stored batch seq. The batch is deleted with the
// next flush; if a crash comes first, Next returns it once more. Batches may be
// acknowledged in any order; numbers that Next does not know are ignored.
func (s *Spool) Ack(seq uint64) {
	s.mu.Lock()
	db, closed := s.db, s.closed
	_, gone := s.gone[seq]
	if seq > s.st.seq {
		gone = true
	}
	s.mu.Unlock()
	if closed || gone || db == nil {
		return
	}
	var e entry
	found := false
	err := guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if v := tx.Bucket(bucketBatches).Get(batchKey(seq)); v != nil {
				e, found = headOf(v), true
			}
			return nil
		})
	})
	if err != nil || !found {
		return // damage shows at the next read or flush
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == db {
		s.gone[seq] = departure{entry: e}
	}
}

// Stats are the spool's sums. What waits is durable and neither acknowledged
// nor given up. Appended = Acked + Dropped + Readings.
type Stats struct {
	ID       [16]byte  // random, made with the file
	Batches  uint64    // waiting
	Readings uint64    // in them
	Bytes    uint64    // of their payloads
	Oldest   time.Time // when the oldest in the file was flushed; zero when unknown or none

	// Since the file was made, in readings, persisted.
	Appended uint64 // durable
	Acked    uint64 // acknowledged; persisted with the next flush
	Dropped  uint64 // given up unacknowledged: by size or age, or damaged
	Thinned  uint64 // those of Dropped that ThinOut took out

	// Since Open.
	Refused  uint64   // readings that Append did not take, or that could not be encoded
	Flushes  uint64   // commits
	Stored   uint64   // readings made durable
	Corrupt  uint64   // batches dropped for a bad checksum
	SetAside uint64   // damaged files set aside
	Salvage  *Salvage // what became of the last of them; nil for none

	Loss      Loss     // what a power cut would cost
	FileBytes int64    // size of the file
	Unflushed int      // readings in memory
	Failure   *Failure // nil while the file can be written
}

// A Failure says that the file can't be written. Stats.Unflushed are at risk:
// they are lost with the power, and once eight batches' worth are in memory new
// readings are refused.
type Failure struct {
	Since   time.Time
	Error   string // of the last try
	Refused uint64 // readings refused since
}

func (st *state) stats(oldest int64) Stats {
	out := Stats{ID: st.id, Batches: st.batches, Readings: st.readings, Bytes: st.bytes, Appended: st.appended,
		Acked: st.acked, Dropped: st.dropped}
	if oldest > 0 {
		out.Oldest = time.UnixMilli(oldest)
	}
	return out
}

// Stats returns the sums as of now. It blocks for no flush.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	st := s.st
	for _, d := range s.gone {
		st.remove(d.readings, d.bytes)
		if d.bad {
			st.dropped += d.readings
		} else {
			st.acked += d.readings
		}
	}
	out := st.stats(s.oldest)
	out.Thinned, out.Loss = s.thin.thinned, s.loss
	out.Loss.Every = s.every
	out.Refused, out.Flushes, out.Corrupt, out.SetAside = s.refused, s.flushes, s.corrupt, s.setAside.Load()
	out.Stored = s.stored
	out.Unflushed, out.Salvage = s.pending, s.salvaged.Load()
	if f := s.failure; f != nil {
		out.Failure = &Failure{Since: f.since, Error: f.err, Refused: s.refused - f.refused}
	}
	s.mu.Unlock()
	if info, err := os.Stat(s.path); err == nil {
		out.FileBytes = info.Size()
	}
	return out
}

// waitingBytes is Stats.Bytes. mu is held.
func (s *Spool) waitingBytes() uint64 {
	n := s.st.bytes
	for _, d := range s.gone {
		n -= min(n, d.bytes)
	}
	return n
}

// Inspect reads the sums of a spool file that no process has open, and changes
// nothing: errLocked when one has it. A damaged file is an error here.
func Inspect(path string) (Stats, error) {
	out, _, err := inspect(path, nil)
	return out, err
}

// inspect also calls fn with each batch that passes its checksum.
func inspect(path string, fn func(seq uint64, payload []byte)) (out Stats, bad int, err error) {
	db, _, err := openFile(path, true)
	if err != nil {
		return out, 0, fmt.Errorf("spool %s: %w", path, err)
	}
	err = guard(func() error {
		st, thin, oldest, err := load(db)
		if err != nil {
			return err
		}
		out = st.stats(oldest)
		out.Thinned = thin.thinned
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketBatches)
			if b == nil || fn == nil {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				if _, p, ok := openBatch(k, v); ok {
					fn(binary.BigEndian.Uint64(k), append([]byte(nil), p...))
				} else {
					bad++
				}
				return nil
			})
		})
	})
	if err != nil {
		abandon(db, err)
		return out, bad, fmt.Errorf("spool %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil {
		out.FileBytes = info.Size()
	}
	return out, bad, db.Close()
}
