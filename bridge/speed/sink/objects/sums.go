package objects

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"strconv"
	"strings"
)

// An Algorithm is one of S3's checksums, as its API writes it.
type Algorithm string

// The checksums of S3 (API reference, "Checksum").
const (
	CRC32     Algorithm = "CRC32"
	CRC32C    Algorithm = "CRC32C"
	CRC64NVME Algorithm = "CRC64NVME"
	SHA1      Algorithm = "SHA1"
	SHA256    Algorithm = "SHA256"
)

// Algorithms are all of them.
var Algorithms = []Algorithm{CRC32, CRC32C, CRC64NVME, SHA1, SHA256}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// nvme is the polynomial of CRC-64/NVME, bits reversed (NVM Command Set
	// Specification 1.0, 5.2.1.3.4).
	nvme = crc64.MakeTable(0x9A6C9329AC4BC9B5)
)

// New returns the algorithm's hash, nil for an unknown one.
func (a Algorithm) New() hash.Hash {
	switch a {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(castagnoli)
	case CRC64NVME:
		return crc64.New(nvme)
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	}
	return nil
}

// Whole says whether the checksum of an object follows from those of its parts.
func (a Algorithm) Whole() bool { return a == CRC32 || a == CRC32C || a == CRC64NVME }

// polynomial is a CRC's, bits reversed.
func (a Algorithm) polynomial() uint64 {
	switch a {
	case CRC32:
		return crc32.IEEE
	case CRC32C:
		return crc32.Castagnoli
	}
	return 0x9A6C9329AC4BC9B5
}

// join is the CRC of two pieces one after the other, of which the second has n
// bytes: the first's, moved over n zero bytes, and the second's. The shift is a
// power of a matrix over GF(2), as zlib's crc32_combine does it.
func (a Algorithm) join(first, second uint64, n int64) uint64 {
	var shift [64]uint64 // by one bit: column i is where bit i goes
	shift[0] = a.polynomial()
	for i := 1; i < 64; i++ {
		shift[i] = 1 << (i - 1)
	}
	square := func(m *[64]uint64) (out [64]uint64) {
		for i := range m {
			out[i] = times(m, m[i])
		}
		return out
	}
	for range 3 { // to a byte
		shift = square(&shift)
	}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			first = times(&shift, first)
		}
		shift = square(&shift)
	}
	return first ^ second
}

func times(m *[64]uint64, v uint64) (out uint64) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 == 1 {
			out ^= m[i]
		}
	}
	return out
}

// number is a CRC's value in base64 as a number, and text the reverse.
func number(sum string) (uint64, error) {
	b, err := base64.StdEncoding.DecodeString(sum)
	switch {
	case err == nil && len(b) == 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	case err == nil && len(b) == 8:
		return binary.BigEndian.Uint64(b), nil
	}
	return 0, fmt.Errorf("%.40q is no CRC in base64", sum)
}

func (a Algorithm) text(v uint64) string {
	b := binary.BigEndian.AppendUint64(nil, v)
	if a != CRC64NVME {
		b = b[4:]
	}
	return base64.StdEncoding.EncodeToString(b)
}

// CheckSum says whether text is a checksum of the algorithm, in base64.
func (a Algorithm) CheckSum(text string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == a.New().Size()
}

// sums are the checksums of what is written.
type sums struct {
	md5   hash.Hash
	crc64 hash.Hash
	asked map[Algorithm]hash.Hash
}

func newSums(asked []Algorithm) *sums {
	s := &sums{md5: md5.New(), crc64: crc64.New(nvme), asked: map[Algorithm]hash.Hash{}}
	for _, a := range asked {
		if h := a.New(); h != nil && a != CRC64NVME {
			s.asked[a] = h
		}
	}
	return s
}

func (s *sums) write(p []byte) {
	s.md5.Write(p)
	s.crc64.Write(p)
	for _, h := range s.asked {
		h.Write(p)
	}
}

// all are those in base64.
func (s *sums) all() map[Algorithm]string {
	out := map[Algorithm]string{CRC64NVME: base64.StdEncoding.EncodeToString(s.crc64.Sum(nil))}
	for a, h := range s.asked {
		out[a] = base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return out
}

// composite is the checksum of the checksums of parts, with their number.
func (a Algorithm) composite(parts []string) (string, error) {
	h := a.New()
	for _, p := range parts {
		b, err := base64.StdEncoding.DecodeString(p)
		if err != nil {
			return "", err
		}
		h.Write(b)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), nil
}

// Composite says whether a checksum is one of parts' checksums.
func Composite(sum string) bool { return strings.Contains(sum, "-") }
