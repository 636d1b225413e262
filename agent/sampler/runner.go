package sampler

import (
	"context"
	"fmt"
	"log/slog"
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
	before []*runner     // that may still have what this one opens

	// The runner's goroutine's alone.
	pause     *backoff.ExponentialBackOff
	limit     *limit
	outs      map[string]*output
	pipelines *pipelines
	begun     bool          // it was open once
	busErrors int           // in a row
	announced time.Time     // when a change of the state was told last
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

// endFor is how long the runner may take to end once its context has.
func (r *runner) endFor() time.Duration {
	_, timeout := r.timing()
	return timeout + safeFor + time.Second
}

// ended says whether run has returned.
func (r *runner) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// waitFree waits for the runners before, whose line or chip must be free before it is
// opened again, and says whether to go on.
func (r *runner) waitFree(ctx context.Context) bool {
	for _, before := range r.before {
		if before.ended() {
			continue
		}
		r.failed()
		r.note(fmt.Errorf("what had %s before does not stop: %w", before.spec.Name, context.DeadlineExceeded))
		for waits := true; waits; {
			select {
			case <-before.done:
				waits = false
			case o := <-r.orders:
				r.notOpen(o)
			case <-ctx.Done():
				return false
			}
		}
	}
	r.before = nil
	return true
}

// notOpen answers who wants an output set now.
func (r *runner) notOpen(o *order) {
	o.err = fmt.Errorf("sampler: %s is not open: %s", r.spec.Name, r.st.Error)
	close(o.done)
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

func (r *runner) snapshot() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.st
	st.Sampling, st.Held, st.Jitter = r.sampling, r.held, r.jitter.sumUp()
	if !r.until.IsZero() && time.Since(r.until) > stuckAfter {
		st.Hangs = true
		if st.State != Stuck {
			st.State, st.Kind, st.Since = Stuck, hal.CauseTimeout, r.until
			st.Error = "the driver does not return"
		}
	}
	return st
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
	s, _ := r.timing()
	r.pipelines = &pipelines{r: r, s: s}
}

// run opens the sensor and reads it, again and again, until ctx is done.
func (r *runner) run(ctx context.Context) {
	r.prepare()
	defer r.last()
	if !r.waitFree(ctx) {
		return
	}
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
		if !r.rest(ctx, r.pause.NextBackOff()) {
			return
		}
	}
}

// rest waits, sends the windows that end meanwhile, and says whether to go on. Who wants
// an output set need not wait for a sensor that cannot be opened.
func (r *runner) rest(ctx context.Context, d time.Duration) bool {
	for until := time.Now().Add(d); ; {
		next := until
		if due := r.pipelines.due(); !due.IsZero() && due.Before(next) {
			next = due
		}
		select {
		case <-time.After(time.Until(next)):
		case o := <-r.orders:
			r.notOpen(o)
			continue
		case <-ctx.Done():
			return false
		}
		r.closeWindows(time.Now())
		if next.Equal(until) {
			return true
		}
	}
}

// closeWindows sends the windows that are over.
func (r *runner) closeWindows(now time.Time) {
	r.unkept(r.pipelines.close(now))
}

// last sends what the windows have, when the sensor is read no more.
func (r *runner) last() {
	r.unkept(r.pipelines.flush(time.Now()))
}

// unkept takes how the end of a window went, nil for well.
func (r *runner) unkept(err error) {
	if err != nil {
		r.failed()
		r.note(err)
	}
}

// use reads an open sensor and closes it.
func (r *runner) use(ctx context.Context, sn hal.Sensor) {
	last := context.WithoutCancel(ctx)
	var v *openSensor
	err := r.call(ctx, "open", func(context.Context) error { // what it is, it says itself
		v = r.newOpenSensor(sn)
		return nil
	})
	if err != nil {
		r.failed()
		r.note(err)
	} else {
		v.read(ctx)
	}
	if v != nil && ctx.Err() != nil && len(r.spec.Safe.Values) > 0 && v.act.outs != nil {
		ctx, cancel := context.WithTimeout(last, safeFor)
		if err := v.act.safe(ctx); err != nil {
			r.log.Error("an output could not be made safe at the end", "err", err)
		}
		cancel()
	}
	if err := r.call(last, "close", func(context.Context) error { return sn.Close() }); err != nil && ctx.Err() == nil {
		r.failed()
		r.note(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Open = false
}
