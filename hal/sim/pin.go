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
	born  time.Time // begin of the inputs' clock

	mu     sync.Mutex // guards all below
	hold   *bool
	output *output
	latch  *bool // what a closed output left behind, until an input is opened
	drive  *bool
	pull   hal.Pull
	level  bool
	inputs map[*input]struct{}
	watch  func(high bool) // the chip behind the pin; called with mu held
}

// maxEdges is how many edges an input keeps for whoever waits for them, as
// the kernel does for one line at its default (gpiolib-cdev.c has 16 for each line).
const maxEdges = 1024

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
	if p.level == old {
		return
	}
	if p.watch != nil {
		p.watch(p.level)
	}
	if !p.edges {
		return
	}
	e := hal.Edge{High: p.level, At: time.Since(p.born)}
	for in := range p.inputs {
		if in.poll > 0 {
			continue
		}
		if len(in.pending) == maxEdges {
			in.pending, in.lost = in.pending[1:], in.lost+1
		}
		in.pending = append(in.pending, e)
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

	seen   bool // at the last look; one goroutine at a time waits
	missed int  // lost edges that WaitForEdge has yet to tell

	pending []hal.Edge // not yet told; guarded by pin.mu
	lost    int        // edges before pending that had no room; guarded by pin.mu
}

var _ hal.EdgeInput = (*input)(nil)

func (in *input) Read() (bool, error) {
	select {
	case <-in.done:
		return false, fmt.Errorf("%s: %w", in.pin.name, os.ErrClosed)
	default:
		return in.pin.Level(), nil
	}
}

func (in *input) WaitForEdge(timeout time.Duration) bool {
	if in.missed > 0 {
		in.missed--
		return true
	}
	e, ok := in.NextEdge(timeout)
	in.missed = e.Lost
	return ok
}

func (in *input) NextEdge(timeout time.Duration) (hal.Edge, bool) {
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
		if e, ok := in.take(); ok {
			return e, true
		}
		select {
		case <-in.wake:
		case <-look:
		case <-end:
			return in.take()
		case <-in.done:
			return hal.Edge{}, false
		}
	}
}

func (in *input) Now() time.Duration { return time.Since(in.pin.born) }

// take uses up one edge, if there is one.
func (in *input) take() (hal.Edge, bool) {
	in.pin.mu.Lock()
	defer in.pin.mu.Unlock()
	if in.poll > 0 {
		changed := in.pin.level != in.seen
		in.seen = in.pin.level
		return hal.Edge{High: in.seen, At: in.Now()}, changed
	}
	if len(in.pending) == 0 {
		return hal.Edge{}, false
	}
	e := in.pending[0]
	e.Lost, in.lost = in.lost, 0
	in.pending = in.pending[1:]
	return e, true
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
