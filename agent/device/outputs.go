package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
)

// setWithin is how long an output may take to be open, free and set.
const setWithin = 5 * time.Second

// outputValue takes a JSON value for an output.
func outputValue(v any) (hal.Value, error) {
	switch x := v.(type) {
	case bool:
		return hal.BoolValue(x), nil
	case json.Number:
		if f, err := x.Float64(); err == nil {
			return hal.FloatValue(f), nil
		}
	}
	return hal.Value{}, errors.New("want true, false or a number")
}

// jsonValue is a value as JSON has it, nil for none.
func jsonValue(v hal.Value) any {
	switch v.Kind() {
	case hal.Float:
		return v.Float()
	case hal.Int:
		return v.Int()
	case hal.Bool:
		return v.Bool()
	case hal.Text:
		return v.Text()
	}
	return nil
}

// sameOutput compares an output with what is desired of it.
func sameOutput(is, want hal.Value) bool {
	if is.Kind() == hal.Int && want.Kind() == hal.Float {
		return float64(is.Int()) == want.Float()
	}
	return is == want
}

// setOutput takes a desired value, or says why it is refused. What it returns is what
// the output is now: on its way there, or safe while the bridge was not heard.
func (a *Agent) setOutput(ctx context.Context, path []string, desired any) (any, error) {
	name, channel := path[1], path[2]
	v, err := outputValue(desired)
	if err != nil {
		return nil, err
	}
	a.refuse(name, channel, nil)
	ctx, cancel := context.WithTimeout(ctx, setWithin)
	defer cancel()
	got, err := a.sampler.SetOutput(ctx, name, channel, v)
	if errors.Is(err, sampler.ErrRefused) {
		a.refuse(name, channel, &v)
	}
	if err != nil {
		return nil, err
	}
	if got.Kind() == hal.Absent {
		return nil, errors.New("its level is not known yet")
	}
	a.log.Info("output set by the shadow", "sensor", name, "channel", channel, "desired", fmt.Sprint(desired),
		"now", jsonValue(got))
	return jsonValue(got), nil
}

// An outputKey is a channel of an actuator.
type outputKey struct{ sensor, channel string }

// refuse remembers a value that an output does not take, so that it is not tried again
// and again; nil forgets it.
func (a *Agent) refuse(sensor, channel string, v *hal.Value) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v == nil {
		delete(a.refused, outputKey{sensor, channel})
		return
	}
	a.refused[outputKey{sensor, channel}] = *v
}

func (a *Agent) isRefused(sensor, channel string, v hal.Value) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	no, ok := a.refused[outputKey{sensor, channel}]
	return ok && no == v
}

// clearOutput sets an output to its option initial, or to what is safe. One without keeps
// its level, as it does at the next start.
func (a *Agent) clearOutput(ctx context.Context, path []string) error {
	name, channel := path[1], path[2]
	a.mu.Lock()
	var value hal.Value
	if s, ok := a.sensor(name); ok {
		value = s.Safe.Values[channel]
		// The option initial of gpio-out, and that of pwm.
		switch initial := s.Options["initial"].(type) {
		case bool:
			value = hal.BoolValue(initial)
		case float64:
			value = hal.FloatValue(initial)
		case int64:
			value = hal.IntValue(initial)
		}
	}
	a.mu.Unlock()
	if value.Kind() == hal.Absent {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, setWithin)
	defer cancel()
	got, err := a.sampler.SetOutput(ctx, name, channel, value)
	if err == nil {
		a.log.Info("output at the level of the configuration again", "sensor", name, "channel", channel, "now",
			jsonValue(got))
	}
	return err
}

// catchUp sets outputs that were not open when the shadow wanted them set, or were held.
func (a *Agent) catchUp(ctx context.Context) {
	outputs, _ := a.shadow.Desired()["outputs"].(map[string]any)
	for _, st := range a.sampler.Status() {
		want, _ := outputs[st.Name].(map[string]any)
		for channel, v := range want {
			now, known := st.Outputs[channel]
			value, err := outputValue(v)
			if err != nil || a.isRefused(st.Name, channel, value) || !known || !st.Open || st.Held || sameOutput(now,
				value) {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, setWithin)
			if _, err := a.sampler.SetOutput(ctx, st.Name, channel, value); err != nil {
				a.log.Warn("output could not be set", "sensor", st.Name, "channel", channel, "err", err)
			}
			cancel()
		}
	}
}

// guardEvery is how often the guard looks whether the bridge was away for too long.
const guardEvery = time.Second

// A guard knows how long the bridge was not heard. It was heard when it said what the
// shadow is: a connection alone does not tell what outputs should be.
type guard struct {
	mu    sync.Mutex // guards the rest
	heard bool       // since the connection was made
	lost  time.Time  // when the last connection ended; zero: there was none that was heard
}

func (g *guard) hear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = true
}

func (g *guard) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.heard {
		g.heard, g.lost = false, time.Now()
	}
}

// silent says whether the bridge was away for so long.
func (g *guard) silent(after time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.heard && (g.lost.IsZero() || time.Since(g.lost) >= after)
}

// hold holds the outputs that are to be safe without the bridge, and lets go of others.
func (a *Agent) hold() {
	for _, s := range a.config().Sensors {
		if s.Safe.After > 0 {
			// It may just have been removed.
			_ = a.sampler.Hold(s.Name, a.guard.silent(time.Duration(s.Safe.After)))
		}
	}
}

// watchBridge holds outputs until ctx is done.
func (a *Agent) watchBridge(ctx context.Context) error {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	was := false
	for {
		// What is heard again is told by the shadow; here only what is not heard.
		if silent := a.guard.silent(0); silent || was {
			a.hold()
			was = silent
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
