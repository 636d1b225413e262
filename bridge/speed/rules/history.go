package rules

import (
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// Bounds of what is kept of messages, our choice. An entry takes 88 bytes, 64
// more for each action and up to maxReason for each failure: with one action
// 10 MB for all rules, and 12 MB for 10,000.
const (
	keepPerRule = 64    // entries of one rule, at most
	keepInAll   = 65536 // entries of all rules, unless that leaves fewer than keepAtLeast to each
	keepAtLeast = 8
	keepPerTurn = 8 // entries of one result that one group of messages adds to a rule
	maxReason   = 200
)

// A result is what a rule made of a message.
type result uint8

const (
	resultFired  result = iota
	resultFailed        // evaluation, or an action
	resultUnmet         // WHERE did not hold
	results
)

func (r result) String() string { return [...]string{"fired", "failed", "where false"}[r] }

// A history keeps the newest messages that reached a rule: where they are in
// the log, and what came of them. Each result has a ring of its own, so that
// what is frequent does not push out what is rare: half of the room is for
// messages that fired, a quarter each for failures and for those whose WHERE
// did not hold. Under load it keeps the first few of each group of messages.
type history struct {
	mu    sync.Mutex // guards what follows
	most  int        // entries, of all rings
	rings [results]ring
	early []attempt // at deliveries of messages that are not kept, perhaps not yet
}

// A ring is a bounded queue of entries; it grows up to its bound.
type ring struct {
	entries []entry
	oldest  int
}

// An entry is one message that reached a rule.
type entry struct {
	rule   *Rule // as it was then
	trace  message.Trace
	shard  int
	offset uint64
	time   int64 // arrival, epoch ms
	reason string
	acts   []act // by slot, the error action's last; none if WHERE did not hold
}

// An act is what came of one action.
type act struct {
	state  actState
	tries  uint32
	shard  int32 // of stream
	record int32 // index in the batch, until that is committed; -1: there was nothing to do
	offset uint64
	at     int64  // last attempt, epoch ms
	stream string // that it was committed to
	reason string // of the last failure
}

type actState uint8

const (
	actNone      actState = iota // it did not run
	actRefused                   // it could not be had
	actCommitted                 // to a stream
	actWaiting                   // in its outbox
	actDelivered
	actGivenUp
)

// room is how many entries a result may have of most.
func (r result) room(most int) int {
	if r == resultFired {
		return most / 2
	}
	return most / 4
}

// limit sets the bound, dropping the oldest entries beyond it.
func (h *history) limit(most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.most = most
	for r := range results {
		g := &h.rings[r]
		if over := len(g.entries) - r.room(most); over > 0 {
			kept := make([]entry, 0, r.room(most))
			for i := over; i < len(g.entries); i++ {
				kept = append(kept, g.entries[(g.oldest+i)%len(g.entries)])
			}
			*g = ring{entries: kept}
		}
	}
}

func (h *history) add(r result, e entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.early {
		if t.trace == e.trace && e.tried(&t) && r == resultFired {
			r = resultFailed
		}
	}
	h.put(r, e)
}

// put is add with mu held.
func (h *history) put(r result, e entry) {
	g := &h.rings[r]
	switch room := r.room(h.most); {
	case room == 0:
	case len(g.entries) < room && g.oldest == 0:
		g.entries = append(g.entries, e)
	default:
		g.entries[g.oldest] = e
		g.oldest = (g.oldest + 1) % len(g.entries)
	}
}

// find calls f on an entry that is wanted, with mu held; f must not keep it.
func (h *history) find(want func(*entry) bool, f func(result, *entry)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seek(want, f)
}

// seek is find with mu held.
func (h *history) seek(want func(*entry) bool, f func(result, *entry)) bool {
	for r := range results {
		entries := h.rings[r].entries
		for i := range entries {
			if want(&entries[i]) {
				f(r, &entries[i])
				return true
			}
		}
	}
	return false
}

// remove takes out one of g's entries.
func (g *ring) remove(e *entry) {
	kept := make([]entry, 0, cap(g.entries))
	for i := range g.entries {
		if x := &g.entries[(g.oldest+i)%len(g.entries)]; x != e {
			kept = append(kept, *x)
		}
	}
	*g = ring{entries: kept}
}

// newest returns copies of the entries of the results.
func (h *history) newest(all ...result) []keptEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []keptEntry
	for _, r := range all {
		for _, e := range h.rings[r].entries {
			out = append(out, keptEntry{r, e.clone()})
		}
	}
	return out
}

func (h *history) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range results {
		if len(h.rings[r].entries) > 0 {
			return false
		}
	}
	return true
}

type keptEntry struct {
	result
	entry
}

func (e *entry) clone() entry {
	c := *e
	c.acts = append([]act(nil), e.acts...)
	return c
}

// short bounds a reason that is kept.
func short(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return s[:maxReason] + "…"
}
