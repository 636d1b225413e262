package sampler

import (
	"math/bits"
	"time"
)

// A Jitter says how long after their ticks a sensor's readings began, since it is
// configured.
type Jitter struct {
	Count          uint64
	Mean, P99, Max time.Duration // P99 is at most a quarter too large
}

// A histogram counts durations in buckets of a quarter of a power of two, from one
// microsecond to half an hour.
type histogram struct {
	count   uint64
	sum     time.Duration
	longest time.Duration
	buckets [buckets]uint32
}

const (
	perOctave = 4
	octaves   = 31 // 2^31 µs are 36 minutes
	buckets   = octaves * perOctave
)

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.count++
	h.sum += d
	h.longest = max(h.longest, d)
	h.buckets[bucket(d)]++
}

// bucket is the index of d: its highest bit, in microseconds, and the two below.
func bucket(d time.Duration) int {
	us := uint64(d.Microseconds())
	if us < perOctave {
		return int(us)
	}
	high := bits.Len64(us) - 1 // 2 or more
	return min((high-1)*perOctave+int(us>>(high-2)&(perOctave-1)), buckets-1)
}

// upper is the largest duration of a bucket.
func upper(i int) time.Duration {
	if i < perOctave {
		return time.Duration(i+1) * time.Microsecond
	}
	high, quarter := i/perOctave+1, i%perOctave
	return time.Duration((perOctave+quarter+1)<<(high-2)) * time.Microsecond
}

func (h *histogram) sumUp() Jitter {
	j := Jitter{Count: h.count, Max: h.longest}
	if h.count == 0 {
		return j
	}
	j.Mean = h.sum / time.Duration(h.count)
	want := h.count - h.count/100
	seen := uint64(0)
	for i, n := range h.buckets {
		if seen += uint64(n); seen >= want {
			j.P99 = min(upper(i), h.longest)
			break
		}
	}
	return j
}
