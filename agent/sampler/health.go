package sampler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A State says how a sensor is.
type State string

// The states.
const (
	Starting    State = "starting"    // not read yet
	OK          State = "ok"          // the last reading succeeded
	Retrying    State = "retrying"    // it answers, but not with a reading
	Away        State = "absent"      // nothing answers, or nothing comes
	Stuck       State = "stuck"       // a reading hangs in the driver or the bus
	Implausible State = "implausible" // it says what cannot be; other channels go on
	Unkept      State = "unkept"      // its readings are not kept: no fault of the sensor
)

// Bounds are the values of a channel that are plausible, both ends included.
type Bounds struct{ Min, Max float64 }

var (
	errKeep        = errors.New("keep")             // a reading that the sink did not take
	errSilent      = errors.New("nothing has come") // from a source that speaks by itself
	errBounds      = errors.New("outside of its bounds")
	errImplausible = errors.New("no number")
)

// kindOf names an error, for status, shadow and metrics.
func (r *runner) kindOf(err error) string {
	var bus *hal.BusError
	switch {
	case errors.Is(err, errSilent):
		return hal.CauseSilent
	case errors.Is(err, errBounds):
		return hal.CauseOutOfBounds
	case errors.Is(err, errImplausible):
		return hal.CauseImplausible
	}
	if r.s.o.Kind != nil {
		if kind := r.s.o.Kind(err); kind != "" {
			return kind
		}
	}
	switch {
	case errors.Is(err, hal.ErrNoDevice):
		return hal.CauseNoDevice
	case errors.As(err, &bus):
		return hal.CauseBus
	case errors.Is(err, context.DeadlineExceeded):
		return hal.CauseTimeout
	}
	return hal.CauseOther
}

// answers says whether a kind of error is what a sensor says of itself or of what it
// measures, such as that nothing is in its reach: it answered, so it is neither left alone
// for longer than usual nor opened anew.
func answers(kind string) bool {
	switch kind {
	case hal.CauseNotReady, hal.CauseSaturated, hal.CauseOpenCircuit, hal.CauseShortCircuit, hal.CauseFault,
		hal.CauseOutOfRange, hal.CauseOutOfBounds, hal.CauseImplausible:
		return true
	}
	return false
}

// stateOf is the state that an error puts a sensor into.
func stateOf(err error, kind string) State {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, errKeep):
		return Unkept
	}
	switch kind {
	case hal.CauseNoDevice, hal.CauseSilent:
		return Away
	case hal.CauseTimeout, hal.CauseBusy:
		return Stuck
	case hal.CauseOutOfBounds, hal.CauseOutOfRange, hal.CauseImplausible:
		return Implausible
	}
	return Retrying
}

// How long a change of a sensor's state is not told after another: the time doubles
// while changes come, since the agent writes each to flash. Who wants to
// know what a loose cable does in between asks for Status now and then.
const (
	quietLeast = time.Second
	quietMost  = 10 * time.Minute
)

// announce tells of a change of the state, unless there were many, and says whether it did.
func (r *runner) announce(now time.Time) bool {
	since := now.Sub(r.announced)
	if !r.announced.IsZero() && since < r.quiet {
		return false
	}
	r.quiet = min(max(2*r.quiet, quietLeast), quietMost)
	if since > 2*quietMost {
		r.quiet = quietLeast
	}
	r.announced = now
	r.changed()
	return true
}

func (r *runner) changed() {
	if r.s.o.Changed != nil {
		r.s.o.Changed(r.spec.Name)
	}
}

