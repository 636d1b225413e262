package kinesis

import "sync"

// calls counts the calls of operations where limits are emulated.
type calls struct {
	mu      sync.Mutex
	windows map[string]*window
}

// rate says whether an operation may be called now: so many times a second,
// over all streams (API reference, each operation's own).
func (a API) rate(op string, perSecond int) error {
	if !a.s.opts.Emulate {
		return nil
	}
	c := &a.s.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.windows[op]
	if w == nil {
		w = &window{}
		if c.windows == nil {
			c.windows = map[string]*window{}
		}
		c.windows[op] = w
	}
	w.roll(a.s.now(), perSecond, 1)
	if w.count >= perSecond {
		return errorf(LimitExceeded, "Rate exceeded for %s under account %s.", op, a.s.opts.Account)
	}
	w.count++
	return nil
}
