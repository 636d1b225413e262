package sampler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// An openSensor is a sensor from its opening to its closing.
type openSensor struct {
	r         *runner
	sn        hal.Sensor
	pusher    hal.Pusher // nil: it is read
	chs       []hal.Channel
	act       *actor
	pipelines *pipelines // the runner's
	held      bool       // the outputs are at what is safe

	next        time.Time // of the next reading; with a monotonic clock
	tick        bool      // next is a tick of the sampling, not a try after a failure
	fails       int       // in a row
	dropped     uint64    // readings that the source has dropped, of those counted in the status
	vals        []hal.Value
	readFn      func(context.Context) error // reads into vals; made once, for it would be an allocation
	implausible error                       // what was implausible in the last reading
}

func (r *runner) newOpenSensor(sn hal.Sensor) *openSensor {
	s, _ := r.timing()
	v := &openSensor{r: r, sn: sn, chs: sn.Channels(), pipelines: r.pipelines}
	r.pipelines.take(s, time.Now())
	v.pusher, _ = sn.(hal.Pusher)
	v.act = r.newActor(sn, v.chs)
	v.readFn = func(ctx context.Context) (err error) {
		v.vals, err = v.sn.Read(ctx)
		return err
	}
	_, output := sn.(hal.Actuator)
	note := r.spec.unknownChannels(v.chs)
	if v.pusher != nil {
		note = "" // its channels come with its readings
	}
	if n, ok := sn.(hal.Noter); ok && n.Note() != "" {
		note = n.Note()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if note != "" && note != r.st.Note {
		r.log.Warn("the driver has a note about its sensor", "driver", r.spec.Driver, "note", note)
	}
	r.st.Open, r.st.Output, r.st.Note = true, output, note
	return v
}

// read reads the sensor at its ticks until ctx is done or it failed reopenAfter times
// in a row.
func (v *openSensor) read(ctx context.Context) {
	r := v.r
	if v.pusher == nil && len(v.chs) == 0 {
		r.failed()
		r.note(errors.New("read: the sensor has no channels"))
		return
	}
	pushes, stop := v.listen(ctx)
	defer stop()
	v.first(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(v.due()))
		select {
		case <-ctx.Done():
			return
		case o := <-r.orders:
			v.act.obey(ctx, o, func() error { return v.once(ctx, time.Now()) })
			v.levels()
			continue
		case <-r.kick:
			v.retimed(ctx)
			continue
		case p := <-pushes:
			v.heard(p)
		case <-timer.C:
			v.step(ctx)
		}
		if v.fails >= reopenAfter {
			return
		}
	}
}

// first makes an actuator safe that starts or is held, before anything is read. An
// output's level, and whether a sensor works, are known at once: the first reading is now.
func (v *openSensor) first(ctx context.Context) {
	v.held = v.r.isHeld()
	if !v.r.begun || v.held {
		v.makeSafe(ctx)
	}
	v.r.begun = true
	v.next, v.tick = time.Now(), false
	if v.pusher != nil {
		v.next = v.next.Add(v.pipelines.s.Every)
	}
}

func (v *openSensor) makeSafe(ctx context.Context) {
	if len(v.r.spec.Safe.Values) == 0 || len(v.act.outs) == 0 {
		return
	}
	if err := v.act.safe(ctx); err != nil {
		v.r.note(err)
		return
	}
	v.r.log.Info("outputs are set to what is safe", "held", v.held)
}

// due is when there is something to do.
func (v *openSensor) due() time.Time {
	t := v.next
	for _, o := range []time.Time{v.pipelines.due(), v.act.due()} {
		if !o.IsZero() && o.Before(t) {
			t = o
		}
	}
	return t
}

// retimed goes on by the sampling that holds now, and by what is held.
func (v *openSensor) retimed(ctx context.Context) {
	s, _ := v.r.timing()
	now := time.Now()
	if !s.equal(v.pipelines.s) {
		v.pipelines.take(s, now)
		v.next, v.tick = s.next(now), true
		if v.pusher != nil {
			v.next = now.Add(s.Every)
		}
	}
	was := v.held
	if v.held = v.r.isHeld(); v.held && !was {
		v.makeSafe(ctx)
		v.levels()
	}
}

