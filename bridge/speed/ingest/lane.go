package ingest

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// A laneKey names a sequence of batches. Sequence numbers are counted per
// spool, and the thing comes from the connection. The boot is there since a
// spool may forget: a card that loses what it said was synced, or an older
// copy of the file put back, numbers new batches as the last boot did its own.
type laneKey struct {
	thing       string
	spool, boot [16]byte
}

// A lane decides for one (thing, spool, boot) which batches are new.
type lane struct {
	key  laneKey
	refs int // guarded by lanes.mu: who works with it, and batches in flight

	// order is held from the decision until the batch is queued, so that
	// batches are queued in the order they were decided. The committer's
	// answers take only mu: a publisher who waits for room in the queue holds
	// order, and room is made by answers.
	order  sync.Mutex
	listed bool // it has a mark, or room was made for it; guarded by order

	mu      sync.Mutex
	loaded  bool
	durable uint64 // highest sequence stored and synced
	flights []*flight
	failed  map[uint64]bool // below durable or a flight, but not stored
}

// A flight is a batch that is queued but not yet synced.
type flight struct {
	seq    uint64
	copies []func(error) // of copies that came meanwhile
}

type verdict int

const (
	isNew   verdict = iota
	isKnown         // stored and synced
	isCopy          // of a batch in flight; its done was taken
)

// decide says what to do with sequence seq; order is held. When it is new, mark is the
// high-water mark to store with it and the flight must be ended by land. When
// it is a copy of one in flight, done is called with that one's outcome.
func (l *lane) decide(store Log, seq uint64, done func(error)) (v verdict, f *flight, mark uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loaded {
		b, err := store.Get(l.key.markKey())
		if err != nil {
			return 0, nil, 0, err
		}
		if b != nil {
			if len(b) != markLen {
				return 0, nil, 0, fmt.Errorf("ingest: mark of %s is %d bytes", l.key.thing, len(b))
			}
			l.durable = binary.BigEndian.Uint64(b)
			l.listed = true
		}
		l.loaded = true
	}
	mark = max(l.durable, seq)
	for _, f := range l.flights {
		if f.seq == seq {
			f.copies = append(f.copies, done)
			return isCopy, nil, 0, nil
		}
		mark = max(mark, f.seq)
	}
	if seq <= l.durable && !l.failed[seq] {
		return isKnown, nil, 0, nil
	}
	// Above durable and not in flight: new, also when a later one overtook it
	// and isn't synced yet.
	delete(l.failed, seq)
	f = &flight{seq: seq}
	l.flights = append(l.flights, f)
	return isNew, f, mark, nil
}

// land ends a flight with its outcome and returns the dones of its copies.
func (l *lane) land(f *flight, err error) []func(error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep, highest := l.flights[:0], l.durable
	for _, g := range l.flights {
		if g != f {
			keep = append(keep, g)
			highest = max(highest, g.seq)
		}
	}
	clear(l.flights[len(keep):])
	l.flights = keep
	switch {
	case err == nil:
		l.durable = max(l.durable, f.seq)
	case f.seq <= highest:
		// A later batch is or will be stored with a mark above this one. A crash
		// before it comes again would lose it; but the store either fails for
		// good, or fails a batch alone for a stream that is gone or a record of
		// 10 MiB, and none of ours is.
		if l.failed == nil {
			l.failed = map[uint64]bool{}
		}
		l.failed[f.seq] = true
	}
	return f.copies
}

// lanes keeps lanes in memory, about max of them. Those that are in use stay
// whatever happens: a second copy of one would decide on its own.
type lanes struct {
	max int

	mu   sync.Mutex
	hot  map[laneKey]*lane // used since the last turn
	cold map[laneKey]*lane // used in the turn before
}

// get returns a lane with one more reference.
func (ls *lanes) get(k laneKey) *lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.hot[k]
	if l == nil {
		if l = ls.cold[k]; l != nil {
			delete(ls.cold, k)
		} else {
			l = &lane{key: k}
		}
		ls.turn()
		ls.hot[k] = l
	}
	l.refs++
	return l
}

// turn forgets the cold lanes when there are enough hot ones.
func (ls *lanes) turn() {
	if len(ls.hot) < max(1, ls.max/2) {
		return
	}
	used := make(map[laneKey]*lane)
	for k, l := range ls.cold {
		// What failed is known only here.
		if l.refs > 0 || len(l.failed) > 0 {
			used[k] = l
		}
	}
	ls.cold, ls.hot = ls.hot, used
}

func (ls *lanes) put(l *lane) {
	ls.mu.Lock()
	l.refs--
	ls.mu.Unlock()
}
