package sensor

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
)

// calls runs the calls of one sensor that can hang in the kernel, each in a
// goroutine of its own that its caller leaves behind at ctx's end. There is never
// more than one: until it ends, do says ErrBusy.
type calls struct {
	release func() error // gives back what the calls use

	mu      sync.Mutex // guards all below
	running bool
	closed  bool
}

// do runs f and returns what it returns, or ctx's error at ctx's end. f's results
// may be looked at only if do returns nil, since f may still run. f should end
// soon after ctx; a panic in it is an error.
func (c *calls) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	closed, running := c.closed, c.running
	c.running = running || !closed
	c.mu.Unlock()
	switch {
	case closed:
		return os.ErrClosed
	case running:
		return ErrBusy
	}
	done := make(chan error, 1)
	go func() {
		err := shielded(f)
		c.mu.Lock()
		c.running = false
		if c.closed {
			_ = c.release() // close left it to us, and no caller waits for an error
		}
		c.mu.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shielded runs f and makes an error of its panic: one driver's mistake must not
// end the agent.
func shielded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the driver panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// close releases, or leaves that to a call that still hangs. It never waits.
func (c *calls) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.running {
		return nil
	}
	return c.release()
}
