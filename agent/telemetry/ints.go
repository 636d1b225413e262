package telemetry

import (
	"encoding/binary"
	"math/bits"
)

// An int stream is how times, integers, scaled floats and dictionary indexes
// are written: one byte order<<6 | k, the first values as varints, and the
// rest as Rice codes of zig-zag residuals. See FORMAT.md.
const (
	riceEscape = 16 // a quotient of so many ones ends in a length instead
	riceZeros  = 63 // k: every residual is zero and takes no bits
	riceMaxK   = 60
	orderSame  = 3 // times only: the same as the series before
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

// appendInts appends v, at least one value, as an int stream, in the smallest
// of the three orders.
func (e *encoder) appendInts(out []byte, v []int64) []byte {
	var bestK uint
	best, bestOrder := -1, 0
	for order := range 3 {
		if len(v) < order {
			break
		}
		e.try = differences(e.try, v, order)
		k, n := riceParam(e.try)
		if order > 0 {
			n += 8 * varintLen(zigzag(v[0]))
		}
		if order > 1 {
			n += 8 * varintLen(zigzag(v[1]-v[0]))
		}
		if best < 0 || n < best {
			best, bestOrder, bestK = n, order, k
			e.res, e.try = e.try, e.res
		}
	}
	out = append(out, byte(bestOrder<<6|int(bestK)))
	if bestOrder > 0 {
		out = binary.AppendUvarint(out, zigzag(v[0]))
	}
	if bestOrder > 1 {
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
	order, k := int(in[0]>>6), uint(in[0]&63)
	in = in[1:]
	if order == orderSame || order > len(dst) || k > riceMaxK && k != riceZeros {
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
