package kinesis

import (
	"sync"
	"time"
)

// What a shard takes and gives in a second (developer guide, quotas and
// limits), and a consumer of its own gets.
const (
	putBytes    = 1 << 20
	putRecords  = 1000
	getBytes    = 2 << 20
	getCalls    = 5
	newIterator = 5
	fanOutBytes = 2 << 20
)

// limits of one shard where they are enforced.
type limits struct {
	mu                  sync.Mutex
	put, get, iterators window
}

// A window is the second in which things are counted. It begins with the first
// of them; what is over the limit is a debt to the seconds that follow.
type window struct {
	start        time.Time
	count, bytes int
}

// roll moves on to the second that now is in.
func (w *window) roll(now time.Time, maxCount, maxBytes int) {
	n := int(min(now.Sub(w.start)/time.Second, 1<<20))
	if n > 0 {
		w.start = w.start.Add(time.Duration(n) * time.Second)
		w.count = max(0, w.count-n*maxCount)
		w.bytes = max(0, w.bytes-n*maxBytes)
	}
	if w.count == 0 && w.bytes == 0 {
		w.start = now
	}
}

// admit says whether a shard takes a record of size bytes now, and counts it.
// A record that is larger than a second's worth is taken when nothing was
// before.
func (l *limits) admit(now time.Time, size int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.put
	w.roll(now, putRecords, putBytes)
	if w.count >= putRecords || w.bytes+size > putBytes && w.bytes > 0 {
		return false
	}
	w.count++
	w.bytes += size
	return true
}

// ask says whether a shard may be read now, and counts the call.
func (l *limits) ask(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.get
	w.roll(now, getCalls, getBytes)
	if w.count >= getCalls || w.bytes >= getBytes {
		return false
	}
	w.count++
	return true
}

// iterate says whether a shard gives an iterator now, and counts the call.
func (l *limits) iterate(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.iterators
	w.roll(now, newIterator, 1)
	if w.count >= newIterator {
		return false
	}
	w.count++
	return true
}

// gave counts what was read: 10 MiB block the shard for five seconds.
func (l *limits) gave(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.get.bytes += size
}

func (a API) rateExceeded(src *source, shard string) *Error {
	return errorf(ThroughputExceeded, "Rate exceeded for shard %s in stream %s under account %s.", shard, src.name,
		a.s.opts.Account)
}