// step does what is due.
func (v *openSensor) step(ctx context.Context) {
	now := time.Now()
	v.r.closeWindows(now)
	if due := v.act.due(); !due.IsZero() && !now.Before(due) {
		arrived, err := v.act.advance(ctx)
		if err != nil {
			v.r.note(err)
		}
		v.levels()
		if arrived { // the reading that shows it is kept like any other
			v.outcome(ctx, v.once(ctx, time.Now()), false)
		}
	}
	switch {
	case now.Before(v.next):
	case v.pusher != nil:
		v.r.failed()
		v.r.note(fmt.Errorf("%w for %v", errSilent, v.pipelines.s.Every))
		v.next = now.Add(v.pipelines.s.Every)
	default:
		v.scheduled(ctx)
	}
}

// scheduled reads the sensor and plans the next reading.
func (v *openSensor) scheduled(ctx context.Context) {
	r, due, tick := v.r, v.next, v.tick
	began := time.Now()
	err := v.once(ctx, began)
	now := time.Now()
	every := v.pipelines.s.Every
	r.mu.Lock()
	if tick {
		r.jitter.add(began.Sub(due))
	}
	if now.Sub(began) >= every {
		r.st.Overruns++
	}
	if late := now.Sub(due); err == nil && late >= every {
		r.st.Missed += uint64(late / every)
	}
	r.mu.Unlock()
	v.outcome(ctx, err, true)
}

// outcome takes how a reading ended and, for one that was planned, plans the next.
func (v *openSensor) outcome(ctx context.Context, err error, planned bool) {
	if ctx.Err() != nil {
		return
	}
	r, s := v.r, &v.pipelines.s
	now := time.Now()
	if err != nil && !errors.Is(err, errKeep) && !answers(r.kindOf(err)) {
		v.fails++
		r.failed()
		r.note(err)
		r.freeBus(ctx, err)
		v.next, v.tick = now.Add(max(r.pause.NextBackOff(), s.Every)), false
		return
	}
	if v.fails > 0 || r.busErrors > 0 {
		v.fails, r.busErrors = 0, 0
		r.freshPause()
	}
	if err != nil {
		r.failed()
	} else if err = v.implausible; err == nil {
		err = v.act.failure()
	}
	r.note(err)
	if planned {
		v.next, v.tick = s.next(now), true
	}
}

// once takes one reading and hands it over.
func (v *openSensor) once(ctx context.Context, at time.Time) error {
	r := v.r
	p := v.pipelines.of(v.chs)
	p.begin()
	v.implausible = nil
	some := 0
	for range max(1, p.s.Average) {
		if err := r.call(ctx, "read", v.readFn); err != nil {
			return err
		}
		if len(v.vals) != len(v.chs) {
			return fmt.Errorf("read: %d values for %d channels", len(v.vals), len(v.chs))
		}
		some += v.clean(p, v.vals)
		p.add(v.vals)
	}
	if some == 0 && v.implausible != nil {
		return fmt.Errorf("read: %w", v.implausible)
	}
	return v.put(p, at, at, p.end())
}

// clean takes out of a reading what cannot be and returns how many values are left.
func (v *openSensor) clean(p *pipeline, vals []hal.Value) int {
	bad, left, err := dropImplausible(p.chs, p.bounds, vals)
	if bad > 0 {
		v.implausible = err
		v.r.mu.Lock()
		v.r.st.Implausible += uint64(bad)
		v.r.mu.Unlock()
	}
	return left
}

func (v *openSensor) put(p *pipeline, now, at time.Time, vals []hal.Value) error {
	err := p.put(now, at, vals)
	if err != nil && p.window == nil {
		return err
	}
	r := v.r
	r.mu.Lock()
	r.st.Reads++
	r.st.Last = at
	r.mu.Unlock()
	if len(v.act.outs) > 0 {
		v.act.look(vals)
		v.levels()
	}
	return err
}

// levels shows what the outputs are.
func (v *openSensor) levels() {
	now := v.act.values()
	if now == nil {
		return
	}
	v.r.mu.Lock()
	before := v.r.st.Outputs
	if !maps.Equal(now, before) {
		v.r.st.Outputs = now
	}
	v.r.mu.Unlock()
	if v.act.news(before) {
		v.r.changed()
	}
}
