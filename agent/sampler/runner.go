package sampler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/hal"
)

// The pauses after failures begin with the sensor's interval, within these, and
// double up to a minute, since a cable that is back in its plug should show soon.
const (
	pauseLeast = 100 * time.Millisecond
	pauseMin   = time.Second
	pauseMax   = time.Minute
)

// reopenAfter is how many readings in a row may fail before the sensor is
// closed and opened anew. Drivers set a chip up again by themselves; this is
// for handles that are dead, as after a bus driver was reloaded.
const reopenAfter = 5

// stuckAfter is how long beyond its time limit a driver may stay before it
// counts as stuck.
const stuckAfter = 10 * time.Second

// A runner reads one sensor.
type runner struct {
	s      *Sampler
	spec   Spec // as made; the sampling and timeout below hold
	log    *slog.Logger
	orders chan *order
	kick   chan struct{} // the sampling changed, or the sensor is held, or not any more
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	// The runner's goroutine's alone.
	pause     *backoff.ExponentialBackOff
	limit     *limit
	outs      map[string]*output
	begun     bool          // it was open once
	busErrors int           // in a row
	told      time.Time     // when a change of the state was told last
	quiet     time.Duration // how long no other is told

	mu       sync.Mutex // guards the rest
	sampling Sampling
	timeout  time.Duration
	held     bool
	st       Status
	jitter   histogram
	until    time.Time // when the driver call under way should be over; zero: none
}

func newRunner(s *Sampler, sp Spec) *runner {
	return &runner{s: s, spec: sp, log: s.o.Log.With("sensor", sp.Name), orders: make(chan *order),
		kick: make(chan struct{}, 1), done: make(chan struct{}), outs: map[string]*output{},
		sampling: sp.Sampling, timeout: sp.Timeout, held: sp.Safe.Held && len(sp.Safe.Values) > 0,
		st: Status{Name: sp.Name, Driver: sp.Driver, State: Starting, Since: time.Now()}}
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
	case <-time.After(timeout + safeFor + time.Second):
		r.log.Error("a sensor that was removed does not stop")
	}
}

func (r *runner) timing() (Sampling, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sampling, r.timeout
}

// retime changes the sampling, and the time limit unless that is 0.
func (r *runner) retime(s Sampling, timeout time.Duration) {
	r.mu.Lock()
	changed := !s.equal(r.sampling)
	r.sampling = s
	if timeout > 0 {
		r.timeout = timeout
	}
	r.mu.Unlock()
	if changed {
		r.wake()
		r.changed()
	}
}

func (r *runner) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *runner) isHeld() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

func (r *runner) hold(held bool) {
	held = held && len(r.spec.Safe.Values) > 0
	r.mu.Lock()
	changed := r.held != held
	r.held = held
	r.mu.Unlock()
	if changed {
		r.wake()
	}
}

// How long a change of a sensor's state is not told after another: the time doubles
// while changes come, since each is written to flash by who is told. Who wants to
// know what a loose cable does in between asks for Status now and then.
const (
	quietLeast = time.Second
	quietMost  = 10 * time.Minute
)

// tell tells of a change of the state, unless there were many, and says whether it did.
func (r *runner) tell(now time.Time) bool {
	since := now.Sub(r.told)
	if !r.told.IsZero() && since < r.quiet {
		return false
	}
	r.quiet = min(max(2*r.quiet, quietLeast), quietMost)
	if since > 2*quietMost {
		r.quiet = quietLeast
	}
	r.told = now
	r.changed()
	return true
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
	st.Sampling, st.Held, st.Jitter = r.sampling, r.held, r.jitter.sumUp()
	if !r.until.IsZero() && time.Since(r.until) > stuckAfter {
		st.Hangs = true
		if st.State != Stuck {
			st.State, st.Kind, st.Since = Stuck, kindTimeout, r.until
			st.Error = "the driver does not return"
		}
	}
	return st
}

