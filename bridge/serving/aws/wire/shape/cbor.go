package shape

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// A cborSource reads CBOR (RFC 8949) as AWS's SDKs write it: names of maps are
// texts, times are tag 1 with whole milliseconds. Other tags are stepped over.
type cborSource struct{ in []byte }

func (s *cborSource) left() int { return len(s.in) }

func (s *cborSource) end() error {
	if len(s.in) > 0 {
		return ErrSyntax
	}
	return nil
}

// Major types, RFC 8949 section 3.1.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborList
	cborMap
	cborTag
	cborSimple
)

// breakCode ends what has no length.
const breakCode = 0xff

// unsaid is the length of what ends with a break.
const unsaid = -1

// head reads a value's first bytes: its major type, the low five bits, and the
// number after them, unsaid for none.
func (s *cborSource) head() (major, low byte, n uint64, err error) {
	if len(s.in) == 0 {
		return 0, 0, 0, ErrSyntax
	}
	major, low = s.in[0]>>5, s.in[0]&31
	s.in = s.in[1:]
	size := 0
	switch {
	case low < 24:
		return major, low, uint64(low), nil
	case low < 28:
		size = 1 << (low - 24)
	case low < 31:
		return 0, 0, 0, ErrSyntax
	default:
		return major, low, 0, nil
	}
	if len(s.in) < size {
		return 0, 0, 0, ErrSyntax
	}
	var b [8]byte
	copy(b[8-size:], s.in)
	s.in = s.in[size:]
	return major, low, binary.BigEndian.Uint64(b[:]), nil
}

// bytes reads the content of a string whose head is read.
func (s *cborSource) bytes(major, low byte, n uint64) ([]byte, error) {
	if low != 31 {
		if n > uint64(len(s.in)) {
			return nil, ErrSyntax
		}
		b := s.in[:n]
		s.in = s.in[n:]
		return b, nil
	}
	all := []byte{}
	for {
		if len(s.in) > 0 && s.in[0] == breakCode {
			s.in = s.in[1:]
			return all, nil
		}
		part, low, n, err := s.head()
		if err != nil || part != major || low == 31 {
			return nil, ErrSyntax
		}
		b, err := s.bytes(major, low, n)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
}

func (s *cborSource) next() (token, error) {
	major, low, n, err := s.head()
	if err != nil {
		return token{}, err
	}
	if low == 31 && (major < cborBytes || major > cborMap) {
		return token{}, ErrSyntax
	}
	switch major {
	case cborUint:
		return whole(n, false), nil
	case cborNegative:
		return whole(n, true), nil
	case cborBytes:
		b, err := s.bytes(major, low, n)
		return token{kind: isBytes, text: b}, err
	case cborText:
		b, err := s.bytes(major, low, n)
		if err == nil && !utf8.Valid(b) {
			err = ErrSyntax
		}
		return token{kind: isText, text: b}, err
	case cborList, cborMap:
		t := token{kind: isList, n: unsaid}
		if major == cborMap {
			t.kind = isMap
		}
		if low != 31 {
			if n > uint64(len(s.in)) { // an element has a byte at least
				return token{}, ErrSyntax
			}
			t.n = int64(n)
		}
		return t, nil
	case cborTag:
		return s.tagged(n)
	}
	return simple(low, n)
}

// tagged reads what is behind a tag; there may be one more, not any number.
func (s *cborSource) tagged(tag uint64) (token, error) {
	if len(s.in) == 0 || s.in[0]>>5 == cborTag {
		return token{}, ErrSyntax
	}
	t, err := s.next()
	if err == nil && tag == 1 && t.kind == isNumber {
		if !t.whole {
			t.n = int64(min(max(t.f, math.MinInt32*1e6), math.MaxInt32*1e6))
		}
		t.kind = isStamp
	}
	return t, err
}

// whole is an integer, as a float where it has more than 63 bits.
func whole(n uint64, negative bool) token {
	if n > math.MaxInt64 {
		f := float64(n)
		if negative {
			f = -1 - f
		}
		return token{kind: isNumber, f: f}
	}
	if negative {
		return token{kind: isNumber, whole: true, n: -1 - int64(n)}
	}
	return token{kind: isNumber, whole: true, n: int64(n)}
}

// simple reads major type 7.
func simple(low byte, n uint64) (token, error) {
	var f float64
	switch low {
	case 20, 21:
		return token{kind: isBool, yes: low == 21}, nil
	case 22, 23: // null, undefined
		return token{}, nil
	case 25:
		f = half(uint16(n))
	case 26:
		f = float64(math.Float32frombits(uint32(n)))
	case 27:
		f = math.Float64frombits(n)
	default:
		return token{}, ErrSyntax
	}
	if f != f {
		return token{}, ErrSyntax
	}
	return token{kind: isNumber, f: f}, nil
}

// half reads a number of 16 bits (RFC 8949 appendix D).
func half(b uint16) float64 {
	exponent, mantissa := int(b>>10&31), float64(b&1023)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		f = math.Inf(1)
		if mantissa != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(mantissa+1024, exponent-25)
	}
	if b>>15 != 0 {
		f = -f
	}
	return f
}

func (s *cborSource) more(t token, i int) (bool, error) {
	if t.n != unsaid {
		return int64(i) < t.n, nil
	}
	if len(s.in) == 0 {
		return false, ErrSyntax
	}
	if s.in[0] == breakCode {
		s.in = s.in[1:]
		return false, nil
	}
	return true, nil
}

func (s *cborSource) name() ([]byte, error) {
	major, low, n, err := s.head()
	if err != nil || major != cborText {
		return nil, ErrSyntax
	}
	return s.bytes(major, low, n)
}
