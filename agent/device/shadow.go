package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/shadow"
	shadowdevice "github.com/tidemill/tidemill/shadow/device"
)

// The shadow of an agent:
//
//	desired.sensors.{name}.every    seconds between readings
//	desired.outputs.{name}.level    true or false
//	reported.agent.version
//	reported.sensors.{name}         every, errors (count), error (the last, while it lasts)
//	reported.outputs.{name}.level   as read back

// settleFor is how long the report waits for more to change, so that a loose
// cable costs few writes to flash.
const settleFor = time.Second

// recount is how often error counts alone are reported.
const recount = 10 * time.Minute

// setWithin is how long an output may take to be open, free and set.
const setWithin = 5 * time.Second

// shadowPeer fits the device's half of the shadow to the uplink.
type shadowPeer struct{ *shadowdevice.Device }

func (p shadowPeer) Connected(pub uplink.Publish) { p.Device.Connected(shadowdevice.Publish(pub)) }

// specs are the configured sensors at the intervals that the shadow desires.
func (a *Agent) specs(cfg config.Config) []sampler.Spec {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := Specs(cfg)
	for i := range out {
		if every, ok := a.intervals[out[i].Name]; ok {
			out[i].Sampling.Every = every
		}
	}
	return out
}

// Specs are the configured sensors as the sampler wants them.
func Specs(cfg config.Config) []sampler.Spec {
	out := make([]sampler.Spec, len(cfg.Sensors))
	for i, s := range cfg.Sensors {
		out[i] = sampler.Spec{Name: s.Name, Driver: s.Driver,
			Sampling: sampler.Sampling{Every: time.Duration(s.Every)},
			Timeout:  time.Duration(s.Timeout), Options: s.Options}
	}
	return out
}

// A property is a handler of a place in desired, and what is done when nothing
// is desired there any more: what the configuration says holds again.
type property struct {
	shadowdevice.HandlerFunc
	clear func(ctx context.Context, name string) error
}

// Clear is given the path of a sensor's or output's member.
func (p property) Clear(ctx context.Context, path []string) error { return p.clear(ctx, path[1]) }

// handle registers the properties that can be set.
func (a *Agent) handle() {
	a.shadow.Handle("sensors.*.every", property{a.setEvery, a.clearEvery})
	a.shadow.Handle("outputs.*.level", property{a.setLevel, a.clearLevel})
}

func (a *Agent) setEvery(_ context.Context, path []string, desired any) (any, error) {
	n, ok := desired.(json.Number)
	if !ok {
		return nil, fmt.Errorf("want a number of seconds")
	}
	sec, err := n.Float64()
	if err != nil || sec < time.Duration(config.MinEvery).Seconds() || sec > time.Duration(config.MaxEvery).Seconds() {
		return nil, fmt.Errorf("%s seconds, want %v to %v", n, config.MinEvery, config.MaxEvery)
	}
	name, every := path[1], time.Duration(sec*float64(time.Second))
	if err := a.sampler.SetSampling(name, sampler.Sampling{Every: every}); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.intervals[name] = every
	a.mu.Unlock()
	a.log.Info("interval set by the shadow", "sensor", name, "every", every)
	return nil, nil
}

func (a *Agent) clearEvery(_ context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.intervals[name]; !ok {
		return nil // it was refused
	}
	delete(a.intervals, name)
	s, ok := a.sensor(name)
	if !ok {
		return nil
	}
	a.log.Info("interval of the configuration again", "sensor", name, "every", s.Every)
	return a.sampler.SetSampling(name, sampler.Sampling{Every: time.Duration(s.Every)})
}

// sensor finds a sensor of the configuration. mu is held.
func (a *Agent) sensor(name string) (config.Sensor, bool) {
	i := slices.IndexFunc(a.cfg.Sensors, func(s config.Sensor) bool { return s.Name == name })
	if i < 0 {
		return config.Sensor{}, false
	}
	return a.cfg.Sensors[i], true
}

func (a *Agent) setLevel(ctx context.Context, path []string, desired any) (any, error) {
	level, ok := desired.(bool)
	if !ok {
		return nil, fmt.Errorf("want true or false")
	}
	ctx, cancel := context.WithTimeout(ctx, setWithin)
	defer cancel()
	got, err := a.sampler.SetOutput(ctx, path[1], "level", hal.BoolValue(level))
	if err != nil {
		return nil, err
	}
	a.log.Info("output set by the shadow", "sensor", path[1], "level", got.Bool())
	return got.Bool(), nil
}

