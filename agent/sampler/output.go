package sampler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A Limit is how a channel of an actuator may be set, beside what the actuator
// itself can. The zero Limit is none.
type Limit struct {
	Min, Max float64       // of a number; both 0: no limit
	Rate     float64       // of a number, the most that it changes in a second; 0: at once
	Interval time.Duration // the least time between two changes; a change that comes too early waits
}

// Safe is what an actuator is set to on its own: before the first reading, when the
// sensor is held (Sampler.Hold), and when the sampler ends. That happens at once,
// whatever Rate and Interval say.
type Safe struct {
	Values map[string]hal.Value // by channel; empty: none
	Held   bool                 // the sensor is held from the start on
}

const (
	rampStep = 100 * time.Millisecond // between two steps of a number with a Rate
	setAgain = 5 * time.Second        // after a failure to set
	safeFor  = 2 * time.Second        // that setting all that is safe may take at the end
)

// An output is one channel of an actuator that can be set. It outlives the sensor
// being closed and opened again. Only the runner's goroutine uses it.
type output struct {
	channel  string
	kind     hal.Kind
	limit    Limit
	can      *hal.Range // of a number: what the actuator says that it can
	target   hal.Value  // what it is to be; Absent: whatever it is
	now      hal.Value  // as set, or as read where it left that
	shown    hal.Value  // of a Float: what it reads since it was set, which is what the hardware can
	moving   bool       // by steps
	rampTold bool       // that it moves is known to Options.Changed
	moved    time.Time  // of the last change
	due      time.Time  // of the next step or try; zero: none
	err      error      // of the last try
}

// An order is a call of SetOutput on its way to the runner.
type order struct {
	ctx     context.Context
	channel string
	value   hal.Value // wanted, then real
	err     error
	done    chan struct{}
}

// ErrRefused means that an output does not take the value, and would not later: it is
// out of range or of another type, or there is no such output.
var ErrRefused = errors.New("refused")

var errNotOutput = fmt.Errorf("%w: not an output", ErrRefused)

// convert fits a number to a channel's kind.
func convert(v hal.Value, kind hal.Kind) hal.Value {
	switch x, ok := number(v); {
	case !ok:
	case kind == hal.Float:
		return hal.FloatValue(x)
	case kind == hal.Int && x == math.Trunc(x) && math.Abs(x) < 1<<53:
		return hal.IntValue(int64(x))
	}
	return v
}

// check returns v as the channel takes it, or why it is refused.
func (o *output) check(v hal.Value) (hal.Value, error) {
	v = convert(v, o.kind)
	if v.Kind() != o.kind {
		want := map[hal.Kind]string{hal.Bool: "true or false", hal.Float: "a number", hal.Int: "a whole number"}[o.kind]
		return v, fmt.Errorf("%s: %w: want %s", o.channel, ErrRefused, want)
	}
	x, ok := number(v)
	if !ok {
		return v, nil
	}
	low, high := math.Inf(-1), math.Inf(1)
	if o.can != nil {
		low, high = o.can.Min, o.can.Max
	}
	if o.limit.Min != 0 || o.limit.Max != 0 {
		low, high = max(low, o.limit.Min), min(high, o.limit.Max)
	}
	if !(x >= low && x <= high) {
		return v, fmt.Errorf("%s: %w: %v, want %v to %v", o.channel, ErrRefused, x, low, high)
	}
	return v, nil
}

// step returns what the channel may be set to now, on the way to its target, or that
// it has to wait until due.
func (o *output) step(now time.Time) (v hal.Value, ok bool) {
	o.due = time.Time{}
	if o.target.Kind() == hal.Absent || o.target == o.now {
		o.moving, o.err = false, nil
		return v, false
	}
	if free := o.moved.Add(o.limit.Interval); !o.moving && !o.moved.IsZero() && now.Before(free) {
		o.due = free
		return v, false
	}
	to, isNumber := number(o.target)
	from, known := number(o.now)
	if o.limit.Rate == 0 || !isNumber || !known {
		return o.target, true
	}
	most := o.limit.Rate * rampStep.Seconds()
	if math.Abs(to-from) <= most {
		return o.target, true
	}
	o.moving = true
	next := from + math.Copysign(most, to-from)
	o.due = now.Add(rampStep)
	if o.kind == hal.Int {
		// Steps of less than one are waited for.
		whole := math.Trunc(next)
		if to < from {
			whole = math.Ceil(next)
		}
		if whole == from {
			whole += math.Copysign(1, to-from)
			o.due = now.Add(time.Duration(float64(time.Second) / o.limit.Rate))
			if now.Sub(o.moved) < time.Duration(float64(time.Second)/o.limit.Rate) {
				return v, false
			}
		}
		return hal.IntValue(int64(whole)), true
	}
	return hal.FloatValue(next), true
}
