package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/sampler"
)

// A member is one thing about a sensor's sampling that the shadow can set.
type member struct {
	name string
	// set takes a desired value into a sampling, or says what is wanted instead.
	set func(s *sampler.Sampling, desired any) error
	// reported is what the configuration's value looks like in the shadow, nil for a
	// default that needs no mention.
	reported func(s *sampler.Sampling) any
}

var members = []member{
	seconds("every", func(s *sampler.Sampling) *time.Duration { return &s.Every }),
	seconds("phase", func(s *sampler.Sampling) *time.Duration { return &s.Phase }),
	seconds("heartbeat", func(s *sampler.Sampling) *time.Duration { return &s.Heartbeat }),
	seconds("window", func(s *sampler.Sampling) *time.Duration { return &s.Window }),
	{"average", func(s *sampler.Sampling, desired any) error {
		n, ok := desired.(json.Number)
		i, err := strconv.Atoi(string(n))
		if !ok || err != nil {
			return errors.New("want a whole number")
		}
		s.Average = i
		return nil
	}, func(s *sampler.Sampling) any {
		if s.Average <= 1 {
			return nil
		}
		return s.Average
	}},
	{"deadband", setDeadband, reportedDeadband},
}

// seconds is a member that is a duration.
func seconds(name string, of func(*sampler.Sampling) *time.Duration) member {
	return member{name, func(s *sampler.Sampling, desired any) error {
		n, ok := desired.(json.Number)
		sec, err := n.Float64()
		if !ok || err != nil {
			return errors.New("want a number of seconds")
		}
		if most := time.Duration(config.MaxEvery).Seconds(); sec < 0 || sec > most {
			return fmt.Errorf("%s seconds, want at most %v", n, config.MaxEvery)
		}
		*of(s) = time.Duration(sec * float64(time.Second))
		return nil
	}, func(s *sampler.Sampling) any {
		d := *of(s)
		if d == 0 {
			return nil
		}
		return d.Seconds()
	}}
}

// setDeadband takes an object with a value for each channel, as the file has it.
func setDeadband(s *sampler.Sampling, desired any) error {
	in, ok := desired.(map[string]any)
	if !ok {
		return errors.New("want an object with a value for each channel")
	}
	s.Deadband = map[string]sampler.Band{}
	for channel, v := range in {
		if n, ok := v.(json.Number); ok {
			v, _ = n.Float64()
		}
		b, want, ok := config.ParseBand(v)
		if !ok {
			return fmt.Errorf("%s: want %s", channel, want)
		}
		s.Deadband[channel] = b
	}
	return nil
}

func reportedDeadband(s *sampler.Sampling) any {
	if len(s.Deadband) == 0 {
		return nil
	}
	out := map[string]any{}
	for channel, b := range s.Deadband {
		switch {
		case b.Never:
			out[channel] = "never"
		case b.Percent > 0:
			out[channel] = strconv.FormatFloat(b.Percent, 'g', -1, 64) + "%"
		default:
			out[channel] = b.Absolute
		}
	}
	return out
}

// sampling is a sensor's by the configuration, and by what the shadow desires over it.
// mu is held.
func (a *Agent) sampling(c *config.Sensor) sampler.Sampling {
	s := c.Sampling()
	for i := range members {
		if v, ok := a.desired[c.Name][members[i].name]; ok {
			_ = members[i].set(&s, v) // it was checked when it was taken
		}
	}
	return s
}

// setMember takes a desired value, or says why it does not hold.
func (a *Agent) setMember(name string, m *member, desired any) error {
	a.mu.Lock()
	c, ok := a.sensor(name)
	if !ok {
		a.mu.Unlock()
		return fmt.Errorf("no such sensor: %s", name)
	}
	s := a.sampling(c)
	a.mu.Unlock()
	if err := m.set(&s, desired); err != nil {
		return err
	}
	if err := errors.Join(config.CheckSampling("", s)...); err != nil {
		return err
	}
	if err := a.sampler.SetSampling(name, s); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.desired[name] == nil {
		a.desired[name] = map[string]any{}
	}
	a.desired[name][m.name] = desired
	a.log.Info("sampling set by the shadow", "sensor", name, m.name, fmt.Sprint(desired))
	return nil
}

// clearMember lets the configuration's value hold again.
func (a *Agent) clearMember(name string, m *member) error {
	a.mu.Lock()
	_, set := a.desired[name][m.name]
	delete(a.desired[name], m.name)
	c, ok := a.sensor(name)
	if !set || !ok { // it was refused, or the sensor is gone
		a.mu.Unlock()
		return nil
	}
	s := a.sampling(c)
	a.mu.Unlock()
	a.log.Info("sampling of the configuration again", "sensor", name, "key", m.name)
	return a.sampler.SetSampling(name, s)
}

// specs are the configured sensors, sampled as the shadow desires.
func (a *Agent) specs(cfg config.Config) []sampler.Spec {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := Specs(cfg)
	for i := range out {
		out[i].Sampling = a.sampling(&cfg.Sensors[i])
	}
	return out
}

// events says whether the readings of a sensor say each something new: those of outputs
// and of sensors that leave out what has not changed. An unknown sensor's do not.
func (a *Agent) events(sensor string) bool {
	for _, s := range a.sampler.Status() {
		if s.Name == sensor {
			return s.Output || s.OnChange()
		}
	}
	return false
}

// Specs are the configured sensors as the sampler wants them.
func Specs(cfg config.Config) []sampler.Spec {
	out := make([]sampler.Spec, len(cfg.Sensors))
	for i := range cfg.Sensors {
		out[i] = cfg.Sensors[i].Spec()
		out[i].Deadband = maps.Clone(out[i].Deadband)
	}
	return out
}
