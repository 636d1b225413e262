package ingest

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// markPrefix is what the keys of a thing's marks begin with.
func markPrefix(thing string) []byte {
	return append(append([]byte("ingest/mark/"), thing...), 0) // no thing's name has it
}

// markKey is where a lane's high-water mark is kept in the store.
func (k laneKey) markKey() []byte {
	return append(append(markPrefix(k.thing), k.spool[:]...), k.boot[:]...)
}

// A mark's value is the highest sequence that was stored, and the arrival of
// the batch it was stored with, epoch ms.
const markLen = 16

func appendMark(dst []byte, seq uint64, at int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, seq), uint64(at))
}

// maxMarks is how many of a thing's lanes have marks. Each boot of a device
// makes one, and none is needed once the device knows that its batches are
// stored: so the one longest silent goes.
const maxMarks = 64

// makeRoom has b forget marks of the thing, so that one more is not too many.
func makeRoom(store Log, b *streams.Batch, thing string) error {
	type old struct {
		key []byte
		at  int64
	}
	var all []old
	err := store.Scan(markPrefix(thing), func(k, v []byte) bool {
		o := old{key: slices.Clone(k)}
		if len(v) == markLen {
			o.at = int64(binary.BigEndian.Uint64(v[8:]))
		}
		all = append(all, o)
		return true
	})
	if err != nil || len(all) < maxMarks {
		return err
	}
	slices.SortFunc(all, func(a, b old) int { return cmp.Compare(a.at, b.at) })
	for _, o := range all[:len(all)-maxMarks+1] {
		b.Unset(o.key)
	}
	return nil
}
