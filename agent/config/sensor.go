package config

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
)

// A Sensor is one source of readings, or an actuator.
type Sensor struct {
	Name      string                    `toml:"name"`
	Driver    string                    `toml:"driver"`
	Every     Duration                  `toml:"every"`
	Phase     Duration                  `toml:"phase"`
	Average   int64                     `toml:"average"` // readings at a tick; 0 is 1
	Deadband  map[string]sampler.Band   `toml:"deadband"`
	Heartbeat Duration                  `toml:"heartbeat"`
	Window    Duration                  `toml:"window"`
	Timeout   Duration                  `toml:"timeout"` // of one reading; default: Every, at most 10 s
	Bounds    map[string]sampler.Bounds `toml:"bounds"`
	Limits    map[string]Limit          `toml:"limits"` // of an actuator
	Safe      Safe                      `toml:"safe"`   // of an actuator
	Options   map[string]any            `toml:"options"`
}

// A Limit is how a channel of an actuator may be set.
type Limit struct {
	Min         float64  `toml:"min"` // -Inf and +Inf if left out
	Max         float64  `toml:"max"`
	MaxRate     float64  `toml:"max_rate"`     // a second; 0: none
	MinInterval Duration `toml:"min_interval"` // between two changes
}

// Safe is what an actuator is set to at the start, at the end, and once the bridge was
// not heard for After; 0: not for that. Values are by channel.
type Safe struct {
	Values map[string]hal.Value
	After  Duration
}

// Sampling is how the sampler reads the sensor.
func (s *Sensor) Sampling() sampler.Sampling {
	return sampler.Sampling{Every: time.Duration(s.Every), Phase: time.Duration(s.Phase), Average: int(s.Average),
		Deadband: s.Deadband, Heartbeat: time.Duration(s.Heartbeat), Window: time.Duration(s.Window)}
}

// Spec is the sensor as the sampler wants it.
func (s *Sensor) Spec() sampler.Spec {
	sp := sampler.Spec{Name: s.Name, Driver: s.Driver, Sampling: s.Sampling(), Timeout: time.Duration(s.Timeout),
		Options: s.Options, Bounds: s.Bounds, Safe: sampler.Safe{Values: s.Safe.Values, Held: s.Safe.After > 0}}
	if len(s.Limits) > 0 {
		sp.Limits = map[string]sampler.Limit{}
	}
	for channel, l := range s.Limits {
		sp.Limits[channel] = sampler.Limit{Min: l.Min, Max: l.Max, Rate: l.MaxRate,
			Interval: time.Duration(l.MinInterval)}
	}
	return sp
}

// members decodes a table with one value for each channel, or bus.
func members[T any](in any, key string, out *map[string]T, one func(in any, out *T,
	key string) []error) (errs []error) {
	m, ok := in.(map[string]any)
	if !ok {
		return wrong(in, key, "a table with a value for each name")
	}
	*out = map[string]T{}
	for channel, v := range m {
		var t T
		errs = append(errs, one(v, &t, key+"."+channel)...)
		(*out)[channel] = t
	}
	return errs
}

// number is a whole one or another.
func number(in any) (float64, bool) {
	switch n := in.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, !math.IsNaN(n)
	}
	return 0, false
}

// wantBand is what a Band is written as.
const wantBand = `a number, a percentage such as "2%", or "never"`

