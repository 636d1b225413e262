// Package quota counts what comes against how much may come in a second. A
// Bucket is for one who comes, an Each for all that have a name.
package quota

import (
	"sync"
	"time"
)

// A Bucket holds what may come at once, a second's worth at most. Its zero value
// is full. It is not safe for concurrent use.
type Bucket struct {
	left float64
	at   time.Time // zero: never used
}

// Take takes n out of a bucket that is filled at rate a second, and returns how
// long to wait until it is not overdrawn. A rate of 0 is none.
func (b *Bucket) Take(now time.Time, n, rate int) time.Duration {
	if rate == 0 {
		return 0
	}
	if b.at.IsZero() {
		b.left = float64(rate)
	} else {
		b.left = min(float64(rate), b.left+now.Sub(b.at).Seconds()*float64(rate))
	}
	b.at = now
	b.left -= float64(n)
	return max(0, time.Duration(-b.left/float64(rate)*float64(time.Second)))
}

// Each has two buckets for each name: of what comes and of its bytes. Those that
// are full are forgotten, so that it is as large as what comes in a second.
// Several goroutines may use it.
type Each struct {
	rate, bytes int

	mu      sync.Mutex
	buckets map[string]*pair
	sweepAt int // buckets at which the full ones are looked for
}

type pair struct{ count, bytes Bucket }

func (p *pair) take(now time.Time, e *Each, n, bytes int) time.Duration {
	return max(p.count.Take(now, n, e.rate), p.bytes.Take(now, bytes, e.bytes))
}

// NewEach returns an Each whose buckets are filled at rate and bytes a second; 0:
// whatever comes may.
func NewEach(rate, bytes int) *Each {
	return &Each{rate: rate, bytes: bytes, buckets: map[string]*pair{}, sweepAt: minSweep}
}

const minSweep = 1024

// Take takes n and bytes from a name's buckets and returns how long to wait until
// neither is overdrawn.
func (e *Each) Take(name string, now time.Time, n, bytes int) time.Duration {
	if e.rate == 0 && e.bytes == 0 {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.buckets[name]
	if p == nil {
		if n == 0 && bytes == 0 {
			return 0
		}
		if len(e.buckets) >= e.sweepAt {
			e.sweep(now)
		}
		p = &pair{}
		e.buckets[name] = p
	}
	return p.take(now, e, n, bytes)
}

func (e *Each) sweep(now time.Time) {
	for name, p := range e.buckets {
		if p.take(now, e, 0, 0); p.count.left >= float64(e.rate) && p.bytes.left >= float64(e.bytes) {
			delete(e.buckets, name)
		}
	}
	e.sweepAt = max(minSweep, 2*len(e.buckets))
}
