package streams

import (
	"crypto/md5"
	"math/bits"
)

// ShardOf returns the shard that a partition key belongs to, 0 to shards-1:
// the MD5 of the key as an unsigned 128-bit big-endian number, looked up in
// the ranges that Kinesis gives to the shards of a new stream: each
// floor(2^128/shards) wide, the last one taking the remainder.
// shards must be at least 1.
func ShardOf(key string, shards int) int {
	if shards <= 1 {
		return 0
	}
	return shardOf(md5.Sum([]byte(key)), shards)
}

// shardOf is min(h / width, shards-1).
func shardOf(h [16]byte, shards int) int {
	n := uint64(shards)
	hi, lo := be64(h[:8]), be64(h[8:])
	whi, wlo := width(n)
	// An estimate from the top: floor(h*n / 2^128) is never above the exact
	// answer, and below it by at most one, since width*n misses 2^128 by < n.
	c1, _ := bits.Mul64(lo, n)
	q, m := bits.Mul64(hi, n)
	_, carry := bits.Add64(m, c1, 0)
	q += carry
	if q+1 < n {
		// q+1 holds if h >= (q+1)*width.
		ph, pl := bits.Mul64(wlo, q+1)
		ph += whi * (q + 1)
		if hi > ph || hi == ph && lo >= pl {
			q++
		}
	}
	return int(q)
}

// width is floor(2^128/n) for n >= 2, as two words.
func width(n uint64) (hi, lo uint64) {
	hi, r := bits.Div64(1%n, 0, n) // 2^64 / n, for n > 1
	lo, _ = bits.Div64(r, 0, n)
	return hi, lo
}

func be64(b []byte) uint64 {
	var v uint64
	for _, x := range b[:8] {
		v = v<<8 | uint64(x)
	}
	return v
}
