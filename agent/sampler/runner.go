package sampler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/tidemill/tidemill/hal"
)

// The pauses after failures: at most a minute, since a cable that is back in
// its plug should show soon.
const (
	pauseMin = time.Second
	pauseMax = time.Minute
)

// reopenAfter is how many readings in a row may fail before the sensor is
// closed and opened anew. Drivers set a chip up again by themselves; this is
// for handles that are dead, as after a bus driver was reloaded.
const reopenAfter = 5

// stuckAfter is how long beyond its time limit a driver may stay before it
// counts as stuck.
const stuckAfter = 10 * time.Second

// errKeep marks a reading that the sink did not take.
var errKeep = errors.New("keep")

// An order is a call of SetOutput on its way to the runner.
type order struct {
	ctx   context.Context
	level bool // wanted, then real
	err   error
	done  chan struct{}
}

// A runner reads one sensor.
type runner struct {
	s      *Sampler
	spec   Spec // as made; every and timeout below hold
	orders chan *order
	kick   chan struct{} // the interval changed
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	mu      sync.Mutex // guards the rest
	every   time.Duration
	timeout time.Duration
	st      Status
	until   time.Time // when the driver call under way should be over; zero: none
}

func newRunner(s *Sampler, sp Spec) *runner {
	return &runner{s: s, spec: sp, every: sp.Every, timeout: sp.Timeout, orders: make(chan *order),
		kick: make(chan struct{}, 1), done: make(chan struct{}),
		st: Status{Name: sp.Name, Driver: sp.Driver}}
}

// end stops the runner and waits for its sensor to be closed.
func (r *runner) end() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	_, timeout := r.timing()
	select {
	case <-r.done:
	case <-time.After(timeout + time.Second):
		r.s.o.Log.Error("a sensor that was removed does not stop", "sensor", r.spec.Name)
	}
}

func (r *runner) timing() (every, timeout time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.every, r.timeout
}

// retime changes the interval, and the time limit unless that is 0.
func (r *runner) retime(every, timeout time.Duration) {
	r.mu.Lock()
	changed := every != r.every
	r.every = every
	if timeout > 0 {
		r.timeout = timeout
	}
	r.mu.Unlock()
	if changed {
		select {
		case r.kick <- struct{}{}:
		default:
		}
		r.changed()
	}
}

func (r *runner) changed() {
	if r.s.o.Changed != nil {
		r.s.o.Changed(r.spec.Name)
	}
}

func (r *runner) snapshot() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.st
	st.Every = r.every
	st.Stuck = !r.until.IsZero() && time.Since(r.until) > stuckAfter
	return st
}

// call runs one driver call under the time limit. A panic is an error.
func (r *runner) call(ctx context.Context, what string, f func(context.Context) error) (err error) {
	_, timeout := r.timing()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r.mu.Lock()
	r.until = time.Now().Add(timeout)
	r.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the driver panicked: %v", what, p)
		}
		r.mu.Lock()
		r.until = time.Time{}
		r.mu.Unlock()
	}()
	if err := f(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// note counts a failure, or the end of one. The log gets each message once.
func (r *runner) note(err error) {
	r.mu.Lock()
	before := r.st.Error
	if err != nil {
		r.st.Errors++
		r.st.Error, r.st.ErrorAt = err.Error(), time.Now()
	} else {
		r.st.Error = ""
	}
	after := r.st.Error
	r.mu.Unlock()
	switch {
	case after == before:
		return
	case after == "":
		r.s.o.Log.Info("sensor works again", "sensor", r.spec.Name)
	default:
		r.s.o.Log.Warn("sensor failed, will retry", "sensor", r.spec.Name, "driver", r.spec.Driver, "err", err)
	}
	r.changed()
}

func newPause() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(pauseMin), backoff.WithMaxInterval(pauseMax),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0))
}

// run opens the sensor and reads it, again and again, until ctx is done.
func (r *runner) run(ctx context.Context) {
	pause := newPause()
	for {
		var sn hal.Sensor
		err := r.call(ctx, "open", func(ctx context.Context) (err error) {
			sn, err = r.s.o.Open(ctx, r.spec)
			return err
		})
		if ctx.Err() != nil && sn == nil {
			return
		}
		if err == nil {
			r.opened(sn, true)
			r.read(ctx, sn, pause)
			if err := r.call(context.WithoutCancel(ctx), "close", func(context.Context) error {
				return sn.Close()
			}); err != nil && ctx.Err() == nil {
				r.note(err)
			}
			r.opened(sn, false)
		} else {
			r.note(err)
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			return
		}
	}
}

