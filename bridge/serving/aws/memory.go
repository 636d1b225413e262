package aws

import (
	"context"
	"sync"
)

// maxBuffer is how large one may be to be kept, in bytes.
const maxBuffer = 1 << 20

// buffers are for answers.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// A memory is a number of bytes that requests share. Who wants more than is
// left waits for its turn, in order.
type memory struct {
	mu      sync.Mutex // guards all below
	left    int64
	waiting []*waiter
}

// A waiter wants n bytes; ready is closed when it has them.
type waiter struct {
	n     int64
	ready chan struct{}
}

func newMemory(size int64) *memory { return &memory{left: size} }

// acquire takes n bytes, waiting until ctx ends.
func (m *memory) acquire(ctx context.Context, n int64) error {
	m.mu.Lock()
	if len(m.waiting) == 0 && n <= m.left {
		m.left -= n
		m.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-w.ready: // at the same moment
		m.left += n
	default:
		for i := range m.waiting {
			if m.waiting[i] == w {
				m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
				break
			}
		}
	}
	m.serve()
	return ctx.Err()
}

// release gives n bytes back.
func (m *memory) release(n int64) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left += n
	m.serve()
}

// serve lets those go on who have their turn. m.mu is held.
func (m *memory) serve() {
	for len(m.waiting) > 0 && m.waiting[0].n <= m.left {
		w := m.waiting[0]
		m.waiting = m.waiting[1:]
		m.left -= w.n
		close(w.ready)
	}
}
