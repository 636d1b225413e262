package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/shadow"
	shadowdevice "github.com/tidemill/tidemill/shadow/device"
)

// The shadow of an agent:
//
//	desired.sensors.{name}             every, phase, heartbeat, window (seconds), average, deadband
//	desired.outputs.{name}.{channel}   true, false or a number
//	reported.agent.version
//	reported.device_configuration      state (applied, refused) of what provisioning gave; errors
//	reported.sensors.{name}            the same, and errors (count), state; since, error and
//	                                   kind while it is not ok
//	reported.outputs.{name}.{channel}  as read back
//	reported.errors                    desired values that are refused, and why

// settleFor is how long the report waits for more to change, so that a loose
// cable costs few writes to flash.
const settleFor = time.Second

// recount is how often error counts alone are reported.
const recount = 10 * time.Minute

// shadowPeer fits the device's half of the shadow to the uplink.
type shadowPeer struct {
	*shadowdevice.Device
	lost func() // the connection is
}

func (p shadowPeer) Connected(pub uplink.Publish) { p.Device.Connected(shadowdevice.Publish(pub)) }

// Disconnected tells both.
func (p shadowPeer) Disconnected() {
	p.Device.Disconnected()
	p.lost()
}

// A property is a handler of a place in desired, and what is done when nothing
// is desired there any more: what the configuration says holds again.
type property struct {
	shadowdevice.HandlerFunc
	clear func(ctx context.Context, path []string) error
}

// Clear is given the path of a sensor's or output's member.
func (p property) Clear(ctx context.Context, path []string) error { return p.clear(ctx, path) }

// handle registers the properties that can be set.
func (a *Agent) handle() {
	for i := range members {
		m := &members[i]
		a.shadow.Handle("sensors.*."+m.name, property{
			func(_ context.Context, path []string, desired any) (any, error) {
				return nil, a.setMember(path[1], m, desired)
			},
			func(_ context.Context, path []string) error { return a.clearMember(path[1], m) }})
	}
	a.shadow.Handle("outputs.*.*", property{a.setOutput, a.clearOutput})
}

// sensor finds a sensor of the configuration. mu is held.
func (a *Agent) sensor(name string) (*config.Sensor, bool) {
	i := slices.IndexFunc(a.cfg.Sensors, func(s config.Sensor) bool { return s.Name == name })
	if i < 0 {
		return nil, false
	}
	return &a.cfg.Sensors[i], true
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

func (a *Agent) reportedState() map[string]any {
	sensors, outputs := map[string]any{}, map[string]any{}
	before, _ := a.shadow.Reported()["sensors"].(map[string]any)
	seen := map[string]bool{}
	for _, st := range a.sampler.Status() {
		seen[st.Name] = true
		old, _ := before[st.Name].(map[string]any)
		sensors[st.Name] = a.reportedSensor(&st, old)
		if len(st.Outputs) > 0 {
			channels := map[string]any{}
			for name, v := range st.Outputs {
				channels[name] = jsonValue(v)
			}
			outputs[st.Name] = channels
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reported) == 0 {
		// What an earlier start reported.
		for name := range before {
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
	return map[string]any{"agent": map[string]any{"version": a.deps.Version}, "sensors": sensors, "outputs": outputs,
		"device_configuration": reportedRemote(&a.cfg.Remote)}
}

// maxReportedErrors bounds what is reported of a deviceConfiguration: a shadow holds 8 KB in
// all. Status has the others.
const maxReportedErrors = 5

// reportedRemote is what became of the deviceConfiguration, nil for none.
func reportedRemote(r *config.Remote) any {
	switch {
	case r.State == config.RemoteNone:
		return nil
	case len(r.Errors) == 0:
		return map[string]any{"state": r.State, "errors": nil}
	}
	var errs []any
	for _, text := range r.Errors[:min(len(r.Errors), maxReportedErrors)] {
		errs = append(errs, short(text))
	}
	if left := len(r.Errors) - len(errs); left > 0 {
		errs = append(errs, fmt.Sprintf("and %d more", left))
	}
	return map[string]any{"state": r.State, "errors": errs}
}

// reportedSensor is what is reported of one sensor; old is what was.
func (a *Agent) reportedSensor(st *sampler.Status, old map[string]any) map[string]any {
	one := map[string]any{"errors": st.Errors, "state": string(st.State), "since": nil, "error": nil, "kind": nil}
	if st.State != sampler.OK {
		one["since"] = st.Since.Unix()
	}
	if st.Error != "" {
		one["error"], one["kind"] = short(st.Error), st.Kind
	}
	a.mu.Lock()
	desired := a.desired[st.Name]
	a.mu.Unlock()
	for i := range members {
		m := &members[i]
		v, ok := desired[m.name]
		if !ok {
			v = m.reported(&st.Sampling)
		}
		one[m.name] = instead(old[m.name], v)
	}
	return one
}

// instead is the patch that puts v in the place of old: members that v does not have
// are removed.
func instead(old, v any) any {
	had, was := old.(map[string]any)
	has, is := v.(map[string]any)
	if !was || !is {
		return v
	}
	out := maps.Clone(has)
	for k := range had {
		if _, ok := has[k]; !ok {
			out[k] = nil
		}
	}
	return out
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
