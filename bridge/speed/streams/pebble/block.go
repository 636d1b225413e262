package pebble

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A block is the value of one key: the records that one group commit wrote to
// one shard. FORMAT.md has the layout.
const (
	blockVersion = 1
	headerLen    = 1 + 8 + 8 + 4

	// maxBlock bounds a block unless a single record is larger: a read of one
	// record costs reading its block.
	maxBlock = streams.MaxRun
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
		return header{}, fmt.Errorf("%w: header", streams.ErrCorrupt)
	}
	return header{
		time:  int64(binary.BigEndian.Uint64(v[1:])),
		cum:   binary.BigEndian.Uint64(v[9:]),
		count: binary.BigEndian.Uint32(v[17:]),
	}, nil
}

// appendBlock decodes records of a block whose first offset is first, those
// with Offset >= from, to dst: at most maxRecords, and while keys and data
// stay within maxBytes, but always one when dst is empty. used is the bytes
// of keys and data taken; more is false when a limit ended it. The records
// refer to v if it is kept, that is never written again; else to a copy.
func appendBlock(dst []streams.Record, v []byte, kept bool, first, from uint64, maxRecords, maxBytes int) (
	out []streams.Record, used int, more bool, err error,
) {
	h, err := parseHeader(v)
	if err != nil {
		return dst, 0, false, err
	}
	b := v[headerLen:]
	var key []byte // of the record before the wanted ones, in v
	i := uint32(0)
	for ; i < h.count && first+uint64(i) < from; i++ {
		r, err := streams.CutRecord(b)
		if err != nil {
			return dst, 0, false, err
		}
		if !r.Same {
			key = r.Key
		} else if i == 0 {
			return dst, 0, false, fmt.Errorf("%w: first key", streams.ErrCorrupt)
		}
		b = r.Rest
	}
	// Which bytes are wanted?
	more = true
	rest, klen, n := b, len(key), 0
	for j := i; j < h.count; j++ {
		r, err := streams.CutRecord(rest)
		if err != nil {
			return dst, 0, false, err
		}
		if !r.Same {
			klen = len(r.Key)
		} else if j == 0 {
			return dst, 0, false, fmt.Errorf("%w: first key", streams.ErrCorrupt)
		}
		size := klen + len(r.Data)
		if n >= maxRecords || used+size > maxBytes && len(dst)+n > 0 {
			more = false
			break
		}
		used, rest, n = used+size, r.Rest, n+1
	}
	if more && len(rest) != 0 {
		return dst, 0, false, fmt.Errorf("%w: %d bytes after the last record", streams.ErrCorrupt, len(rest))
	}
	own := b[:len(b)-len(rest)]
	if !kept {
		own = bytes.Clone(own)
	}
	k := string(key)
	for ; n > 0; n, i = n-1, i+1 {
		r, err := streams.CutRecord(own)
		if err != nil {
			return dst, 0, false, err
		}
		if !r.Same && k != string(r.Key) {
			k = string(r.Key)
		}
		if r.Time == 0 {
			r.Time = h.time
		}
		dst = append(dst, streams.Record{Offset: first + uint64(i), Time: r.Time, Key: k, Data: r.Data})
		own = r.Rest
	}
	return dst, used, more, nil
}
