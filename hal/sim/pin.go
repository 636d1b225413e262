package sim

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A Pin is a simulated line. What it reads is, in this order: the level it is
// held at (Hold), that of the output open on it or closed last, that driven from
// outside (Drive), that of its pull, low. Several goroutines may use it.
type Pin struct {
	name  string
	edges bool

	mu     sync.Mutex // guards all below
	hold   *bool
	output *output
	latch  *bool // what a closed output left behind, until an input is opened
	drive  *bool
	pull   hal.Pull
	level  bool
	inputs map[*input]struct{}
}

// Drive puts a level on the pin from outside, as a switch does.
func (p *Pin) Drive(high bool) { p.change(func() { p.drive = &high }) }

// Float ends Drive: the pull decides.
func (p *Pin) Float() { p.change(func() { p.drive = nil }) }

// Hold keeps the pin at a level whatever drives it: a short circuit. An output
// then reads back what it did not set.
func (p *Pin) Hold(high bool) { p.change(func() { p.hold = &high }) }

// Unhold ends Hold.
func (p *Pin) Unhold() { p.change(func() { p.hold = nil }) }

// Level is what the pin reads.
func (p *Pin) Level() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.level
}

// change applies f and tells the inputs if the level moved.
func (p *Pin) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.settle()
}

// settle finds the level that all drivers together make; p.mu is held.
func (p *Pin) settle() {
	old := p.level
	switch {
	case p.hold != nil:
		p.level = *p.hold
	case p.output != nil:
		p.level = p.output.high
	case p.latch != nil:
		p.level = *p.latch
	case p.drive != nil:
		p.level = *p.drive
	default:
		p.level = p.pull == hal.PullUp
	}
	if p.level == old || !p.edges {
		return
	}
	for in := range p.inputs {
		if in.poll > 0 {
			continue
		}
		in.pending++
		select {
		case in.wake <- struct{}{}:
		default:
		}
	}
}

func (p *Pin) openInput(o hal.InputOptions) (hal.DigitalInput, error) {
	in := &input{pin: p, poll: o.Poll, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if in.poll == 0 && !p.edges {
		in.poll = 10 * time.Millisecond
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.output != nil {
		return nil, fmt.Errorf("%s: in use as an output", p.name)
	}
	p.latch = nil
	if o.Pull != hal.PullAsIs {
		p.pull = o.Pull
	}
	p.settle()
	in.seen = p.level
	p.inputs[in] = struct{}{}
	return in, nil
}

// openOutput takes the pin over at initial, nil for the level it has.
func (p *Pin) openOutput(initial *bool) (hal.DigitalOutput, error) {
	o := &output{pin: p}
	var err error
	p.change(func() {
		if p.output != nil || len(p.inputs) > 0 {
			err = fmt.Errorf("%s: in use", p.name)
			return
		}
		o.high = p.level
		if initial != nil {
			o.high = *initial
		}
		p.output = o
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

type input struct {
	pin  *Pin
	poll time.Duration // 0: by edges
	wake chan struct{}
	done chan struct{}
	once sync.Once

	seen    bool // at the last look; one goroutine at a time waits
	pending int  // edges not yet told; guarded by pin.mu
}

func (in *input) Read() (bool, error) {
	select {
	case <-in.done:
		return false, fmt.Errorf("%s: %w", in.pin.name, os.ErrClosed)
	default:
		return in.pin.Level(), nil
	}
}

func (in *input) WaitForEdge(timeout time.Duration) bool {
	var end <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		end = t.C
	}
	var look <-chan time.Time
	if in.poll > 0 {
		t := time.NewTicker(in.poll)
		defer t.Stop()
		look = t.C
	}
	for {
		if in.take() {
			return true
		}
		select {
		case <-in.wake:
		case <-look:
		case <-end:
			return in.take()
		case <-in.done:
			return false
		}
	}
}

// take uses up one edge, if there is one.
func (in *input) take() bool {
	in.pin.mu.Lock()
	defer in.pin.mu.Unlock()
	if in.poll > 0 {
		changed := in.pin.level != in.seen
		in.seen = in.pin.level
		return changed
	}
	if in.pending == 0 {
		return false
	}
	in.pending--
	return true
}

func (in *input) Close() error {
	in.once.Do(func() {
		close(in.done)
		in.pin.mu.Lock()
		defer in.pin.mu.Unlock()
		delete(in.pin.inputs, in)
	})
	return nil
}

type output struct {
	pin    *Pin
	high   bool // guarded by pin.mu
	closed bool // guarded by pin.mu
}

func (o *output) Set(high bool) error {
	var err error
	o.pin.change(func() {
		if o.closed {
			err = fmt.Errorf("%s: %w", o.pin.name, os.ErrClosed)
			return
		}
		o.high = high
	})
	return err
}

func (o *output) Get() (bool, error) {
	o.pin.mu.Lock()
	defer o.pin.mu.Unlock()
	if o.closed {
		return false, fmt.Errorf("%s: %w", o.pin.name, os.ErrClosed)
	}
	return o.pin.level, nil
}

func (o *output) Close() error {
	o.pin.change(func() {
		if !o.closed {
			o.closed, o.pin.output, o.pin.latch = true, nil, &o.high
		}
	})
	return nil
}
