package telemetry

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// An int stream is how times, integers, scaled floats and dictionary indexes
// are written: one byte order<<6 | k, the first values as varints, and the
// rest as Rice codes of zig-zag residuals, these divided by what divides all of
// them where that is shorter. See FORMAT.md.
const (
	riceEscape  = 16 // a quotient of so many ones ends in a length instead
	riceZeros   = 63 // k: every residual is zero and takes no bits
	riceScaled  = 61 // k: a common divisor of the residuals and the real k follow
	riceMaxK    = 60
	orderBeside = 3 // times only: order 1 of the differences from the series before, time by time
)

// riceBits is the size of u with parameter k.
func riceBits(u uint64, k uint) int {
	if q := u >> k; q < riceEscape {
		return int(q) + 1 + int(k)
	}
	return riceEscape + 6 + bits.Len64(u)
}

func riceTotal(res []uint64, k uint) (n int) {
	for _, u := range res {
		n += riceBits(u, k)
	}
	return n
}

// riceParam returns a good k for res, and the bits it takes: it starts at the
// median length and walks downhill, since the sum is convex but for the
// escapes.
func riceParam(res []uint64) (k uint, total int) {
	var hist [65]int
	for _, u := range res {
		hist[bits.Len64(u)]++
	}
	if hist[0] == len(res) {
		return riceZeros, 0
	}
	for seen := hist[0]; seen*2 < len(res); {
		k++
		seen += hist[k]
	}
	k = min(max(k, 1)-1, riceMaxK)
	total = riceTotal(res, k)
	for up := k; up < riceMaxK; {
		up++
		n := riceTotal(res, up)
		if n >= total {
			break
		}
		k, total = up, n
	}
	for down := k; down > 0; {
		down--
		n := riceTotal(res, down)
		if n >= total {
			break
		}
		k, total = down, n
	}
	return k, total
}

// differences writes v's residuals of order 0 to 2 to res.
func differences(res []uint64, v []int64, order int) []uint64 {
	res = res[:0]
	switch order {
	case 0:
		for _, x := range v {
			res = append(res, zigzag(x))
		}
	case 1:
		for i := 1; i < len(v); i++ {
			res = append(res, zigzag(v[i]-v[i-1]))
		}
	case 2:
		for i := 2; i < len(v); i++ {
			res = append(res, zigzag(v[i]-v[i-1]-(v[i-1]-v[i-2])))
		}
	}
	return res
}

func varintLen(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// divisor returns the greatest common divisor of the residuals: 4096 where
// they count bytes of memory. It is 0 when all of them are zero.
func divisor(res []uint64) (g uint64) {
	for _, u := range res {
		for m := u>>1 + u&1; m != 0; { // the residual's magnitude
			g, m = m, g%m
		}
		if g == 1 {
			break
		}
	}
	return g
}

// A plan is one way to write an int stream.
type plan struct {
	order int
	k     uint
	by    uint64 // what the residuals are divided by
	bits  int
}

// appendInts appends v, at least one value, as an int stream, in the smallest
// of the three orders.
func (e *encoder) appendInts(out []byte, v []int64) []byte {
	var best plan
	for order := range min(3, len(v)+1) {
		head := 0
		if order > 0 {
			head = 8 * varintLen(zigzag(v[0]))
		}
		if order > 1 {
			head += 8 * varintLen(zigzag(v[1]-v[0]))
		}
		e.try = differences(e.try, v, order)
		for by := uint64(1); ; {
			k, n := riceParam(e.try)
			if p := (plan{order, k, by, head + n}); best.by == 0 || p.bits < best.bits {
				best = p
				e.res = append(e.res[:0], e.try...)
			}
			if by > 1 {
				break
			}
			by = divisor(e.try)
			if by < 2 || by > math.MaxInt64 {
				break
			}
			head += 8 + 8*varintLen(by)
			for i, u := range e.try {
				e.try[i] = zigzag(unzigzag(u) / int64(by))
			}
		}
	}
	bestK := best.k
	if best.by > 1 {
		out = append(out, byte(best.order<<6|riceScaled))
		out = append(binary.AppendUvarint(out, best.by), byte(bestK))
	} else {
		out = append(out, byte(best.order<<6|int(bestK)))
	}
	if best.order > 0 {
		out = binary.AppendUvarint(out, zigzag(v[0]))
	}
	if best.order > 1 {
		out = binary.AppendUvarint(out, zigzag(v[1]-v[0]))
	}
	if bestK == riceZeros {
		return out
	}
	w := bitWriter{out: out}
	for _, u := range e.res {
		q := u >> bestK
		if q < riceEscape {
			w.write32(1<<q-1, uint(q)+1)
			w.write(u, bestK)
			continue
		}
		n := uint(bits.Len64(u))
		w.write32(1<<riceEscape-1, riceEscape)
		w.write32(uint64(n-1), 6)
		w.write(u, n)
	}
	return w.close()
}

// readInts fills dst, at least one value, from an int stream.
func readInts(in []byte, dst []int64) (rest []byte, ok bool) {
	if len(in) == 0 {
		return nil, false
	}
	return readStream(in[0], in[1:], dst)
}

// readStream is readInts after the first byte.
func readStream(head byte, in []byte, dst []int64) (rest []byte, ok bool) {
	order, k := int(head>>6), uint(head&63)
	by := uint64(1)
	if k == riceScaled {
		if by, in, ok = uvarint(in); !ok || by < 2 || by > math.MaxInt64 || len(in) == 0 || in[0] > riceMaxK {
			return nil, false
		}
		k, in = uint(in[0]), in[1:]
	}
	if order > min(2, len(dst)) || k > riceMaxK && k != riceZeros {
		return nil, false
	}
	var first [2]int64
	for i := range order {
		var u uint64
		if u, in, ok = uvarint(in); !ok {
			return nil, false
		}
		first[i] = unzigzag(u)
	}
	res := dst[order:]
	if k == riceZeros {
		clear(res)
	} else if in, ok = readRice(in, res, k); !ok {
		return nil, false
	}
	if by > 1 {
		for i := range res {
			res[i] *= int64(by)
		}
	}
	switch order {
	case 1:
		v := first[0]
		dst[0] = v
		for i, d := range res {
			v += d
			res[i] = v
		}
	case 2:
		v, d := first[0]+first[1], first[1]
		dst[0], dst[1] = first[0], v
		for i, dd := range res {
			d += dd
			v += d
			res[i] = v
		}
	}
	return in, true
}

// readRice fills res with residuals, the zig-zag undone.
func readRice(in []byte, res []int64, k uint) (rest []byte, ok bool) {
	r := bitReader{in: in}
	mask := uint64(1)<<k - 1
	for i := range res {
		w := r.peek()
		q := uint(bits.TrailingZeros64(^w))
		switch {
		case q >= riceEscape:
			r.pos += riceEscape
			n := uint(r.read(6)) + 1
			u := r.read(n)
			if u>>(n-1) == 0 || u>>k < riceEscape {
				return nil, false // not what appendInts writes
			}
			res[i] = unzigzag(u)
			continue
		case q+1+k <= 57:
			r.pos += int(q + 1 + k)
			w = w >> (q + 1) & mask
		default:
			r.pos += int(q + 1)
			w = r.read(k)
		}
		res[i] = unzigzag(uint64(q)<<k | w)
	}
	return r.close()
}