func (r *runner) opened(sn hal.Sensor, open bool) {
	_, output := sn.(hal.Actuator)
	note := ""
	if n, ok := sn.(hal.Noter); ok {
		note = n.Note()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if note != "" && note != r.st.Note {
		r.s.o.Log.Warn("a word about a sensor", "sensor", r.spec.Name, "driver", r.spec.Driver, "note", note)
	}
	r.st.Open, r.st.Output, r.st.Note = open, output, note
}

// nextTick is the first multiple of every after now. A timer that fires a
// little early must not give the same tick twice, hence the tenth.
func nextTick(now time.Time, every time.Duration) time.Time {
	return now.Add(every / 10).Truncate(every).Add(every)
}

// read reads an open sensor at its ticks until ctx is done or it failed
// reopenAfter times in a row.
func (r *runner) read(ctx context.Context, sn hal.Sensor, pause *backoff.ExponentialBackOff) {
	chs := sn.Channels()
	if len(chs) == 0 {
		r.note(fmt.Errorf("read: the sensor has no channels"))
		return
	}
	every, _ := r.timing()
	next := time.Now().Round(0).Truncate(every).Add(every)
	timer := time.NewTimer(0) // an output's level, and whether a sensor works, are known at once
	defer timer.Stop()
	failed := 0
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-r.orders:
			r.obey(ctx, sn, chs, o)
			continue
		case <-r.kick:
			every, _ = r.timing()
			next = nextTick(time.Now().Round(0), every)
			timer.Reset(time.Until(next))
			continue
		case <-timer.C:
		}
		err := r.once(ctx, sn, chs)
		if ctx.Err() != nil {
			return
		}
		r.note(err)
		now := time.Now().Round(0)
		if err != nil {
			if errors.Is(err, errKeep) { // not the sensor's fault
				next = nextTick(now, every)
				timer.Reset(next.Sub(now))
				continue
			}
			if failed++; failed >= reopenAfter {
				return
			}
			next = now.Add(max(pause.NextBackOff(), every))
		} else {
			failed = 0
			pause.Reset()
			if late := now.Sub(next); late >= every {
				r.mu.Lock()
				r.st.Missed += uint64(late / every)
				r.mu.Unlock()
			}
			next = nextTick(now, every)
		}
		timer.Reset(next.Sub(now))
	}
}

// once takes one reading and hands it over.
func (r *runner) once(ctx context.Context, sn hal.Sensor, chs []hal.Channel) error {
	var vals []hal.Value
	at := time.Now()
	err := r.call(ctx, "read", func(ctx context.Context) (err error) {
		vals, err = sn.Read(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if len(vals) != len(chs) {
		return fmt.Errorf("read: %d values for %d channels", len(vals), len(chs))
	}
	if err := r.s.o.Sink.Append(r.spec.Name, chs, at.UnixMilli(), vals); err != nil {
		return fmt.Errorf("%w: %w", errKeep, err)
	}
	level := levelOf(chs, vals)
	r.mu.Lock()
	r.st.Readings++
	r.st.Last = at
	moved := r.st.Output && level != nil && (r.st.Level == nil || *r.st.Level != *level)
	if r.st.Output {
		r.st.Level = level
	}
	r.mu.Unlock()
	if moved {
		r.changed()
	}
	return nil
}

// levelOf returns the first truth value.
func levelOf(chs []hal.Channel, vals []hal.Value) *bool {
	for i, c := range chs {
		if c.Kind == hal.Bool && vals[i].Kind() == hal.Bool {
			b := vals[i].Bool()
			return &b
		}
	}
	return nil
}

// obey sets an output and reads it back; that reading is kept like any other.
func (r *runner) obey(ctx context.Context, sn hal.Sensor, chs []hal.Channel, o *order) {
	defer close(o.done)
	act, ok := sn.(hal.Actuator)
	channel := ""
	for _, c := range chs {
		if c.Kind == hal.Bool && channel == "" {
			channel = c.Name
		}
	}
	if !ok || channel == "" {
		o.err = fmt.Errorf("%w: %s", errNotOutput, r.spec.Name)
		return
	}
	if o.ctx.Err() != nil { // nobody waits for it any more
		o.err = o.ctx.Err()
		return
	}
	o.err = r.call(ctx, "set", func(ctx context.Context) error { return act.Set(ctx, channel, hal.BoolValue(o.level)) })
	if o.err == nil {
		o.err = r.once(ctx, sn, chs)
	}
	r.note(o.err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.st.Level != nil {
		o.level = *r.st.Level
	}
}
