package wire

import (
	"maps"
	"time"
)

// An Outcome is an operation, "" where a request named none that is served, and
// the error code it was answered with, or OK.
type Outcome struct{ Operation, Code string }

// A Count is how often there was an outcome, and how long that took in all.
type Count struct {
	Requests uint64
	Time     time.Duration
}

func (h *Handler) count(o Outcome, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.stats[o]
	h.stats[o] = Count{c.Requests + 1, c.Time + took}
}

// Stats returns what has been answered. There are no more outcomes than
// operations times error codes.
func (h *Handler) Stats() map[Outcome]Count {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.stats)
}

// Subscriptions is how many streams of events are under way.
func (h *Handler) Subscriptions() (n int) {
	for _, p := range h.streams {
		n += int(p.inUse())
	}
	return n
}
