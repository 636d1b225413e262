package spool

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/tidemill/tidemill/agent/telemetry"
)

const keyBytes = 8

// ahead is how many bytes the scan of a file has to see from where a batch or a
// state begins, to know that one does: a state has 82.
const ahead = max(keyBytes+headBytes+telemetry.BeginBytes, 82)

// beginsBatch says whether b looks like the begin of a stored batch: the number
// of its key stands in its payload again.
func beginsBatch(b []byte) (seq uint64, ok bool) {
	if len(b) < keyBytes+headBytes {
		return 0, false
	}
	seq = binary.BigEndian.Uint64(b)
	again, ok := telemetry.Begins(b[keyBytes+headBytes:])
	return seq, ok && seq > 0 && again == seq
}

// A begun is a batch of which the scan of a file has seen the begin and not yet
// the end. Nothing says how long it is: it ends where its sum is right. Batches
// lie one after the other, so the begin of the next is the end of one whose sum
// was never right. So each byte is looked at once, however much is damaged.
type begun struct {
	seq     uint64 // below 2^56, so that its key begins with a 0
	at      int64  // of the key in the file; 0 is no batch, a meta page is there
	flushed int64
	want    uint32 // the sum
	sum     uint32 // ... of what was seen, inverted as crc32 has it inside
}

// begin is given the bytes of beginsBatch, which stand at at in the file.
func begin(b []byte, seq uint64, at int64) begun {
	value := b[keyBytes:]
	sum := crc32.Update(0, castagnoli, b[:keyBytes])
	return begun{seq: seq, at: at, flushed: headOf(value).at, want: binary.BigEndian.Uint32(value[12:]),
		sum: ^crc32.Update(sum, castagnoli, value[:12])}
}

// ends adds the byte at a place of the file, and says whether the batch may end
// with it.
func (b *begun) ends(c byte, at int64) bool {
	n := at + 1 - b.at // bytes of key and value
	switch {
	case n <= keyBytes+headBytes:
		return false
	case n > keyBytes+headBytes+telemetry.MaxBytes:
		b.at = 0
		return false
	}
	b.sum = castagnoli[byte(b.sum)^c] ^ b.sum>>8
	return ^b.sum == b.want
}

// whole says whether the batch ends at the byte at at, by the checksum of its
// payload too: one of 32 bits is right by chance somewhere in gigabytes.
func (b *begun) whole(in io.ReaderAt, at int64) (f find, ok bool) {
	payload := make([]byte, at+1-b.at-keyBytes-headBytes)
	if _, err := in.ReadAt(payload, b.at+keyBytes+headBytes); err != nil {
		return f, false
	}
	if h, err := telemetry.DecodeHeader(payload); err != nil || h.Seq != b.seq {
		return f, false
	}
	return find{seq: b.seq, at: b.at + keyBytes, n: headBytes + len(payload), flushed: b.flushed}, true
}
