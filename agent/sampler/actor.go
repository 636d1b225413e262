package sampler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

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
		can := a.can(c.Name)
		if c.Kind != hal.Bool && can == nil {
			continue
		}
		o := r.outs[c.Name]
		if o == nil || o.kind != c.Kind {
			o = &output{channel: c.Name, kind: c.Kind, limit: r.spec.Limits[c.Name]}
			r.outs[c.Name] = o
		}
		o.now, o.moving, o.can = hal.Value{}, false, can
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
		if o.err != nil {
			errs = append(errs, o.err)
		}
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
		v, err := o.check(a.r.spec.Safe.Values[name])
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
	v, err := out.check(o.value)
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

// news says whether what the outputs are is to be told. Each time is a write to flash, so
// of a number on its way by steps it is the first of them and the last alone. before is
// what was shown.
func (a *actor) news(before map[string]hal.Value) bool {
	news := false
	for _, o := range a.outs {
		if o.rampTold && !o.moving || o.now != before[o.channel] && !(o.rampTold && o.moving) {
			news, o.rampTold = true, o.moving
		}
	}
	return news
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