// ParseBand takes a deadband as it is written: a number in the channel's unit, "2%", or
// "never" for a channel that causes no reading by itself.
func ParseBand(in any) (b sampler.Band, want string, ok bool) {
	if x, is := number(in); is {
		return sampler.Band{Absolute: x}, wantBand, true
	}
	s, _ := in.(string)
	if s == "never" {
		return sampler.Band{Never: true}, wantBand, true
	}
	digits, is := strings.CutSuffix(s, "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	return sampler.Band{Percent: x}, wantBand, is && err == nil && !math.IsNaN(x)
}

func band(in any, out *sampler.Band, key string) []error {
	b, want, ok := ParseBand(in)
	if !ok {
		return wrong(in, key, want)
	}
	*out = b
	return nil
}

func bounds(in any, out *sampler.Bounds, key string) []error {
	list, _ := in.([]any)
	if len(list) == 2 {
		low, ok := number(list[0])
		high, also := number(list[1])
		if ok && also {
			*out = sampler.Bounds{Min: low, Max: high}
			return nil
		}
	}
	return wrong(in, key, "two numbers, such as [-40, 85]")
}

func limit(in any, out *Limit, key string) []error {
	*out = Limit{Min: math.Inf(-1), Max: math.Inf(1)}
	m, ok := in.(map[string]any)
	if !ok {
		return wrong(in, key, "a table with min, max, max_rate and min_interval")
	}
	return table(m, valueOf(out), key+".")
}

// safe decodes what is a Duration under "after", and channels beside it.
func safe(in any, out *Safe, key string) (errs []error) {
	m, ok := in.(map[string]any)
	if !ok {
		return wrong(in, key, "a table with a value for each channel, and after")
	}
	out.Values = map[string]hal.Value{}
	for channel, v := range m {
		if channel == "after" {
			errs = append(errs, value(v, valueOf(&out.After), key+".after")...)
			continue
		}
		switch x := v.(type) {
		case bool:
			out.Values[channel] = hal.BoolValue(x)
		case int64:
			out.Values[channel] = hal.IntValue(x)
		case float64:
			out.Values[channel] = hal.FloatValue(x)
		default:
			errs = append(errs, wrong(v, key+"."+channel, "true, false or a number")...)
		}
	}
	return errs
}

// The bounds of what a sensor's sampling may be, also for what the shadow desires.
const (
	MinEvery   = Duration(10 * time.Millisecond)
	MaxEvery   = Duration(24 * time.Hour)
	maxAverage = 64
	minWindow  = Duration(time.Second)
	minAfter   = Duration(10 * time.Second) // less would be a connection that is merely made anew
	maxAfter   = 30 * day
)

// CheckSampling returns what is wrong with a sampling, each error beginning with at and
// the key.
func CheckSampling(at string, s sampler.Sampling) []error {
	f := &findings{}
	f.sampling(at, s)
	return f.errs
}

func (f *findings) sampling(at string, s sampler.Sampling) {
	f.span(at+"every", Duration(s.Every), MinEvery, MaxEvery)
	f.span(at+"phase", Duration(s.Phase), 0, MaxEvery)
	if s.Average < 0 || s.Average > maxAverage {
		f.bad(at+"average", s.Average, "1 to "+strconv.Itoa(maxAverage))
	}
	f.span(at+"heartbeat", Duration(s.Heartbeat), 0, MaxEvery)
	if s.Window != 0 {
		f.span(at+"window", Duration(s.Window), minWindow, MaxEvery)
	}
	for _, channel := range slices.Sorted(maps.Keys(s.Deadband)) {
		key, b := at+"deadband."+channel, s.Deadband[channel]
		f.channel(key, channel)
		if !(b.Absolute >= 0) || math.IsInf(b.Absolute, 0) {
			f.bad(key, b.Absolute, "0 or more")
		} else if !(b.Percent >= 0 && b.Percent <= 100) {
			f.bad(key, strconv.FormatFloat(b.Percent, 'g', -1, 64)+"%", "0 to 100%")
		}
	}
}

// channel wants a name that a channel can have.
func (f *findings) channel(key, name string) {
	f.form(key, name, form.Channel, "a channel's name: a-z 0-9 _, at most 32")
}

func (c *Config) checkSensors(f *findings, options func(string, map[string]any) []error) {
	names := map[string]bool{}
	for i := range c.Sensors {
		sn, at := &c.Sensors[i], "sensor["+strconv.Itoa(i)+"]."
		if f.form(at+"name", sn.Name, sensorName, "1 to 64 characters of A-Z a-z 0-9 _ : -"); names[sn.Name] {
			f.bad(at+"name", strconv.Quote(sn.Name), "a name no other sensor has")
		}
		names[sn.Name] = true
		sn.check(f, at)
		// A link that is gone is noticed by a ping.
		if after := sn.Safe.After; after > 0 && c.Uplink.KeepAliveMax > after {
			f.bad("uplink.keepalive_max", c.Uplink.KeepAliveMax, "at most "+at+"safe.after, "+after.String())
		}
		if sn.Driver == "" {
			f.bad(at+"driver", `""`, "the name of a driver (tidemill-agent sensors lists them)")
		} else if options != nil {
			for _, err := range options(sn.Driver, sn.Options) {
				f.option(i, sn.Name, err)
			}
		}
	}
}

// check checks all but name, driver and options.
func (sn *Sensor) check(f *findings, at string) {
	f.sampling(at, sn.Sampling())
	f.span(at+"timeout", sn.Timeout, ms, hour)
	if sn.Phase > 0 && sn.Phase >= sn.Every {
		f.bad(at+"phase", sn.Phase, "less than every, "+sn.Every.String())
	}
	if sn.Window > 0 && (sn.Heartbeat > 0 || len(sn.Deadband) > 0) {
		f.bad(at+"window", sn.Window, "none beside deadband or heartbeat: a window is sent whole")
	} else if sn.Window > 0 && sn.Window < sn.Every {
		f.bad(at+"window", sn.Window, "at least every, "+sn.Every.String())
	}
	for _, channel := range slices.Sorted(maps.Keys(sn.Bounds)) {
		b := sn.Bounds[channel]
		f.channel(at+"bounds."+channel, channel)
		if !(b.Min < b.Max) {
			f.bad(at+"bounds."+channel, []float64{b.Min, b.Max}, "the smaller one first")
		}
	}
	for _, channel := range slices.Sorted(maps.Keys(sn.Limits)) {
		l, key := sn.Limits[channel], at+"limits."+channel
		f.channel(key, channel)
		if !(l.Min < l.Max) {
			f.bad(key+".min", l.Min, "less than max, "+strconv.FormatFloat(l.Max, 'g', -1, 64))
		}
		if !(l.MaxRate >= 0) || math.IsInf(l.MaxRate, 0) {
			f.bad(key+".max_rate", l.MaxRate, "0 or more in a second")
		}
		f.span(key+".min_interval", l.MinInterval, 0, day)
	}
	if sn.Safe.After != 0 {
		f.span(at+"safe.after", sn.Safe.After, minAfter, maxAfter)
	}
	if sn.Safe.After != 0 && len(sn.Safe.Values) == 0 {
		f.bad(at+"safe.after", sn.Safe.After, "a channel with a value beside it")
	}
	for _, channel := range slices.Sorted(maps.Keys(sn.Safe.Values)) {
		v, key := sn.Safe.Values[channel], at+"safe."+channel
		f.channel(key, channel)
		l, limited := sn.Limits[channel]
		x := v.Float()
		if v.Kind() == hal.Int {
			x = float64(v.Int())
		}
		if limited && v.Kind() != hal.Bool && !(x >= l.Min && x <= l.Max) {
			f.bad(key, x, "a value within sensor.limits")
		}
	}
}
