package faults

import (
	"context"
	"sync"
	"time"
)

// A way is what a gate does to a request.
type way int

const (
	pass      way = iota
	away          // the connection is reset, and nothing reaches the target
	slow          // the answer comes late
	half          // of a batch each second part is refused, and does not reach the target
	busy          // 503; a database: too many connections
	throttled     // 429
	refused       // 400; a database: a wrong value
	garbage       // done, and answered with bytes that are no answer
	lost          // done, and the connection is reset in the place of the answer
	silent        // done, and never answered
	before        // held, not done, until the bridge is killed
	after         // held, done, until the bridge is killed
)

// A fault is a column of the table.
type fault struct {
	name  string
	way   way
	times int  // how many requests of each row meet it; then all is well
	short bool // it is in the gate, too
	final bool // what meets it may be given up and kept; after any other all is delivered
}

// lateBy is how late an answer is that comes late.
const lateBy = 400 * time.Millisecond

// Columns that not every row has. In window the target is away for longer than its
// retry window; what was kept is then driven again.
const (
	halfTaken = "half taken"
	noAnswer  = "no answer"
	window    = "longer than the window"
)

var faults = []fault{
	{"stopped", away, 3, false, false},
	{"slow", slow, -1, false, false},
	{halfTaken, half, 2, true, false},
	{"503", busy, 3, false, false},
	{"429", throttled, 3, false, false},
	{"400", refused, 2, false, true},
	{"garbage", garbage, 2, true, false},
	{"answer lost", lost, 2, true, false},
	{noAnswer, silent, 1, false, false},
	{"killed before", before, 1, false, false},
	{"killed after", after, 1, true, false},
	{window, busy, -1, false, true},
}

// A meter decides which requests of a row meet a fault. Several goroutines use it.
type meter struct {
	mu   sync.Mutex
	way  way
	left int
	met  int           // requests that met the fault
	held int           // of them, those that are being held or were
	over chan struct{} // closed when those that are held go on
}

// set puts a fault on. Requests that are held go on.
func (m *meter) set(w way, times int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over != nil {
		close(m.over)
	}
	m.way, m.left, m.met, m.held, m.over = w, times, 0, 0, make(chan struct{})
}

// now is what a request is to meet if it is met.
func (m *meter) now() way {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return pass
	}
	return m.way
}

// meet is now, and counts.
func (m *meter) meet() way {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 || m.way == pass {
		return pass
	}
	m.left--
	m.met++
	return m.way
}

// hold waits until another fault is set, or ctx ends.
func (m *meter) hold(ctx context.Context) {
	m.mu.Lock()
	over := m.over
	m.held++
	m.mu.Unlock()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// counts are how many requests met the fault, and how many were held.
func (m *meter) counts() (met, held int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.met, m.held
}
