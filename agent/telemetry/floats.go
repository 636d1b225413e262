package telemetry

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// maxScale is the largest decimal exponent: 10^15 < 2^53, so the power and
// each scaled value are exact, and the division rounds once, as the parsing of
// the decimal text does.
const maxScale = 15

// maxScaled is the largest scaled magnitude: integers up to 2^53 are exact.
const maxScaled = 1 << 53

// The high half of a float column's first byte; the low half is the scale. Up to
// floatMaxK it is k of an int stream of order 1, whose own first byte is saved.
const (
	floatMaxK   = 13
	floatStream = 14 // an int stream follows with its first byte
	floatXOR    = 15
)

var pow10 = [maxScale + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// scaled returns f times 10^e if that is an integer which gives f back.
func scaled(f float64, e int) (int64, bool) {
	m := math.RoundToEven(f * pow10[e])
	if !(math.Abs(m) <= maxScaled) { // also NaN
		return 0, false
	}
	return int64(m), math.Float64bits(float64(int64(m))/pow10[e]) == math.Float64bits(f)
}

// decimals fills dst with v scaled by the least power of ten that makes all of
// them integers. It is false when there is none: for 1/3, -0, NaN and the
// infinities.
func decimals(dst []int64, v []float64) (scaledBy int, ok bool) {
	e := 0
	for _, f := range v {
		for {
			if _, ok := scaled(f, e); ok {
				break
			}
			if e == maxScale || math.IsInf(f, 0) || f != f {
				return 0, false
			}
			e++
		}
	}
	for i, f := range v {
		if dst[i], ok = scaled(f, e); !ok {
			return 0, false
		}
	}
	return e, true
}

// appendFloats appends the first byte and the values, at least one.
func (e *encoder) appendFloats(out []byte, v []float64) []byte {
	start := len(out)
	e.ints = sized(e.ints, len(v))
	scale, ok := decimals(e.ints, v)
	if ok {
		out = e.appendInts(append(out, floatStream<<4|byte(scale)), e.ints)
		if head := out[start+1]; head>>6 == 1 && head&63 <= floatMaxK {
			out[start+1] = head<<4 | byte(scale)
			out = append(out[:start], out[start+1:]...)
		}
		// Not worth a try when even equal values would take more bits.
		if len(out)-start <= 9+len(v)/8 {
			return out
		}
	}
	e.xor = appendXOR(e.xor[:0], v)
	if ok && len(out)-start <= 1+len(e.xor) {
		return out
	}
	return append(append(out[:start], floatXOR<<4), e.xor...)
}

// appendXOR appends v as XOR of neighbours, after Pelkonen et al., Gorilla
// (VLDB 2015), section 4.1.2, with one difference: a window is reused only
// when that is the shorter way.
func appendXOR(out []byte, v []float64) []byte {
	w := bitWriter{out: out}
	prev := canonical(v[0])
	w.write(prev, 64)
	lead, size := uint(0), uint(64) // the window
	for _, f := range v[1:] {
		b := canonical(f)
		x := b ^ prev
		prev = b
		if x == 0 {
			w.write32(0, 1)
			continue
		}
		l := min(uint(bits.LeadingZeros64(x)), 31)
		t := uint(bits.TrailingZeros64(x))
		n := 64 - l - t
		if trail := 64 - lead - size; l >= lead && t >= trail && size <= n+11 {
			w.write32(0b01, 2)
			w.write(x>>trail, size)
			continue
		}
		lead, size = l, n
		w.write32(0b11|uint64(lead)<<2|uint64(size-1)<<7, 13)
		w.write(x>>t, size)
	}
	return w.close()
}

func readXOR(in []byte, dst []float64) (rest []byte, ok bool) {
	r := bitReader{in: in}
	b := r.read(64)
	dst[0] = math.Float64frombits(b)
	lead, size := uint(0), uint(64)
	for i := 1; i < len(dst); i++ {
		switch w := r.peek(); {
		case w&1 == 0:
			r.pos++
		case w&2 == 0:
			r.pos += 2
			b ^= r.read(size) << (64 - lead - size)
		default:
			r.pos += 13
			lead, size = uint(w>>2&31), uint(w>>7&63)+1
			if lead+size > 64 {
				return nil, false
			}
			b ^= r.read(size) << (64 - lead - size)
		}
		dst[i] = math.Float64frombits(b)
	}
	for i, f := range dst {
		if f != f {
			dst[i] = math.NaN()
		}
	}
	return r.close()
}

// readFloats fills dst, at least one value; ints is scratch of that length.
func readFloats(in []byte, mode byte, dst []float64, ints []int64) (rest []byte, ok bool) {
	scale := mode & 15
	switch k := mode >> 4; {
	case k == floatXOR && scale == 0:
		return readXOR(in, dst)
	case k == floatXOR:
		return nil, false
	case k == floatStream:
		in, ok = readInts(in, ints)
	default:
		in, ok = readStream(1<<6|k, in, ints)
	}
	if !ok {
		return nil, false
	}
	p := pow10[scale]
	for i, m := range ints {
		if m > maxScaled || m < -maxScaled {
			return nil, false
		}
		dst[i] = float64(m) / p
	}
	return in, true
}

// canonical returns f's bits, and those of math.NaN for any NaN.
func canonical(f float64) uint64 {
	if f != f {
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(f)
}

// sized returns s with length n, its old contents not kept.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}

func appendString[S string | []byte](out []byte, s S) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}
