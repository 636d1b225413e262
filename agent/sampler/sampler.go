// Package sampler reads the sensors, each in its own goroutine at its own
// interval, and hands the readings to a Sink. A sensor that fails, panics or
// cannot be opened is tried again with growing pauses and never holds up the
// others. Actuators are set through it, so that one goroutine alone talks to
// a sensor.
//
// Ticks are multiples of the interval by the wall clock, and the phase after them:
// the sensors of a plant are read at the same time, and a late reading does not
// shift the next. Ticks missed are left out. README.md has the whole of it.
package sampler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A Spec says what to read and when. Specs with the same Name are the same
// sensor.
type Spec struct {
	Name   string
	Driver string
	Sampling
	Timeout time.Duration // of one reading and of opening; default Every, at most 10 s
	Options map[string]any
	// Bounds are by channel. A value outside is taken out of its reading and counted.
	Bounds map[string]Bounds
	// Limits are by channel of an actuator.
	Limits map[string]Limit
	Safe   Safe // of an actuator
}

// DefaultTimeout is the time limit of a reading of a sensor that has none of its own.
func DefaultTimeout(every time.Duration) time.Duration { return min(every, 10*time.Second) }

// same says whether an open sensor can go on under o, but for its sampling.
func (sp *Spec) same(o *Spec) bool {
	return sp.Driver == o.Driver && reflect.DeepEqual(sp.Options, o.Options) && maps.Equal(sp.Bounds, o.Bounds) &&
		maps.Equal(sp.Limits, o.Limits) && maps.Equal(sp.Safe.Values, o.Safe.Values) && sp.Safe.Held == o.Safe.Held
}

// A Sink takes readings. It must not block for long. at has a monotonic reading
// where the time of a tick or a push does; the slices are the sink's to read until it
// returns.
type Sink interface {
	Append(sensor string, chs []hal.Channel, at time.Time, vals []hal.Value) error
}

// Options of a Sampler.
type Options struct {
	Open func(ctx context.Context, s Spec) (hal.Sensor, error)
	Sink Sink
	// Changed is called after a sensor's sampling, level or state changed, but for states
	// that change all the time: then every ten minutes. It must not block; may be nil.
	Changed func(name string)
	// Kind names what a driver's error is, "" for none that it knows; nil: none.
	Kind func(error) string
	// Recover frees the bus of a sensor, if it has one and its last try was long
	// enough ago, and says whether it did. bus is its name, "" if no error named
	// it. nil: no bus can be freed.
	Recover func(ctx context.Context, s Spec, bus string) bool
	Log     *slog.Logger
}

// errUnknown is a sensor that there is none of.
var errUnknown = errors.New("sampler: no such sensor")

// A Sampler is made by New and works in Run. Its methods may be called from
// any goroutine, before and during Run.
type Sampler struct {
	o Options

	setting sync.Mutex // held by Set all the time; guards leaving
	leaving []*runner  // that were told to end, and did not in time

	mu      sync.Mutex // guards the rest; never held over calls to a driver
	runners map[string]*runner
	ctx     context.Context // of Run, to start runners added later; nil before and after
	wg      sync.WaitGroup
}

// New starts nothing.
func New(o Options) *Sampler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Sampler{o: o, runners: map[string]*runner{}}
}

