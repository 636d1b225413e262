package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Position implements streams.Positioner.
func (s *Store) Position() streams.Position { return *s.position.Load() }

// Each group commit writes its position under the slot of its number. So the
// last of them are a tally in which a file of Pebble's write-ahead log that is
// gone from the middle leaves a hole, if it held perSlot*2-1 commits.
const (
	perSlot     = 8       // commits share a slot
	slots       = 1 << 16 // then the first is used again: half a million commits, more than memory holds unflushed
	positionLen = 16
)

func positionKey(commit uint64) []byte {
	return binary.BigEndian.AppendUint16([]byte{tagPosition}, uint16(commit/perSlot%slots))
}

func positionValue(p streams.Position) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, positionLen), p.Commits)
	return binary.BigEndian.AppendUint64(b, p.Records)
}

// A tally is what the keys of positions tell together.
type tally struct {
	found map[uint64]bool
	at    streams.Position
}

// add takes the value of one key.
func (t *tally) add(v []byte) error {
	if len(v) != positionLen {
		return fmt.Errorf("%w: position", streams.ErrCorrupt)
	}
	p := streams.Position{Commits: binary.BigEndian.Uint64(v), Records: binary.BigEndian.Uint64(v[8:])}
	t.found[p.Commits] = true
	if p.Commits > t.at.Commits {
		t.at = p
	}
	return nil
}

// missing lists the last commits of the slots that should be there and are not.
func (t *tally) missing() (lasts []uint64) {
	at := t.at.Commits
	for last := at/perSlot*perSlot - 1; at >= perSlot && last+slots*perSlot > at+perSlot; last -= perSlot {
		if !t.found[last] {
			lasts = append(lasts, last)
		}
		if last < perSlot {
			break
		}
	}
	return lasts
}

// loadPosition reads the tally.
func (s *Store) loadPosition() error {
	t := tally{found: map[uint64]bool{}}
	if err := s.scanRaw([]byte{tagPosition}, func(_, v []byte) error { return t.add(v) }); err != nil {
		return err
	}
	s.missing = t.missing()
	s.written = t.at
	s.position.Store(&t.at)
	return nil
}

// Missing returns how many commits, about, are missing before the position: a
// file of the write-ahead log is gone.
func (s *Store) Missing() int { return len(s.missing) * perSlot }

// ForgetMissing has Missing be 0 from now on, durably.
func (s *Store) ForgetMissing() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.writes.Lock()
	defer s.writes.Unlock()
	b := s.db.NewBatch()
	var errs []error
	for _, last := range s.missing {
		errs = append(errs, b.Set(positionKey(last), positionValue(streams.Position{Commits: last}), nil))
	}
	s.missing = nil
	return errors.Join(append(errs, s.apply(b, pebble.Sync))...)
}

// Newest returns the time of the newest block of a stream, zero if it never had
// any.
func (s *Store) Newest(stream string) (time.Time, error) {
	if err := s.enter(); err != nil {
		return time.Time{}, err
	}
	defer s.leave()
	st, err := s.stream(stream)
	if err != nil {
		return time.Time{}, err
	}
	newest := int64(0)
	for _, d := range st.lineage.Load().All() {
		sh, err := st.shard(s, d.Index)
		if err != nil {
			return time.Time{}, err
		}
		s.writes.Lock()
		newest = max(newest, sh.lastTime)
		s.writes.Unlock()
	}
	if newest == 0 {
		return time.Time{}, nil
	}
	return time.UnixMilli(newest), nil
}