// clearLevel sets an output to its option initial. One without keeps its level,
// as it does at the next start.
func (a *Agent) clearLevel(ctx context.Context, name string) error {
	a.mu.Lock()
	s, _ := a.sensor(name)
	a.mu.Unlock()
	initial, ok := s.Options["initial"].(bool)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, setWithin)
	defer cancel()
	got, err := a.sampler.SetOutput(ctx, name, "level", hal.BoolValue(initial))
	if err == nil {
		a.log.Info("output at the level of the configuration again", "sensor", name, "level", got.Bool())
	}
	return err
}

// poke asks for a report.
func (a *Agent) poke() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// report keeps the reported state up to date until ctx is done.
func (a *Agent) report(ctx context.Context) error {
	tick := time.NewTicker(recount)
	defer tick.Stop()
	for {
		a.catchUp(ctx)
		a.keep()
		select {
		case <-time.After(settleFor):
		case <-ctx.Done():
			return nil
		}
		select {
		case <-a.changed:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// unkept says what is wrong with the reported state, as far as this device knows.
type unkept struct {
	since   time.Time // zero: nothing
	err     string    // it is not on the disk
	leftOut int       // sensors that it has no room for
}

// keep reports the state. What does not fit into a shadow is left out, the
// sensors at the end of the alphabet first. Trouble is logged when it begins,
// changes and ends.
func (a *Agent) keep() {
	state := a.reportedState()
	sensors, _ := state["sensors"].(map[string]any)
	outputs, _ := state["outputs"].(map[string]any)
	kept, _ := a.shadow.Reported()["sensors"].(map[string]any)
	names := slices.Sorted(maps.Keys(sensors))
	// of an earlier configuration
	names = slices.DeleteFunc(names, func(name string) bool { return sensors[name] == nil })
	err := a.shadow.Report(state)
	leftOut := 0
	for errors.Is(err, shadow.ErrTooLarge) && leftOut < len(names) {
		// In steps, since each try costs as much as a report.
		next := min(len(names), leftOut+max(1, len(names)/32))
		for _, name := range names[len(names)-next : len(names)-leftOut] {
			delete(sensors, name)
			delete(outputs, name)
			if _, ok := kept[name]; ok {
				sensors[name], outputs[name] = nil, nil
			}
		}
		leftOut = next
		err = a.shadow.Report(state)
	}
	now := unkept{leftOut: leftOut}
	if err != nil {
		now.err = err.Error()
	}
	a.mu.Lock()
	before := a.unkept
	if now != (unkept{}) {
		if now.since = before.since; now.since.IsZero() {
			now.since = time.Now()
		}
	}
	a.unkept = now
	a.mu.Unlock()
	switch {
	case now == before:
	case err != nil:
		a.log.Error("the reported state could not be kept, will retry", "err", err)
	case leftOut > 0:
		a.log.Warn("the shadow has no room for all sensors: fewer or shorter names would fit", "left_out", leftOut,
			"sensors", len(names),
			"most_bytes", shadow.DefaultMaxSize)
	default:
		a.log.Info("the reported state is kept again, and whole", "after",
			time.Since(before.since).Round(time.Millisecond))
	}
}

// catchUp sets outputs that were not open when the shadow wanted them set.
func (a *Agent) catchUp(ctx context.Context) {
	outputs, _ := a.shadow.Desired()["outputs"].(map[string]any)
	for _, st := range a.sampler.Status() {
		want, _ := outputs[st.Name].(map[string]any)
		level, ok := want["level"].(bool)
		now, known := st.Outputs["level"]
		if !ok || !st.Output || !st.Open || !known || now.Bool() == level || st.Error != "" {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, setWithin)
		if _, err := a.sampler.SetOutput(ctx, st.Name, "level", hal.BoolValue(level)); err != nil {
			a.log.Warn("output could not be set", "sensor", st.Name, "err", err)
		}
		cancel()
	}
}

func (a *Agent) reportedState() map[string]any {
	sensors, outputs := map[string]any{}, map[string]any{}
	seen := map[string]bool{}
	for _, st := range a.sampler.Status() {
		seen[st.Name] = true
		one := map[string]any{"every": st.Every.Seconds(), "errors": st.Errors, "error": nil}
		if st.Error != "" {
			one["error"] = short(st.Error)
		}
		sensors[st.Name] = one
		if level, ok := st.Outputs["level"]; ok {
			outputs[st.Name] = map[string]any{"level": level.Bool()}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reported) == 0 {
		// What an earlier start reported.
		old, _ := a.shadow.Reported()["sensors"].(map[string]any)
		for name := range old {
			a.reported[name] = true
		}
	}
	for name := range a.reported {
		if !seen[name] {
			sensors[name], outputs[name] = nil, nil
			delete(a.reported, name)
		}
	}
	for name := range seen {
		a.reported[name] = true
	}
	return map[string]any{"agent": map[string]any{"version": a.deps.Version}, "sensors": sensors, "outputs": outputs}
}

// short bounds an error's text: a shadow holds 8 KB in all.
func short(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
