package packet

import (
	"errors"
	"fmt"
	"io"
)

// A Reader cuts a stream into packets. Several packets may come with one read
// of the stream. A read that fails with a timeout loses nothing: Next may be
// called again and goes on where it was. One goroutine may use it at a time.
type Reader struct {
	src  io.Reader
	max  int    // packets over this many bytes, header included, are refused
	buf  []byte // what was read
	r, w int    // buf[r:w] is not yet returned
	size int    // of buf at first
	full bool   // a read filled buf

	first byte   // of a packet that does not fit buf, being gathered in
	big   []byte // here
	want  int    // until it has so many bytes; 0 when none is
}

// largest is how far a buffer grows while reads fill it: more packets then come
// with one read, and beyond 16 KiB (a TLS record) hardly more do.
const largest = 16 << 10

// NewReader returns a reader of packets up to max bytes, with a buffer of size
// bytes (at least 16), which grows up to 16 KiB while there is much to read.
// Packets that don't fit the buffer get memory of their own.
func NewReader(src io.Reader, size, max int) *Reader {
	return &Reader{src: src, buf: make([]byte, size), size: size, max: max}
}

// Shrink gives a grown buffer back if nothing is in it. It is for connections
// that have become quiet.
func (r *Reader) Shrink() {
	if r.r == r.w && len(r.buf) > r.size {
		r.buf, r.r, r.w = make([]byte, r.size), 0, 0
	}
}

// SetMax changes the limit for the packets to come.
func (r *Reader) SetMax(n int) { r.max = n }

// header parses the fixed header at the front of the buffer. n is its length, 0
// while it is not all there.
func (r *Reader) header() (first byte, remaining, n int, err error) {
	if r.w-r.r < 2 {
		return 0, 0, 0, nil
	}
	remaining, n = varint(r.buf[r.r+1 : r.w])
	switch {
	case n < 0 || n > varintLen(remaining): // [MQTT-1.5.5-1] of version 5; 2.2.3 of 3.1.1: one byte up to 127
		return 0, 0, 0, fmt.Errorf("%w: remaining length", ErrMalformed)
	case n == 0:
		return 0, 0, 0, nil
	case 1+n+remaining > r.max:
		return 0, 0, 0, fmt.Errorf("%w: %s of %d bytes, at most %d", ErrTooLarge, Type(r.buf[r.r]>>4), 1+n+remaining,
			r.max)
	}
	return r.buf[r.r], remaining, 1 + n, nil
}

// Opens says whether the next packet, of which a byte must be there, is of type t
// with no flags set.
func (r *Reader) Opens(t Type) bool { return r.buf[r.r] == byte(t)<<4 }

// Front returns what is there, n bytes at most, of the body of the packet that
// Next refused with ErrTooLarge, reading until there is so much or the stream
// fails. n must not be more than the buffer's size less the 5 bytes of a header.
func (r *Reader) Front(n int) []byte {
	_, at := varint(r.buf[r.r+1 : r.w])
	for r.w-r.r < 1+at+n {
		if r.w == len(r.buf) {
			r.r, r.w = 0, copy(r.buf, r.buf[r.r:r.w])
		}
		got, err := r.src.Read(r.buf[r.w:])
		if r.w += got; err != nil {
			break
		}
	}
	body := r.buf[r.r+1+at : r.w]
	return body[:min(n, len(body))]
}

// Buffered reports whether Next will return without reading from the stream.
func (r *Reader) Buffered() bool {
	if r.want > 0 {
		return false
	}
	_, remaining, n, err := r.header()
	return err != nil || n > 0 && r.w-r.r >= n+remaining
}

// Next returns the first byte of the next packet and the bytes after its fixed
// header. If owned is true they are the caller's to keep, otherwise they are
// valid until Next is called again. The error is the stream's, or ErrTooLarge,
// or ErrMalformed; it is io.EOF only between packets.
func (r *Reader) Next() (first byte, body []byte, owned bool, err error) {
	if r.want > 0 {
		return r.gather()
	}
	for {
		first, remaining, n, err := r.header()
		if err != nil {
			return 0, nil, false, err
		}
		switch total := n + remaining; {
		case n == 0:
		case r.w-r.r >= total:
			body = r.buf[r.r+n : r.r+total]
			r.r += total
			return first, body, false, nil
		case total > len(r.buf):
			r.first, r.want = first, remaining
			// A client that states a size must send before it gets the memory.
			r.big = append(make([]byte, 0, min(remaining, 2*len(r.buf))), r.buf[r.r+n:r.w]...)
			r.r, r.w = 0, 0
			return r.gather()
		}
		left := r.buf[r.r:r.w]
		if r.full && len(r.buf) < largest {
			r.buf = make([]byte, min(4*len(r.buf), largest))
		}
		r.r, r.w = 0, copy(r.buf, left)
		got, err := r.src.Read(r.buf[r.w:])
		r.w += got
		r.full = r.w == len(r.buf)
		if err != nil && got == 0 {
			if errors.Is(err, io.EOF) && r.w > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, false, err
		}
	}
}

// gather reads the rest of a large packet; memory doubles as bytes come.
func (r *Reader) gather() (first byte, body []byte, owned bool, err error) {
	for len(r.big) < r.want {
		if len(r.big) == cap(r.big) {
			bigger := make([]byte, len(r.big), min(2*len(r.big), r.want))
			copy(bigger, r.big)
			r.big = bigger
		}
		n := len(r.big)
		got, err := r.src.Read(r.big[n:min(cap(r.big), r.want)])
		r.big = r.big[:n+got]
		if err != nil && got == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, false, err
		}
	}
	body, r.big, r.want = r.big, nil, 0
	return r.first, body, true, nil
}
