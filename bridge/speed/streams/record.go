package streams

import (
	"encoding/binary"
	"fmt"
)

// A Record is one entry of a shard.
type Record struct {
	Offset uint64 // grows within a shard; given by the commit
	Time   int64  // arrival, epoch ms; given by the commit if zero
	Key    string // partition key, at most MaxKey bytes
	Data   []byte // at most MaxData bytes
}

// AppendRecord encodes r after dst: a record as a Run has it. first says that
// the record begins a run whose neighbours before it are not known, so the key
// is written; otherwise a key equal to prev costs one byte.
func AppendRecord(dst []byte, r *Record, first bool, prev string) []byte {
	if !first && r.Key == prev {
		dst = append(dst, 0)
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(r.Key))+1)
		dst = append(dst, r.Key...)
	}
	dst = binary.AppendVarint(dst, r.Time)
	dst = binary.AppendUvarint(dst, uint64(len(r.Data)))
	return append(dst, r.Data...)
}

// A RawRecord is a record inside the bytes of a run, to which its slices refer.
type RawRecord struct {
	Key  []byte // of this record or, when Same is set, nil
	Same bool   // the key is that of the record before
	Time int64  // epoch ms; 0: that of the commit
	Data []byte
	Rest []byte // what follows
}

// CutRecord splits the first record off b, or returns ErrCorrupt.
func CutRecord(b []byte) (r RawRecord, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > MaxKey+1 {
		return r, fmt.Errorf("%w: key length", ErrCorrupt)
	}
	b = b[w:]
	if n == 0 {
		r.Same = true
	} else {
		if uint64(len(b)) < n-1 {
			return r, fmt.Errorf("%w: key", ErrCorrupt)
		}
		r.Key, b = b[:n-1], b[n-1:]
	}
	r.Time, w = binary.Varint(b)
	if w <= 0 {
		return r, fmt.Errorf("%w: time", ErrCorrupt)
	}
	b = b[w:]
	n, w = binary.Uvarint(b)
	if w <= 0 || n > MaxData || uint64(len(b)-w) < n {
		return r, fmt.Errorf("%w: data", ErrCorrupt)
	}
	b = b[w:]
	r.Data, r.Rest = b[:n:n], b[n:]
	return r, nil
}
