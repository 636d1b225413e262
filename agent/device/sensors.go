package device

import (
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
)

// SensorStatus is one sensor's part of Status. Durations are texts such as "20ms".
type SensorStatus struct {
	Name   string `json:"name"`
	Driver string `json:"driver"`

	Every     string         `json:"every"`
	Phase     string         `json:"phase,omitempty"`
	Average   int            `json:"average,omitempty"`
	Deadband  map[string]any `json:"deadband,omitempty"`
	Heartbeat string         `json:"heartbeat,omitempty"`
	Window    string         `json:"window,omitempty"`

	State   string    `json:"state"` // see sampler.State
	Since   time.Time `json:"since"` // of State
	Open    bool      `json:"open"`
	Error   string    `json:"error,omitempty"`
	Kind    string    `json:"error_kind,omitempty"`
	ErrorAt time.Time `json:"error_at,omitzero"`
	Stuck   bool      `json:"stuck,omitempty"` // the driver does not return
	Note    string    `json:"note,omitempty"`

	Reads       uint64       `json:"reads"`    // of the sensor
	Readings    uint64       `json:"readings"` // kept, to be sent
	Same        uint64       `json:"unchanged,omitempty"`
	Missed      uint64       `json:"missed"`
	Overruns    uint64       `json:"overruns,omitempty"`
	Errors      uint64       `json:"errors"`
	Implausible uint64       `json:"implausible,omitempty"`
	Recovered   uint64       `json:"bus_recoveries,omitempty"`
	Dropped     uint64       `json:"dropped,omitempty"` // by its source
	Lost        uint64       `json:"windows_lost,omitempty"`
	Jitter      JitterStatus `json:"jitter"`
	Last        time.Time    `json:"last,omitzero"`

	Level   *bool          `json:"level,omitempty"` // of Outputs
	Outputs map[string]any `json:"outputs,omitempty"`
	Held    bool           `json:"held,omitempty"` // at what is safe, since the bridge is not heard
}

// JitterStatus says how late readings began, in milliseconds.
type JitterStatus struct {
	Mean float64 `json:"mean_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

func sensorStatus(s *sampler.Status) SensorStatus {
	length := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	out := SensorStatus{Name: s.Name, Driver: s.Driver, Every: s.Every.String(), Phase: length(s.Phase),
		Average: s.Average, Heartbeat: length(s.Heartbeat), Window: length(s.Window),
		State: string(s.State), Since: s.Since.Round(0), Open: s.Open, Error: s.Error, Kind: s.Kind, ErrorAt: s.ErrorAt,
		Stuck: s.Hangs, Note: s.Note, Reads: s.Reads, Readings: s.Readings, Same: s.Same, Missed: s.Missed,
		Overruns: s.Overruns, Errors: s.Errors, Implausible: s.Implausible, Recovered: s.Recovered, Lost: s.Lost,
		Dropped: s.Dropped, Last: s.Last,
		Jitter: JitterStatus{Mean: ms(s.Jitter.Mean), P99: ms(s.Jitter.P99), Max: ms(s.Jitter.Max)}, Held: s.Held}
	out.Deadband, _ = reportedDeadband(&s.Sampling).(map[string]any)
	for channel, v := range s.Outputs {
		if out.Outputs == nil {
			out.Outputs = map[string]any{}
		}
		out.Outputs[channel] = jsonValue(v)
		if channel == "level" && v.Kind() == hal.Bool {
			level := v.Bool()
			out.Level = &level
		}
	}
	return out
}

// sensorFamilies are the metrics of each sensor.
var sensorFamilies = []struct {
	name, kind, help string
	value            func(*SensorStatus) float64
}{
	{"readings_total", "counter", "Readings handed to the spool.",
		func(s *SensorStatus) float64 { return float64(s.Readings) }},
	{"reads_total", "counter", "Readings taken.", func(s *SensorStatus) float64 { return float64(s.Reads) }},
	{"unchanged_total", "counter", "Readings left out, since nothing had changed.",
		func(s *SensorStatus) float64 { return float64(s.Same) }},
	{"missed_total", "counter", "Ticks left out.", func(s *SensorStatus) float64 { return float64(s.Missed) }},
	{"overruns_total", "counter", "Readings that took longer than the interval.",
		func(s *SensorStatus) float64 { return float64(s.Overruns) }},
	{"errors_total", "counter", "Failures to open, read or set.",
		func(s *SensorStatus) float64 { return float64(s.Errors) }},
	{"dropped_total", "counter", "Readings that the source dropped, since more came than were taken.",
		func(s *SensorStatus) float64 { return float64(s.Dropped) }},
	{"implausible_total", "counter", "Values outside of their bounds, or none that are numbers; they were not sent.",
		func(s *SensorStatus) float64 { return float64(s.Implausible) }},
	{"bus_recoveries_total", "counter", "Times that the sensor's bus was freed.",
		func(s *SensorStatus) float64 { return float64(s.Recovered) }},
	{"windows_lost_total", "counter", "Windows that the spool took neither at their end nor at the next one's.",
		func(s *SensorStatus) float64 { return float64(s.Lost) }},
	{"up", "gauge", "1 if open and the last reading succeeded.",
		func(s *SensorStatus) float64 { return flag(s.Open && s.Error == "") }},
	{"held", "gauge", "1 while an output is at what is safe, since the bridge is not heard.",
		func(s *SensorStatus) float64 { return flag(s.Held) }},
	{"jitter_mean_seconds", "gauge", "How late readings begin, on average.",
		func(s *SensorStatus) float64 { return s.Jitter.Mean / 1000 }},
	{"jitter_p99_seconds", "gauge", "How late readings begin, 99 of 100 at most.",
		func(s *SensorStatus) float64 { return s.Jitter.P99 / 1000 }},
	{"jitter_max_seconds", "gauge", "How late a reading began at most.",
		func(s *SensorStatus) float64 { return s.Jitter.Max / 1000 }},
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// gauge is an output's value as a number.
func gauge(v any) (float64, bool) {
	switch x := v.(type) {
	case bool:
		return flag(x), true
	case float64:
		return x, true
	case int64:
		return float64(x), true
	}
	return 0, false
}

func sensorMetrics(m *health.Metrics, sensors []SensorStatus) {
	for _, f := range sensorFamilies {
		name := "tidemill_agent_sensor_" + f.name
		m.Family(name, f.kind, f.help)
		for i := range sensors {
			m.Sample(name, f.value(&sensors[i]), "sensor", sensors[i].Name, "driver", sensors[i].Driver)
		}
	}
	const output = "tidemill_agent_output"
	m.Family(output, "gauge", "What an output is; 0 or 1 for a level.")
	for i := range sensors {
		s := &sensors[i]
		for _, channel := range slices.Sorted(maps.Keys(s.Outputs)) {
			if x, ok := gauge(s.Outputs[channel]); ok {
				m.Sample(output, x, "sensor", s.Name, "channel", channel)
			}
		}
	}
	const state = "tidemill_agent_sensor_state"
	m.Family(state, "gauge", "1 for the state that a sensor is in, with the kind of its error.")
	for i := range sensors {
		s := &sensors[i]
		m.Sample(state, 1, "sensor", s.Name, "driver", s.Driver, "state", s.State, "kind", s.Kind)
	}
}
