// Package notice has what happens often logged seldom: at once when it begins,
// then once in a while with how often it happened meanwhile, and once more when it
// has stopped. So neither a fleet with a wrong setting nor a stranger fills the
// disk with lines, and none is missing that an operator wants.
package notice

import (
	"context"
	"sync"
	"time"
)

const (
	// every is how often the same is logged.
	every = time.Minute
	// maxKeys bounds what is remembered, 100 bytes and the key each. What is
	// beyond it is logged together.
	maxKeys = 1024
)

// A Log decides when to log. The zero Log is ready for use. Its methods may be
// called from several goroutines.
type Log struct {
	mu   sync.Mutex // guards what follows
	seen map[string]*episode
	rest episode // of keys for which there was no room
}

// An episode is a time in which something happens again and again.
type episode struct {
	loggedAt time.Time // last; zero: never
	count    uint64    // since then
	ended    bool      // and that was not logged
	words    func(count uint64)
}

// Happened notes that something happened that key names, such as an address and
// the kind of fault. words logs it, for the count given, which is 1 or more: at
// once if key was not logged for a minute, otherwise with the next that comes a
// minute later, or by Flush. The latest words of a key count. words must not call
// the Log.
func (l *Log) Happened(key string, words func(count uint64)) { l.note(key, 1, words) }

// HappenedTo is Happened for n, 1 or more, to which it happened at once.
func (l *Log) HappenedTo(key string, n uint64, words func(count uint64)) { l.note(key, n, words) }

// Ended notes that what key names has stopped. words logs that when those of
// Happened would log, unless it happens again before, and for the count of what was
// not logged yet, which may be 0. Who does not call it has only the count logged.
func (l *Log) Ended(key string, words func(count uint64)) { l.note(key, 0, words) }

// note is HappenedTo, and Ended for a count of 0.
func (l *Log) note(key string, count uint64, words func(count uint64)) {
	now := time.Now()
	l.mu.Lock()
	e := l.seen[key]
	if e == nil && len(l.seen) >= maxKeys {
		if count == 0 {
			l.mu.Unlock()
			return // it happened with the rest, which goes on
		}
		e = &l.rest
	}
	if e == nil {
		if l.seen == nil {
			l.seen = make(map[string]*episode)
		}
		e = new(episode)
		l.seen[key] = e
	}
	e.count += count
	e.ended = count == 0
	e.words = words
	n, ok := e.due(now)
	l.mu.Unlock()
	if ok {
		words(n)
	}
}

// due returns the count, and whether it is time to log it.
func (e *episode) due(now time.Time) (n uint64, ok bool) {
	if e.count == 0 && !e.ended || !e.loggedAt.IsZero() && now.Sub(e.loggedAt) < every {
		return 0, false
	}
	n, e.loggedAt, e.count, e.ended = e.count, now, 0, false
	return n, true
}

// Flush logs what was counted and not logged for a minute, and forgets what did
// not happen in one. It is to be called about once a minute.
func (l *Log) Flush() { l.flush(time.Now()) }

// Close logs everything that was counted and not logged.
func (l *Log) Close() { l.flush(time.Now().Add(every)) }

// Run calls Flush once a minute until ctx ends, and then Close.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer l.Close()
	for {
		select {
		case <-tick.C:
			l.Flush()
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Log) flush(now time.Time) {
	var all []func()
	l.mu.Lock()
	tell := func(e *episode) {
		if n, ok := e.due(now); ok {
			words := e.words
			all = append(all, func() { words(n) })
		}
	}
	for key, e := range l.seen {
		if e.count == 0 && !e.ended && now.Sub(e.loggedAt) >= every {
			delete(l.seen, key)
			continue
		}
		tell(e)
	}
	tell(&l.rest)
	l.mu.Unlock()
	for _, f := range all {
		f()
	}
}