// Set makes specs the sensors to read: what is new is opened, what is gone is
// closed, what only has another interval goes on. It waits for the sensors that end, at
// most for the longest of their timeouts and three seconds; one that does not end by then
// is not opened again before it has.
func (s *Sampler) Set(specs []Spec) {
	s.setting.Lock()
	defer s.setting.Unlock()
	want := map[string]Spec{}
	for _, sp := range specs {
		if sp.Timeout <= 0 {
			sp.Timeout = DefaultTimeout(sp.Every)
		}
		want[sp.Name] = sp
	}
	var gone []*runner
	var patience time.Duration
	s.mu.Lock()
	for name, r := range s.runners {
		sp, stays := want[name]
		if stays && sp.same(&r.spec) {
			r.retime(sp.Sampling, sp.Timeout)
			delete(want, name)
			continue
		}
		delete(s.runners, name)
		if r.cancel != nil { // it was started
			r.cancel()
			gone, patience = append(gone, r), max(patience, r.endFor())
		}
	}
	s.mu.Unlock()
	s.await(gone, patience)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sp := range want {
		r := newRunner(s, sp)
		for _, old := range s.leaving {
			alike := old.spec.Driver == sp.Driver && reflect.DeepEqual(old.spec.Options, sp.Options)
			if old.spec.Name == name || alike {
				r.before = append(r.before, old)
			}
		}
		s.runners[name] = r
		s.start(r)
	}
}

// await waits for runners that end, and notes which of all did not. setting is held.
func (s *Sampler) await(gone []*runner, patience time.Duration) {
	over := time.NewTimer(patience)
	defer over.Stop()
	late := false
	for _, r := range gone {
		if late { // a look is left
			continue
		}
		select {
		case <-r.done:
		case <-over.C:
			late = true
		}
	}
	s.leaving = slices.DeleteFunc(append(s.leaving, gone...), (*runner).ended)
	for _, r := range s.leaving {
		r.log.Error("a sensor that was removed does not stop")
	}
}

// start needs mu.
func (s *Sampler) start(r *runner) {
	if s.ctx == nil || r.cancel != nil {
		return
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(s.ctx)
	s.wg.Go(func() {
		defer close(r.done)
		r.run(ctx)
	})
}

// patience is how long Run waits for drivers that do not return.
const patience = 5 * time.Second

// Run reads until ctx is done and returns nil when all sensors are closed; an
// error names those that do not return.
func (s *Sampler) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, r := range s.runners {
		s.start(r)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(patience):
		var stuck []string
		for _, st := range s.Status() {
			if st.Hangs || st.Open {
				stuck = append(stuck, st.Name)
			}
		}
		return fmt.Errorf("sampler: %s did not stop within %v", strings.Join(stuck, ", "), patience)
	}
}

func (s *Sampler) find(name string) (*runner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runners[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", errUnknown, name)
	}
	return r, nil
}

// SetSampling changes how a sensor is read from now on.
func (s *Sampler) SetSampling(name string, to Sampling) error {
	r, err := s.find(name)
	if err != nil {
		return err
	}
	if to.Every <= 0 {
		return fmt.Errorf("sampler: %s: interval %v, want more than 0", name, to.Every)
	}
	r.retime(to, 0)
	return nil
}

// Hold sets an actuator's outputs to what is safe and keeps them there, or lets them be
// set again. It does not wait. Sensors without Safe values are not held.
func (s *Sampler) Hold(name string, held bool) error {
	r, err := s.find(name)
	if err == nil {
		r.hold(held)
	}
	return err
}

// SetOutput sets a channel of an actuator within its limits and returns what it then
// is: value; one on the way there where a limit wants steps or a pause, which it goes
// on; or what is safe while the sensor is held. It waits for the sensor to be open and
// free, until ctx is done. What is set is set again where the hardware loses it. An
// error that wraps ErrRefused is about the value; others pass.
func (s *Sampler) SetOutput(ctx context.Context, name, channel string, value hal.Value) (hal.Value, error) {
	r, err := s.find(name)
	if err != nil {
		return hal.Value{}, err
	}
	set := &order{ctx: ctx, channel: channel, value: value, done: make(chan struct{})}
	select {
	case r.orders <- set:
	case <-r.done:
		return hal.Value{}, fmt.Errorf("sampler: %s has ended", name)
	case <-ctx.Done():
		return hal.Value{}, fmt.Errorf("sampler: set %s: not open: %w", name, ctx.Err())
	}
	select {
	case <-set.done:
		return set.value, set.err
	case <-ctx.Done():
		return hal.Value{}, fmt.Errorf("sampler: set %s: %w", name, ctx.Err())
	}
}