// note takes how the last call of the driver ended, nil for well. The log has a line
// for each change of the state or of the kind of error, not for each message: those
// of a loose cable change all the time.
func (r *runner) note(err error) {
	if err == nil && r.st.State == OK { // only this goroutine writes it
		return
	}
	now := time.Now()
	kind := ""
	if err != nil {
		kind = r.kindOf(err)
	}
	state := stateOf(err, kind)
	r.mu.Lock()
	before, since := r.st.State, r.st.Since
	// A bus that hangs is "timeout" and "busy" in turns.
	moved := before != state || r.st.Kind != kind && state != Stuck
	if before != state {
		r.st.State, r.st.Since = state, now
	}
	r.st.Kind, r.st.Error = kind, ""
	if err != nil {
		r.st.Error, r.st.ErrorAt = err.Error(), now
	}
	r.mu.Unlock()
	if !moved {
		return
	}
	bad, good := slog.LevelWarn, slog.LevelInfo
	if !r.announce(now) { // it changes all the time
		bad, good = slog.LevelDebug, slog.LevelDebug
	}
	ctx := context.Background()
	switch {
	case err != nil:
		r.log.Log(ctx, bad, "sensor failed, will retry", "driver", r.spec.Driver, "state", state, "kind", kind, "err",
			err)
	case before != Starting:
		r.log.Log(ctx, good, "sensor works again", "after", now.Sub(since).Round(time.Millisecond), "state_before",
			before)
	}
}

// failed counts a failure.
func (r *runner) failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Errors++
}

// limits are the bounds by channel, nil without any.
func limitsOf(chs []hal.Channel, bounds map[string]Bounds) []Bounds {
	out := make([]Bounds, len(chs))
	for i, c := range chs {
		b, ok := bounds[c.Name]
		if !ok {
			b = Bounds{math.Inf(-1), math.Inf(1)}
		}
		out[i] = b
	}
	return out
}

// dropImplausible takes out what cannot be: NaN, infinities, and values outside of their bounds.
// It returns how many those were, an error that tells of the first, and how many
// values are left.
func dropImplausible(chs []hal.Channel, bounds []Bounds, vals []hal.Value) (bad, left int, err error) {
	for i, v := range vals {
		x, ok := number(v)
		switch b := &bounds[i]; {
		case v.Kind() == hal.Absent:
			continue
		case !ok || x >= b.Min && x <= b.Max && !math.IsInf(x, 0):
			left++
			continue
		case math.IsNaN(x) || math.IsInf(x, 0):
			if err == nil {
				err = fmt.Errorf("%s: %w: %v", chs[i].Name, errImplausible, x)
			}
		case err == nil:
			err = fmt.Errorf("%s: %v %s: %w: %v to %v", chs[i].Name, x, chs[i].Unit, errBounds, b.Min, b.Max)
		}
		vals[i] = hal.Value{}
		bad++
	}
	return bad, left, err
}

// unknownChannels are the channels that a configuration names and the sensor does not have.
func (sp *Spec) unknownChannels(chs []hal.Channel) string {
	var names []string
	add := func(where, name string) {
		for _, c := range chs {
			if c.Name == name {
				return
			}
		}
		names = append(names, where+"."+name)
	}
	for name := range sp.Deadband {
		add("deadband", name)
	}
	for name := range sp.Bounds {
		add("bounds", name)
	}
	for name := range sp.Limits {
		add("limits", name)
	}
	for name := range sp.Safe.Values {
		add("safe", name)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "the configuration names channels that the sensor does not have: " + strings.Join(names, ", ")
}

// The recovery of a bus: after this many errors in a row that are no missing
// acknowledge, and then again after pauses that grow.
const (
	recoverAfter  = 3
	recoverWithin = 5 * time.Second
)

// freeBus asks for the sensor's bus to be freed, where that may help.
func (r *runner) freeBus(ctx context.Context, err error) {
	var bus *hal.BusError
	r.mu.Lock()
	kind := r.st.Kind
	r.mu.Unlock()
	if !errors.As(err, &bus) && kind != hal.CauseTimeout && kind != hal.CauseBusy {
		r.busErrors = 0
		return
	}
	if r.busErrors++; r.busErrors < recoverAfter || r.s.o.Recover == nil {
		return
	}
	r.busErrors = 0
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	name := ""
	if bus != nil {
		name = bus.Bus
	}
	if r.s.o.Recover(ctx, r.spec, name) {
		r.mu.Lock()
		r.st.Recovered++
		r.mu.Unlock()
	}
}
