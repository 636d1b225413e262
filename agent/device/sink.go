package device

import (
	"strings"

	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/hal"
)

// A sink turns hal's values into telemetry's: neither package knows the other.
type sink struct {
	spool *spool.Spool
	feed  *feed
}

var kinds = [...]telemetry.Kind{hal.Float: telemetry.Float, hal.Int: telemetry.Int, hal.Bool: telemetry.Bool,
	hal.Text: telemetry.Text}

// Append puts one reading into the spool, and shows it to those who watch.
func (s sink) Append(sensor string, chs []hal.Channel, t int64, vals []hal.Value) error {
	out := make([]telemetry.Channel, len(chs))
	for i, c := range chs {
		out[i] = telemetry.Channel{Name: c.Name, Unit: c.Unit, Kind: kinds[c.Kind]}
	}
	values := make([]telemetry.Value, len(vals))
	for i, v := range vals {
		switch v.Kind() {
		case hal.Float:
			values[i] = telemetry.FloatValue(v.Float())
		case hal.Int:
			values[i] = telemetry.IntValue(v.Int())
		case hal.Bool:
			values[i] = telemetry.BoolValue(v.Bool())
		case hal.Text:
			values[i] = telemetry.TextValue(v.Text())
		}
	}
	s.feed.put(sensor, chs, t, vals)
	return s.spool.Append(sensor, out, t, values)
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
