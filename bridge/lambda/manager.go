package lambda

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
)

// Options of a Manager.
type Options struct {
	Functions Functions
	Sandbox   *sandbox.Sandbox
	// Unsafe runs functions where the sandbox does not isolate them.
	Unsafe bool
	Region string
	// Runtime is the folder with the programs of package bootstrap.
	Runtime string
	// Environment are variables that all functions have beside their own.
	Environment map[string]string
	// Concurrency bounds calls at once, and processes; 0: 20.
	Concurrency int
	// Idle is how long a process without calls is kept; 0: 10 minutes.
	Idle time.Duration
	// Log opens what a function writes; nil: it is kept for the caller alone.
	Log func(function string) io.Writer
	// Outside is what functions may reach of the network; nil: nothing.
	Outside Dialer
	// Keys are those of functions' roles, and API answers what processes that have one
	// ask of the bridge at AWS_ENDPOINT_URL; nil: no function has one.
	Keys Keys
	API  http.Handler
	Slog *slog.Logger
}

// A Manager calls functions and has their processes. Its methods may be called from
// several goroutines.
type Manager struct {
	o            Options
	box          *sandbox.Sandbox
	interpreters interpreters
	log          *slog.Logger

	calls sync.WaitGroup // calls and processes that have not ended

	mu      sync.Mutex // guards what follows
	closed  bool
	pools   map[string]*pool // by function's name
	total   int              // processes
	running int              // calls of functions without reserved concurrency
	turn    uint64           // grows with each use of a process
	wake    chan struct{}    // closed when a process comes to be idle
}

// A pool is what there is of one function.
type pool struct {
	name      string
	running   int         // calls
	settling  int         // processes that have answered and not asked again yet
	instances []*instance // that have started, idle and busy
	stats     Stats
}

// Stats are counts of one function since the start.
type Stats struct {
	Invocations, Errors, Throttles, ColdStarts uint64
	Loops                                      uint64        // calls that were not made: ErrLoop
	Duration                                   time.Duration // of all calls together
	Concurrent, Processes                      int           // now
}

// New returns a manager of functions.
func New(o Options) *Manager {
	o.Concurrency = cmp.Or(o.Concurrency, 20)
	o.Idle = cmp.Or(o.Idle, 10*time.Minute)
	return &Manager{o: o, box: o.Sandbox, log: o.Slog, pools: map[string]*pool{}, wake: make(chan struct{})}
}

// Run ends processes that are idle for long, and when ctx ends all of them, and
// waits for that. Calls that are under way are cut off.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(min(m.o.Idle/2+1, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.end(m.idle(time.Now().Add(-m.o.Idle)))
			continue
		case <-ctx.Done():
		}
		m.mu.Lock()
		m.closed = true
		var all []*instance
		for _, p := range m.pools {
			all = append(all, p.instances...)
		}
		m.mu.Unlock()
		for _, i := range all {
			i.process.Kill()
		}
		m.calls.Wait()
		return nil
	}
}

// Isolated says whether functions are kept from the bridge's files and network, or
// run in spite of it.
func (m *Manager) Isolated() error {
	if !m.box.Means().Isolated() && !m.o.Unsafe {
		return ErrNotIsolated
	}
	return nil
}

// Invoke calls a function and waits for its answer. functionError is "Unhandled" if
// answer is the function's error object instead. err is that there is no call:
// ErrNotFound, ErrPayload, ErrTooLarge, a *ThrottledError, ctx's own, or a fault of
// the bridge's.
func (m *Manager) Invoke(ctx context.Context, function, qualifier string, payload []byte, requestID string) (
	answer []byte, functionError string, err error) {
	r, err := m.Call(ctx, Call{Function: function, Qualifier: qualifier, Payload: payload, RequestID: requestID})
	if err != nil {
		return nil, "", err
	}
	return r.Payload, r.Failed, nil
}

// Call is Invoke with all there is to say. When ctx ends, the call goes on without
// its caller.
func (m *Manager) Call(ctx context.Context, c Call) (*Result, error) {
	f, err := m.Check(&c)
	if err != nil {
		return nil, err
	}
	if c.RequestID == "" {
		c.RequestID = uuid.NewString()
	}
	if err := m.enter(f); err != nil {
		return nil, err
	}
	type outcome struct {
		result *Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		defer m.calls.Done()
		r, err := m.run(f, &c, func(r *Result) { done <- outcome{r, nil} })
		if r == nil {
			done <- outcome{nil, err}
		}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Check finds the function of a call, and says what would be wrong with it.
func (m *Manager) Check(c *Call) (*Function, error) {
	if err := m.Isolated(); err != nil {
		return nil, err
	}
	f, err := m.o.Functions.Function(c.Function, c.Qualifier)
	switch {
	case err != nil:
		return nil, err
	case c.Depth >= MaxDepth:
		m.mu.Lock()
		m.pool(f.Name).stats.Loops++
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: %s, after %d calls", ErrLoop, f.ARN, c.Depth)
	case len(c.Payload) > MaxPayload:
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, len(c.Payload), MaxPayload)
	case len(c.Payload) == 0:
		c.Payload = []byte("{}")
	case !json.Valid(c.Payload):
		return nil, ErrPayload
	}
	return f, nil
}

// enter counts one more call of f, or says why there cannot be one.
func (m *Manager) enter(f *Function) error {
	left := m.o.Concurrency - m.o.Functions.Reserved()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	p := m.pool(f.Name)
	switch {
	case f.Reserved >= 0 && p.running >= f.Reserved:
		p.stats.Throttles++
		return &ThrottledError{f.Name, ReasonReserved}
	case f.Reserved < 0 && m.running >= left:
		p.stats.Throttles++
		return &ThrottledError{f.Name, ReasonAll}
	}
	p.running++
	if f.Reserved < 0 {
		m.running++
	}
	m.calls.Add(1)
	return nil
}

func (m *Manager) leave(f *Function, took time.Duration, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pool(f.Name)
	p.running--
	if f.Reserved < 0 {
		m.running--
	}
	p.stats.Invocations++
	p.stats.Duration += took
	if failed {
		p.stats.Errors++
	}
}

// pool returns a function's; mu is held.
func (m *Manager) pool(name string) *pool {
	p := m.pools[name]
	if p == nil {
		p = &pool{name: name}
		m.pools[name] = p
	}
	return p
}

// Stats returns those of all functions that were called, by name.
func (m *Manager) Stats() map[string]Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]Stats{}
	for name, p := range m.pools {
		s := p.stats
		s.Concurrent, s.Processes = p.running, len(p.instances)
		all[name] = s
	}
	return all
}

// run is one call: a process is found or started, called and given back. answered
// is called with the result as soon as it is there; without one the error is
// returned.
func (m *Manager) run(f *Function, c *Call, answered func(*Result)) (*Result, error) {
	start := time.Now()
	failed := true
	defer func() { m.leave(f, time.Since(start), failed) }()
	i, err := m.take(f)
	if err != nil {
		return nil, err
	}
	if i == nil {
		if i, err = m.start(f); err != nil {
			if r := startError(err, f, c); r != nil {
				answered(r)
				return r, nil
			}
			return nil, err
		}
	}
	r, ok := i.call(c, func(r *Result) {
		failed = r.Failed != ""
		answered(r)
	}, func() { m.settle(i, true) })
	m.settled(i, ok)
	return r, nil
}