// call runs one driver call under the time limit. A panic is an error.
func (r *runner) call(ctx context.Context, what string, f func(context.Context) error) (err error) {
	_, timeout := r.timing()
	l := r.limit
	if l != nil && l.parent != ctx {
		l.cancel()
		l = nil
	}
	if l == nil {
		l = newLimit(ctx)
	}
	r.limit = nil
	r.mu.Lock()
	r.until = time.Now().Add(timeout)
	r.mu.Unlock()
	l.begin(timeout)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the driver panicked: %v", what, p)
		}
		var again bool
		if again, err = l.end(err); again {
			r.limit = l
		}
		r.mu.Lock()
		r.until = time.Time{}
		r.mu.Unlock()
	}()
	if err := f(l); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// freshPause begins the pauses anew.
func (r *runner) freshPause() {
	s, _ := r.timing()
	r.pause.InitialInterval = min(max(s.Every, pauseLeast), pauseMin)
	r.pause.Reset()
}

// prepare makes what run needs.
func (r *runner) prepare() {
	r.pause = backoff.NewExponentialBackOff(backoff.WithMaxInterval(pauseMax), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0))
	r.freshPause()
}

// run opens the sensor and reads it, again and again, until ctx is done.
func (r *runner) run(ctx context.Context) {
	r.prepare()
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
			r.use(ctx, sn)
		} else {
			r.failed()
			r.note(err)
			r.freeBus(ctx, err)
		}
		select {
		case <-time.After(r.pause.NextBackOff()):
		case <-ctx.Done():
			return
		}
	}
}

// use reads an open sensor and closes it.
func (r *runner) use(ctx context.Context, sn hal.Sensor) {
	v := r.newVisit(sn)
	v.read(ctx)
	last := context.WithoutCancel(ctx)
	if ctx.Err() != nil && len(r.spec.Safe.Values) > 0 && v.act.outs != nil {
		if err := v.act.safe(last); err != nil {
			r.log.Error("an output could not be made safe at the end", "err", err)
		}
	}
	if err := r.call(last, "close", func(context.Context) error { return sn.Close() }); err != nil && ctx.Err() == nil {
		r.failed()
		r.note(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Open = false
}

// A visit is a sensor from its opening to its closing.
type visit struct {
	r      *runner
	sn     hal.Sensor
	pusher hal.Pusher // nil: it is read
	chs    []hal.Channel
	act    *actor
	paths  *paths

	next   time.Time // of the next reading; with a monotonic clock
	tick   bool      // next is a tick of the sampling, not a try after a failure
	fails  int       // in a row
	vals   []hal.Value
	readFn func(context.Context) error // reads into vals; made once, for it would be an allocation
	odd    error                       // what was implausible in the last reading
}

func (r *runner) newVisit(sn hal.Sensor) *visit {
	s, _ := r.timing()
	v := &visit{r: r, sn: sn, chs: sn.Channels(), paths: &paths{r: r, s: s}}
	v.pusher, _ = sn.(hal.Pusher)
	v.act = r.newActor(sn, v.chs)
	v.readFn = func(ctx context.Context) (err error) {
		v.vals, err = v.sn.Read(ctx)
		return err
	}
	_, output := sn.(hal.Actuator)
	note := r.spec.strangers(v.chs)
	if v.pusher != nil {
		note = "" // its channels come with its readings
	}
	if n, ok := sn.(hal.Noter); ok && n.Note() != "" {
		note = n.Note()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if note != "" && note != r.st.Note {
		r.log.Warn("a word about a sensor", "driver", r.spec.Driver, "note", note)
	}
	r.st.Open, r.st.Output, r.st.Note = true, output, note
	return v
}

// read reads the sensor at its ticks until ctx is done or it failed reopenAfter times
// in a row.
func (v *visit) read(ctx context.Context) {
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
			v.last()
			return
		case o := <-r.orders:
			v.act.obey(ctx, o, func() error { return v.once(ctx, time.Now()) })
			v.levels()
			continue
		case <-r.kick:
			v.retimed(ctx)
			continue
		case p := <-pushes:
			v.pushed(p)
		case <-timer.C:
			v.step(ctx)
		}
		if v.fails >= reopenAfter {
			v.last()
			return
		}
	}
}

// first makes an actuator safe that starts or is held, before anything is read. An
// output's level, and whether a sensor works, are known at once: the first reading is now.
func (v *visit) first(ctx context.Context) {
	if !v.r.begun || v.r.isHeld() {
		v.makeSafe(ctx)
	}
	v.r.begun = true
	v.next, v.tick = time.Now(), false
	if v.pusher != nil {
		v.next = v.next.Add(v.paths.s.Every)
	}
}

func (v *visit) makeSafe(ctx context.Context) {
	if len(v.r.spec.Safe.Values) == 0 || len(v.act.outs) == 0 {
		return
	}
	if err := v.act.safe(ctx); err != nil {
		v.r.note(err)
		return
	}
	v.r.log.Info("outputs are set to what is safe", "held", v.r.isHeld())
}

// due is when there is something to do.
func (v *visit) due() time.Time {
	t := v.next
	for _, o := range []time.Time{v.paths.due(), v.act.due()} {
		if !o.IsZero() && o.Before(t) {
			t = o
		}
	}
	return t
}

// retimed goes on by the sampling that holds now, and by what is held.
func (v *visit) retimed(ctx context.Context) {
	s, _ := v.r.timing()
	now := time.Now()
	if !s.equal(v.paths.s) {
		v.paths.take(s, now)
		v.next, v.tick = s.next(now), true
		if v.pusher != nil {
			v.next = now.Add(s.Every)
		}
	}
	if v.r.isHeld() {
		v.makeSafe(ctx)
		v.levels()
	}
}

// step does what is due.
func (v *visit) step(ctx context.Context) {
	now := time.Now()
	if err := v.paths.close(now); err != nil {
		v.r.note(err)
	}
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
		v.r.note(fmt.Errorf("%w for %v", errSilent, v.paths.s.Every))
		v.next = now.Add(v.paths.s.Every)
	default:
		v.scheduled(ctx, now)
	}
}

