package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/format"
)

// formatNumber is that of FORMAT.md, and of what ingest, rules and delivery keep
// in the log. Sessions have a number of their own.
const formatNumber = 1

// knownFormat is the highest number that this program reads: gapFormat is that of a
// store that is as FORMAT.md says and has gaps.
const knownFormat = gapFormat

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
	s.stamped = has >= formatNumber
	return format.Check(has, knownFormat)
}

// stamp has b write this version's number, unless it is there.
func (s *Store) stamp(b *pebble.Batch) error {
	if s.stamped {
		return nil
	}
	s.stamped = true
	return b.Set([]byte{tagFormat}, binary.BigEndian.AppendUint32(nil, formatNumber), nil)
}
