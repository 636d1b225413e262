// Package field reads and writes the fields of stored records: texts, numbers
// and times, one after another. The FORMAT.md files of message,
// gateway/sessions, queue and action say which record has which fields.
package field

import (
	"encoding/binary"
	"time"
)

// AppendText appends s with its length before it, as a uvarint.
func AppendText[S string | []byte](dst []byte, s S) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendTime appends t as a varint in epoch ms, 0 for the zero time.
func AppendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(dst, 0)
	}
	return binary.AppendVarint(dst, t.UnixMilli())
}

// A Reader takes fields off the front of a record. Where a field is missing it
// yields the zero value, and so for every field after it; Bad then says so, so
// that a record is judged once, at its end.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader returns a Reader of b, to which the bytes it yields refer.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Bad says whether a field was missing.
func (r *Reader) Bad() bool { return r.bad }

// Left is how many bytes were not read.
func (r *Reader) Left() int { return len(r.b) }

// fail notes that a field is missing.
func (r *Reader) fail() { r.bad, r.b = true, nil }

// Take yields n bytes.
func (r *Reader) Take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// Rest yields what is left, which is never missing.
func (r *Reader) Rest() []byte {
	p := r.b[:len(r.b):len(r.b)]
	r.b = nil
	return p
}

// Byte yields one.
func (r *Reader) Byte() byte {
	if p := r.Take(1); p != nil {
		return p[0]
	}
	return 0
}

// Uint16 yields a number of two bytes, big-endian.
func (r *Reader) Uint16() uint16 {
	if p := r.Take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

// Uint64 yields a number of eight bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	if p := r.Take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// Uvarint yields a number as encoding/binary has it.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Varint yields a number with a sign.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Time yields what AppendTime wrote.
func (r *Reader) Time() time.Time {
	if v := r.Varint(); v != 0 {
		return time.UnixMilli(v)
	}
	return time.Time{}
}

// Text yields what AppendText wrote, nil for an empty one.
func (r *Reader) Text() []byte {
	if p := r.Take(r.Uvarint()); len(p) > 0 {
		return p
	}
	return nil
}