// scheduled reads the sensor and plans the next reading.
func (v *visit) scheduled(ctx context.Context, began time.Time) {
	r, due, tick := v.r, v.next, v.tick
	err := v.once(ctx, began)
	now := time.Now()
	every := v.paths.s.Every
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
func (v *visit) outcome(ctx context.Context, err error, planned bool) {
	if ctx.Err() != nil {
		return
	}
	r, s := v.r, &v.paths.s
	now := time.Now()
	if err != nil && !errors.Is(err, errKeep) {
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
	} else if err = v.odd; err == nil {
		err = v.act.failure()
	}
	r.note(err)
	if planned {
		v.next, v.tick = s.next(now), true
	}
}

// once takes one reading and hands it over.
func (v *visit) once(ctx context.Context, at time.Time) error {
	r := v.r
	p := v.paths.of(v.chs)
	p.begin()
	v.odd = nil
	some := 0
	for range max(1, p.s.Average) {
		if err := r.call(ctx, "read", v.readFn); err != nil {
			return err
		}
		if len(v.vals) != len(v.chs) {
			return fmt.Errorf("read: %d values for %d channels", len(v.vals), len(v.chs))
		}
		some += v.sift(p, v.vals)
		p.add(v.vals)
	}
	if some == 0 && v.odd != nil {
		return fmt.Errorf("read: %w", v.odd)
	}
	return v.put(p, at, p.end())
}

// sift takes out of a reading what cannot be and returns how many values are left.
func (v *visit) sift(p *path, vals []hal.Value) int {
	bad, left, err := sift(p.chs, p.bounds, vals)
	if bad > 0 {
		v.odd = err
		v.r.mu.Lock()
		v.r.st.Implausible += uint64(bad)
		v.r.mu.Unlock()
	}
	return left
}

func (v *visit) put(p *path, at time.Time, vals []hal.Value) error {
	if err := p.put(at, vals); err != nil {
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
	return nil
}

// levels shows what the outputs are.
func (v *visit) levels() {
	now := v.act.values()
	if now == nil {
		return
	}
	v.r.mu.Lock()
	moved := !maps.Equal(now, v.r.st.Outputs)
	if moved {
		v.r.st.Outputs = now
	}
	v.r.mu.Unlock()
	if moved {
		v.r.changed()
	}
}

// last sends what the windows have, when the sensor is closed.
func (v *visit) last() {
	if err := v.paths.flush(time.Now()); err != nil {
		v.r.note(err)
	}
}
