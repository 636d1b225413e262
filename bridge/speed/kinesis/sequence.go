package kinesis

import (
	"errors"
	"math/bits"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Sequence is a record's sequence number. The zero Sequence is none.
//
// Clients see a decimal number of 56 digits, in hex:
//
//	2 ccccccccc s nnnnnnnnnnnnnnnn 00 ttttttttt iiiiiiii 2
//
// with the second the shard was made, the last digit of its index, the counter,
// the second of the record, and the shard's index. So the numbers of a shard
// are in the order of its records, and those of a shard made later are greater.
type Sequence struct {
	created uint64 // 36 bits
	counter uint64 // 63 bits: the record's offset + 1
	seconds uint64 // 36 bits
	shard   uint32
}

const (
	sequenceDigits = 56
	lastCounter    = 1<<63 - 1 // of a shard's closing number
	seconds36      = 1<<36 - 1
	e19            = 10_000_000_000_000_000_000
)

// firstSequence is the starting number of a shard, before all its records.
func firstSequence(sh *streams.Shard) Sequence {
	return Sequence{created: unix(sh.Created), seconds: unix(sh.Created), shard: uint32(sh.Index)}
}

// lastSequence is the closing number of a shard, after all its records; none
// while it is open.
func lastSequence(sh *streams.Shard) Sequence {
	if sh.Open() {
		return Sequence{}
	}
	return Sequence{created: unix(sh.Created), counter: lastCounter, seconds: unix(sh.Closed), shard: uint32(sh.Index)}
}

// sequenceOf is the number of the record of a shard at offset, which arrived
// at ms (epoch).
func sequenceOf(sh *streams.Shard, offset uint64, ms int64) Sequence {
	return Sequence{
		created: unix(sh.Created), counter: (offset + 1) & lastCounter,
		seconds: uint64(max(ms, 0)/1000) & seconds36, shard: uint32(sh.Index),
	}
}

func unix(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) & seconds36 }

// IsZero says whether there is none.
func (q Sequence) IsZero() bool { return q == Sequence{} }

// AppendText appends its decimal digits.
func (q Sequence) AppendText(b []byte) ([]byte, error) {
	if q.IsZero() {
		return b, nil
	}
	w0 := 2 | uint64(q.shard)<<4 | q.seconds<<36
	w1 := q.seconds>>28 | q.counter<<16
	w2 := q.counter>>48 | uint64(q.shard&15)<<16 | q.created<<20 | 2<<56
	// Twice divided by 10^19; w2 is less than that, and so are the quotients.
	q1, r := bits.Div64(w2, w1, e19)
	q0, low := bits.Div64(r, w0, e19)
	high, mid := bits.Div64(q1, q0, e19)
	n := len(b)
	b = append(b, "00000000000000000000000000000000000000000000000000000000"...)
	digits(b[n:n+18], high)
	digits(b[n+18:n+37], mid)
	digits(b[n+37:], low)
	return b, nil
}

// digits writes v right-aligned over zeros.
func digits(b []byte, v uint64) {
	const pairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"
	i := len(b)
	for v >= 100 {
		p := v % 100 * 2
		v /= 100
		i -= 2
		b[i], b[i+1] = pairs[p], pairs[p+1]
	}
	for v > 0 {
		i--
		b[i] = byte('0' + v%10)
		v /= 10
	}
}

func (q Sequence) String() string {
	b, _ := q.AppendText(make([]byte, 0, sequenceDigits))
	return string(b)
}

var errSequence = errors.New("kinesis: not a sequence number")

// parseSequence reads a sequence number; it takes what AppendText writes, of
// any Sequence but the zero one.
func parseSequence(s string) (Sequence, error) {
	if len(s) != sequenceDigits || s[0] == '0' {
		return Sequence{}, errSequence
	}
	var part [3]uint64 // 18, 19 and 19 digits
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return Sequence{}, errSequence
		}
		p := &part[(i+1)/19]
		*p = *p*10 + uint64(d)
	}
	var c uint64
	w1, w0 := bits.Mul64(part[0], e19)
	w0, c = bits.Add64(w0, part[1], 0)
	w1 += c
	h0, w0 := bits.Mul64(w0, e19)
	w2, l1 := bits.Mul64(w1, e19)
	w1, c = bits.Add64(l1, h0, 0)
	w2 += c
	w0, c = bits.Add64(w0, part[2], 0)
	w1, c = bits.Add64(w1, 0, c)
	w2 += c

	q := Sequence{
		created: w2 >> 20 & seconds36,
		counter: w2<<48 | w1>>16,
		seconds: w1<<28&seconds36 | w0>>36,
		shard:   uint32(w0 >> 4),
	}
	if w2>>56 != 2 || w2>>16&15 != uint64(q.shard&15) || q.counter > lastCounter || w1>>8&0xff != 0 || w0&15 != 2 ||
		q.IsZero() {
		return Sequence{}, errSequence
	}
	return q, nil
}
