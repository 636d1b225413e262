package device

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/clock"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/hal"
)

// A sink turns hal's values into telemetry's: neither package knows the other. It takes
// no memory for a reading but what the spool keeps.
type sink struct {
	spool *spool.Spool
	clock *clock.Clock
	watch *broadcast

	mu     sync.Mutex // guards shapes
	shapes map[string]*shape
	values sync.Pool // of *[]telemetry.Value
}

// A shape is the channels of a sensor's last reading, in both forms. It is not changed.
type shape struct {
	from []hal.Channel
	to   []telemetry.Channel
}

func newSink(s *spool.Spool, c *clock.Clock, f *broadcast) *sink {
	return &sink{spool: s, clock: c, watch: f, shapes: map[string]*shape{},
		values: sync.Pool{New: func() any { return new([]telemetry.Value) }}}
}

var kinds = [...]telemetry.Kind{hal.Float: telemetry.Float, hal.Int: telemetry.Int, hal.Bool: telemetry.Bool,
	hal.Text: telemetry.Text}

// channels returns a sensor's in telemetry's form.
func (s *sink) channels(sensor string, chs []hal.Channel) []telemetry.Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.shapes[sensor]; known != nil && slices.Equal(known.from, chs) {
		return known.to
	}
	made := &shape{from: slices.Clone(chs), to: make([]telemetry.Channel, len(chs))}
	for i, c := range chs {
		made.to[i] = telemetry.Channel{Name: c.Name, Unit: c.Unit, Kind: kinds[c.Kind]}
	}
	s.shapes[sensor] = made
	return made.to
}

// Append puts one reading into the spool, and shows it to those who watch.
func (s *sink) Append(sensor string, chs []hal.Channel, at time.Time, vals []hal.Value) error {
	buf := s.values.Get().(*[]telemetry.Value)
	defer s.values.Put(buf)
	values := (*buf)[:0]
	for _, v := range vals {
		out := telemetry.Value{}
		switch v.Kind() {
		case hal.Float:
			out = telemetry.FloatValue(v.Float())
		case hal.Int:
			out = telemetry.IntValue(v.Int())
		case hal.Bool:
			out = telemetry.BoolValue(v.Bool())
		case hal.Text:
			out = telemetry.TextValue(v.Text())
		}
		values = append(values, out)
	}
	*buf = values
	t := s.clock.Taken(at)
	s.watch.put(sensor, chs, func() int64 { return s.clock.Wall(t) }, vals)
	return s.spool.Append(sensor, s.channels(sensor, chs), t, values)
}

// expander returns the uplink's Expand: each reading as JSON on the sensor's
// topic, sensor by sensor, oldest first.
func expander(topic string) uplink.Expand {
	return func(payload []byte, publish func(string, []byte) error) error {
		b, err := telemetry.Decode(payload)
		if err != nil {
			return err
		}
		var buf []byte
		doubt := b.Doubt(0)
		for i := range b.Series {
			s := &b.Series[i]
			to := strings.ReplaceAll(topic, "{sensor}", s.Sensor)
			for j := range s.Times {
				buf = s.AppendJSON(buf[:0], j, doubt)
				if err := publish(to, buf); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
