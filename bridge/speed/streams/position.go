package streams

import (
	"encoding/binary"
	"time"
)

// A Position says how far a store has got: it only grows, and all before it is
// on the disk. Kept elsewhere, it tells later whether the end of the store is
// missing, of which the store itself knows nothing: to Pebble, a log that was
// cut off ended there.
type Position struct {
	Commits uint64 `json:"commits"` // group commits
	Records uint64 `json:"records"` // of all streams together, trimmed ones too
}

// Position returns the position of what is synced. After a kill the store may
// be found further on, never less far.
func (s *Store) Position() Position { return *s.position.Load() }

const positionLen = 16

func (p Position) bytes() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, positionLen), p.Commits)
	return binary.BigEndian.AppendUint64(b, p.Records)
}

func parsePosition(b []byte) Position {
	return Position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
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
	for _, d := range st.lineage.Load().all {
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
