package telemetry

import (
	"encoding/binary"
	"math/bits"
)

// A bitWriter appends bits to out, the lowest bit of each byte first.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint // bits in acc, below 8 between calls
}

// write appends the low n bits of v, n at most 64.
func (w *bitWriter) write(v uint64, n uint) {
	if n > 32 {
		w.write32(v&0xFFFFFFFF, 32)
		v, n = v>>32, n-32
	}
	w.write32(v, n)
}

func (w *bitWriter) write32(v uint64, n uint) {
	w.acc |= (v & (1<<n - 1)) << w.n
	w.n += n
	for w.n >= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

// close pads with zero bits to a whole byte and returns the slice.
func (w *bitWriter) close() []byte {
	if w.n > 0 {
		w.out = append(w.out, byte(w.acc))
		w.acc, w.n = 0, 0
	}
	return w.out
}

// A bitReader reads what a bitWriter wrote. Past the end it reads zeros; close
// tells.
type bitReader struct {
	in  []byte
	pos int // in bits
}

// peek returns the next bits, at least 57 of them.
func (r *bitReader) peek() uint64 {
	i := r.pos >> 3
	if i+8 <= len(r.in) {
		return binary.LittleEndian.Uint64(r.in[i:]) >> (r.pos & 7)
	}
	var v uint64
	for k := 0; i+k < len(r.in); k++ {
		v |= uint64(r.in[i+k]) << (8 * k)
	}
	return v >> (r.pos & 7)
}

// read returns the next n bits, n at most 64.
func (r *bitReader) read(n uint) uint64 {
	if n <= 57 {
		v := r.peek() & (1<<n - 1)
		r.pos += int(n)
		return v
	}
	v := r.peek() & (1<<32 - 1)
	r.pos += 32
	v |= (r.peek() & (1<<(n-32) - 1)) << 32
	r.pos += int(n - 32)
	return v
}

// close returns what follows the last byte read, and whether the bits were all
// there and the padding zero.
func (r *bitReader) close() (rest []byte, ok bool) {
	n := (r.pos + 7) >> 3
	if n > len(r.in) {
		return nil, false
	}
	if r.pos&7 != 0 && r.in[n-1]>>(r.pos&7) != 0 {
		return nil, false
	}
	return r.in[n:], true
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// uvarint is binary.Uvarint for the shortest form only.
func uvarint(in []byte) (v uint64, rest []byte, ok bool) {
	if len(in) > 0 && in[0] < 0x80 {
		return uint64(in[0]), in[1:], true
	}
	v, n := binary.Uvarint(in)
	if n <= 0 || n > 1 && in[n-1] == 0 {
		return 0, nil, false
	}
	return v, in[n:], true
}

// appendBitmap appends len(v) bits.
func appendBitmap(out []byte, v []bool) []byte {
	w := bitWriter{out: out}
	for _, b := range v {
		var u uint64
		if b {
			u = 1
		}
		w.write32(u, 1)
	}
	return w.close()
}

// readBitmap fills dst and says how many are true.
func readBitmap(in []byte, dst []bool) (rest []byte, set int, ok bool) {
	n := (len(dst) + 7) / 8
	if n > len(in) {
		return nil, 0, false
	}
	if k := len(dst) & 7; k != 0 && in[n-1]>>k != 0 {
		return nil, 0, false
	}
	for i := range dst {
		dst[i] = in[i>>3]>>(i&7)&1 != 0
	}
	for _, b := range in[:n] {
		set += bits.OnesCount8(b)
	}
	return in[n:], set, true
}
