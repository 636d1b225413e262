package sampler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
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
	safeFor  = 2 * time.Second        // that setting what is safe may take at the end
)

// An output is one channel of an actuator that can be set. It outlives the sensor
// being closed and opened again. Only the runner's goroutine uses it.
type output struct {
	channel string
	kind    hal.Kind
	limit   Limit
	target  hal.Value // what it is to be; Absent: whatever it is
	now     hal.Value // as set, or as read where it left that
	shown   hal.Value // of a Float: what it reads since it was set, which is what the hardware can
	moving  bool      // by steps
	moved   time.Time // of the last change
	due     time.Time // of the next step or try; zero: none
	err     error     // of the last try
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

// check returns v as the channel takes it, or why it is refused. can is what the
// actuator can, if it says so.
func (o *output) check(v hal.Value, can *hal.Range) (hal.Value, error) {
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
	if can != nil {
		low, high = can.Min, can.Max
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
		o.moving = false
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

// An actor sets an open actuator.
type actor struct {
	r    *runner
	act  hal.Actuator
	chs  []hal.Channel
	outs []*output // nil for a sensor
}

// newActor finds the channels that can be set. Those of an earlier opening go on.
func (r *runner) newActor(sn hal.Sensor, chs []hal.Channel) *actor {
	act, ok := sn.(hal.Actuator)
	if !ok {
		return &actor{r: r}
	}
	a := &actor{r: r, act: act, chs: chs}
	for _, c := range chs {
		if c.Kind != hal.Bool && a.can(c.Name) == nil {
			continue
		}
		o := r.outs[c.Name]
		if o == nil || o.kind != c.Kind {
			o = &output{channel: c.Name, kind: c.Kind, limit: r.spec.Limits[c.Name]}
			r.outs[c.Name] = o
		}
		o.now, o.moving = hal.Value{}, false
		a.outs = append(a.outs, o)
	}
	return a
}

// can is the range of a number, nil if the actuator does not tell.
func (a *actor) can(channel string) *hal.Range {
	if ranger, ok := a.act.(hal.Ranger); ok {
		if rg, ok := ranger.Range(channel); ok {
			return &rg
		}
	}
	return nil
}

func (a *actor) find(channel string) *output {
	i := slices.IndexFunc(a.outs, func(o *output) bool { return o.channel == channel })
	if i < 0 {
		return nil
	}
	return a.outs[i]
}

// set drives one channel.
func (a *actor) set(ctx context.Context, o *output, v hal.Value) error {
	err := a.r.call(ctx, "set", func(ctx context.Context) error { return a.act.Set(ctx, o.channel, v) })
	now := time.Now()
	if o.err = err; err != nil {
		o.due = now.Add(setAgain)
		a.r.failed()
		return err
	}
	if o.now != v {
		o.moved = now
	}
	o.now, o.shown = v, hal.Value{}
	return nil
}

// advance takes the steps that are due, and says whether a channel came to its target.
func (a *actor) advance(ctx context.Context) (arrived bool, _ error) {
	for _, o := range a.outs {
		now := time.Now()
		if !o.due.IsZero() && now.Before(o.due) {
			continue
		}
		if v, ok := o.step(now); ok && a.set(ctx, o, v) == nil && v == o.target {
			o.moving, o.due, arrived = false, time.Time{}, true
		}
	}
	return arrived, a.failure()
}

// failure is what could not be set.
func (a *actor) failure() error {
	var errs []error
	for _, o := range a.outs {
		errs = append(errs, o.err)
	}
	return errors.Join(errs...)
}

// due is when advance has something to do; zero: nothing.
func (a *actor) due() (t time.Time) {
	for _, o := range a.outs {
		if !o.due.IsZero() && (t.IsZero() || o.due.Before(t)) {
			t = o.due
		}
	}
	return t
}

// look notes what the channels read. One that left its target is set again.
func (a *actor) look(vals []hal.Value) {
	for i, c := range a.chs {
		o := a.find(c.Name)
		if o == nil || vals[i].Kind() == hal.Absent || o.moving {
			continue
		}
		if o.kind == hal.Float && o.target.Kind() != hal.Absent && o.now == o.target {
			if o.shown.Kind() == hal.Absent {
				o.shown = vals[i]
			}
			if vals[i] == o.shown {
				continue
			}
		}
		if o.now = vals[i]; o.target.Kind() != hal.Absent && o.now != o.target && o.due.IsZero() {
			o.due = time.Now()
		}
	}
}

// safe makes the actuator safe, and lets what was wanted before go.
func (a *actor) safe(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.r.spec.Safe.Values)) {
		o := a.find(name)
		if o == nil {
			continue
		}
		v, err := o.check(a.r.spec.Safe.Values[name], a.can(name))
		if err == nil {
			o.target, o.moving, o.due = v, false, time.Time{}
			err = a.set(ctx, o, v)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// obey takes an order. The reading that shows the new level is kept like any other.
func (a *actor) obey(ctx context.Context, o *order, read func() error) {
	defer close(o.done)
	out := a.find(o.channel)
	if out == nil {
		o.err = fmt.Errorf("%w: %s.%s", errNotOutput, a.r.spec.Name, o.channel)
		if names := a.names(); names != "" {
			o.err = fmt.Errorf("%w; it has %s", o.err, names)
		}
		return
	}
	if o.ctx.Err() != nil { // nobody waits for it any more
		o.err = o.ctx.Err()
		return
	}
	v, err := out.check(o.value, a.can(o.channel))
	if err != nil {
		o.err = err
		return
	}
	if a.r.isHeld() {
		o.value = out.now
		return
	}
	if out.target != v {
		out.target, out.due = v, time.Time{}
	}
	arrived, err := a.advance(ctx)
	if err != nil {
		a.r.note(err)
	}
	if o.err = out.err; arrived && o.err == nil {
		o.err = read()
	}
	o.value = out.now
}

func (a *actor) names() string {
	var names []string
	for _, o := range a.outs {
		names = append(names, o.channel)
	}
	return strings.Join(names, ", ")
}

// values is what the channels are, nil for a sensor.
func (a *actor) values() map[string]hal.Value {
	if len(a.outs) == 0 {
		return nil
	}
	m := make(map[string]hal.Value, len(a.outs))
	for _, o := range a.outs {
		if o.now.Kind() != hal.Absent {
			m[o.channel] = o.now
		}
	}
	return m
}
