package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHops  = 65_536
	hopsTime = 10 * time.Minute
)

// hops remembers how often what rules republished was republished already.
type hops struct {
	any atomic.Bool // there is something to know

	mu        sync.Mutex
	hot, cold map[mark]uint8
	turned    time.Time
}

// A mark is a hash of topic and payload.
type mark [16]byte

func markOf(topic string, payload []byte) (m mark) {
	b := binary.AppendUvarint(nil, uint64(len(topic)))
	h := sha256.New()
	h.Write(append(b, topic...))
	h.Write(payload)
	copy(m[:], h.Sum(nil))
	return m
}

// note is what a bridge tells the others.
func note(m mark, n uint8) []byte { return append(m[:], n) }

func (h *hops) hear(b []byte) {
	if len(b) == len(mark{})+1 {
		h.remember(mark(b[:len(mark{})]), b[len(mark{})])
	}
}

func (h *hops) remember(m mark, n uint8) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.hot == nil || len(h.hot) >= maxHops/2 || now.Sub(h.turned) > hopsTime/2 {
		h.cold, h.hot, h.turned = h.hot, make(map[mark]uint8), now
	}
	h.hot[m] = n
	h.any.Store(true)
}

func (h *hops) of(topic string, payload []byte) uint8 {
	if !h.any.Load() {
		return 0
	}
	m := markOf(topic, payload)
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.hot[m]; ok {
		return n
	}
	return h.cold[m]
}
