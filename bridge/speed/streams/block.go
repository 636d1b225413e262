package streams

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A block is the value of one key: the records that one group commit wrote to
// one shard. FORMAT.md has the layout.
const (
	blockVersion = 1
	headerLen    = 1 + 8 + 8 + 4

	// maxBlock bounds a block unless a single record is larger: a read of one
	// record costs reading its block.
	maxBlock = 1 << 20
)

// A header is the front of a block.
type header struct {
	time  int64  // epoch ms of the commit; never less than in the block before
	cum   uint64 // bytes of all blocks of the shard before this one, since it was made
	count uint32 // records
}

func (h header) put(dst []byte) {
	dst[0] = blockVersion
	binary.BigEndian.PutUint64(dst[1:], uint64(h.time))
	binary.BigEndian.PutUint64(dst[9:], h.cum)
	binary.BigEndian.PutUint32(dst[17:], h.count)
}

func parseHeader(v []byte) (header, error) {
	if len(v) < headerLen || v[0] != blockVersion {
		return header{}, fmt.Errorf("%w: header", ErrCorrupt)
	}
	return header{
		time:  int64(binary.BigEndian.Uint64(v[1:])),
		cum:   binary.BigEndian.Uint64(v[9:]),
		count: binary.BigEndian.Uint32(v[17:]),
	}, nil
}

// appendRecord encodes r. first says that the record begins a run whose
// neighbours before it are not known, so the key is written; otherwise a key
// equal to prev costs one byte.
func appendRecord(dst []byte, r *Record, first bool, prev string) []byte {
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

// A rawRecord is a record inside a block's bytes.
type rawRecord struct {
	key  []byte // of this record or, when same is set, nil
	same bool   // the key is that of the record before
	time int64  // 0: the block's
	data []byte
	rest []byte // what follows
}

// next splits the first record off b.
func nextRecord(b []byte) (r rawRecord, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > MaxKey+1 {
		return r, fmt.Errorf("%w: key length", ErrCorrupt)
	}
	b = b[w:]
	if n == 0 {
		r.same = true
	} else {
		if uint64(len(b)) < n-1 {
			return r, fmt.Errorf("%w: key", ErrCorrupt)
		}
		r.key, b = b[:n-1], b[n-1:]
	}
	r.time, w = binary.Varint(b)
	if w <= 0 {
		return r, fmt.Errorf("%w: time", ErrCorrupt)
	}
	b = b[w:]
	n, w = binary.Uvarint(b)
	if w <= 0 || n > MaxData || uint64(len(b)-w) < n {
		return r, fmt.Errorf("%w: data", ErrCorrupt)
	}
	b = b[w:]
	r.data, r.rest = b[:n:n], b[n:]
	return r, nil
}

// appendBlock decodes records of a block whose first offset is first, those
// with Offset >= from, to dst: at most maxRecords, and while keys and data
// stay within maxBytes, but always one when dst is empty. used is the bytes
// of keys and data taken; more is false when a limit ended it. The records
// refer to v if it is kept, that is never written again; else to a copy.
func appendBlock(dst []Record, v []byte, kept bool, first, from uint64, maxRecords, maxBytes int) (
	out []Record, used int, more bool, err error,
) {
	h, err := parseHeader(v)
	if err != nil {
		return dst, 0, false, err
	}
	b := v[headerLen:]
	var key []byte // of the record before the wanted ones, in v
	i := uint32(0)
	for ; i < h.count && first+uint64(i) < from; i++ {
		r, err := nextRecord(b)
		if err != nil {
			return dst, 0, false, err
		}
		if !r.same {
			key = r.key
		} else if i == 0 {
			return dst, 0, false, fmt.Errorf("%w: first key", ErrCorrupt)
		}
		b = r.rest
	}
	// Which bytes are wanted?
	more = true
	rest, klen, n := b, len(key), 0
	for j := i; j < h.count; j++ {
		r, err := nextRecord(rest)
		if err != nil {
			return dst, 0, false, err
		}
		if !r.same {
			klen = len(r.key)
		} else if j == 0 {
			return dst, 0, false, fmt.Errorf("%w: first key", ErrCorrupt)
		}
		size := klen + len(r.data)
		if n >= maxRecords || used+size > maxBytes && len(dst)+n > 0 {
			more = false
			break
		}
		used, rest, n = used+size, r.rest, n+1
	}
	if more && len(rest) != 0 {
		return dst, 0, false, fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(rest))
	}
	own := b[:len(b)-len(rest)]
	if !kept {
		own = bytes.Clone(own)
	}
	k := string(key)
	for ; n > 0; n, i = n-1, i+1 {
		r, err := nextRecord(own)
		if err != nil {
			return dst, 0, false, err
		}
		if !r.same && k != string(r.key) {
			k = string(r.key)
		}
		if r.time == 0 {
			r.time = h.time
		}
		dst = append(dst, Record{Offset: first + uint64(i), Time: r.time, Key: k, Data: r.data})
		own = r.rest
	}
	return dst, used, more, nil
}
