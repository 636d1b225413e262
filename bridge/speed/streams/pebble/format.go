package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/format"
)

// FormatNumber is that of FORMAT.md, and of what ingest, rules and delivery keep
// in the log. Sessions have a number of their own. A program of number 1 would give the
// offsets of a gap, and drop deliveries that wait.
const FormatNumber = 2

const formatMarker = "marker.format-version."

// pebbleFormat returns format.ErrNewer if the names in a database's folder tell of
// a format of Pebble's that this version of it does not know.
func pebbleFormat(names []string) error {
	for _, n := range names {
		marker, ok := strings.CutPrefix(n, formatMarker) // ITERATION.VERSION
		if !ok {
			continue
		}
		_, version, _ := strings.Cut(marker, ".")
		has, err := strconv.ParseUint(version, 10, 32)
		if err != nil {
			continue // Pebble says what is wrong
		}
		if err := format.Check(has, uint64(pebble.FormatNewest)); err != nil {
			return fmt.Errorf("%s: Pebble's %w", n, err)
		}
	}
	return nil
}

// checkFormat compares the number that db has; a store that is new, or of before
// there was a number, has none.
func (s *Store) checkFormat(db *pebble.DB) error {
	v, closer, err := db.Get([]byte{tagFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	} else if err != nil {
		return s.named(err)
	}
	defer closer.Close()
	if len(v) != 4 {
		return fmt.Errorf("%w: format number of %d bytes", streams.ErrCorrupt, len(v))
	}
	has := uint64(binary.BigEndian.Uint32(v))
	s.stamped = has == FormatNumber
	return format.Check(has, FormatNumber)
}

// Format reads the number of the store in dir, which no other process may have
// open. Open brings it to FormatNumber with its first commit. A store without a number
// is of format 1, an empty one new. Format changes nothing.
func Format(dir string) (has uint64, err error) {
	s := &Store{opts: Options{FS: vfs.Default, MemTableSize: 32 << 20}, dir: dir, log: slog.New(slog.DiscardHandler)}
	o := s.pebbleOptions()
	o.ReadOnly = true
	db, err := s.openDB(o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	v, closer, err := db.Get([]byte{tagFormat})
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return s.unnumbered(db)
	case err != nil:
		return 0, s.named(err)
	case len(v) == 4:
		has = uint64(binary.BigEndian.Uint32(v))
	default:
		err = fmt.Errorf("%w: format number of %d bytes", streams.ErrCorrupt, len(v))
	}
	return has, errors.Join(err, closer.Close())
}

// unnumbered returns the format of a store without a number.
func (s *Store) unnumbered(db *pebble.DB) (uint64, error) {
	i, err := db.NewIter(nil)
	if err != nil {
		return 0, s.named(err)
	}
	has := uint64(FormatNumber)
	if i.First() {
		has = 1
	}
	if err := errors.Join(i.Error(), i.Close()); err != nil {
		return 0, s.named(err)
	}
	return has, nil
}

// stamp has b write this version's number, unless it is there.
func (s *Store) stamp(b *pebble.Batch) error {
	if s.stamped {
		return nil
	}
	s.stamped = true
	return b.Set([]byte{tagFormat}, binary.BigEndian.AppendUint32(nil, FormatNumber), nil)
}
