package streams

import (
	"cmp"
	"crypto/md5"
	"errors"
	"math/bits"
)

// A Hash is a place in the space of hash keys: an unsigned number of 128 bits.
type Hash struct{ Hi, Lo uint64 }

// MaxHash is the last hash key.
var MaxHash = Hash{1<<64 - 1, 1<<64 - 1}

// HashOf is the MD5 of a partition key, as Kinesis takes it: big-endian, over
// its UTF-8.
func HashOf(key string) Hash {
	sum := md5.Sum([]byte(key))
	return Hash{be64(sum[:8]), be64(sum[8:])}
}

// Compare is -1, 0 or 1.
func (h Hash) Compare(o Hash) int {
	return cmp.Or(cmp.Compare(h.Hi, o.Hi), cmp.Compare(h.Lo, o.Lo))
}

// Next is the hash key after h; after MaxHash it is 0.
func (h Hash) Next() Hash {
	lo, c := bits.Add64(h.Lo, 1, 0)
	return Hash{h.Hi + c, lo}
}

var errHash = errors.New("streams: want a hash key, 0 to 2^128-1, decimal and without leading zeros")

// ParseHash reads a decimal number of 0 to 2^128-1.
func ParseHash(s string) (Hash, error) {
	if s == "" || len(s) > 39 || s[0] == '0' && len(s) > 1 {
		return Hash{}, errHash
	}
	var h Hash
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return Hash{}, errHash
		}
		over, hi := bits.Mul64(h.Hi, 10)
		carry, lo := bits.Mul64(h.Lo, 10)
		var c uint64
		if lo, c = bits.Add64(lo, uint64(d), 0); c != 0 {
			carry++
		}
		if hi, c = bits.Add64(hi, carry, 0); over != 0 || c != 0 {
			return Hash{}, errHash
		}
		h = Hash{hi, lo}
	}
	return h, nil
}

// String returns the decimal digits.
func (h Hash) String() string {
	var b [39]byte
	i := len(b)
	for {
		var r uint64
		h.Hi, r = h.Hi/10, h.Hi%10
		h.Lo, r = bits.Div64(r, h.Lo, 10)
		i--
		b[i] = byte('0' + r)
		if h == (Hash{}) {
			return string(b[i:])
		}
	}
}

// A Range is a run of hash keys, both ends included.
type Range struct{ Start, End Hash }

// Contains says whether h is in the range.
func (r Range) Contains(h Hash) bool { return r.Start.Compare(h) <= 0 && h.Compare(r.End) <= 0 }

// Even returns the ranges that n new shards have: each floor(2^128/n) wide, the
// last one taking the remainder.
func Even(n int) []Range {
	if n == 1 {
		return []Range{{Hash{}, MaxHash}}
	}
	whi, wlo := width(uint64(n))
	all := make([]Range, n)
	var at Hash
	for i := range all {
		all[i].Start = at
		lo, c := bits.Add64(at.Lo, wlo, 0)
		hi, _ := bits.Add64(at.Hi, whi, c)
		at = Hash{hi, lo}
		lo, c = bits.Sub64(at.Lo, 1, 0)
		all[i].End = Hash{at.Hi - c, lo}
	}
	all[n-1].End = MaxHash
	return all
}
