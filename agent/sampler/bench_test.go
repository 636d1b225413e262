package sampler

import (
	"context"
	"testing"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// still is a sensor of four channels that takes no time and no memory.
type still struct{ vals []hal.Value }

func (s *still) Channels() []hal.Channel {
	return []hal.Channel{{Name: "temperature", Unit: "°C", Kind: hal.Float}, {Name: "humidity", Unit: "%RH",
		Kind: hal.Float},
		{Name: "pressure", Unit: "Pa", Kind: hal.Float}, {Name: "count", Kind: hal.Int}}
}
func (s *still) Read(context.Context) ([]hal.Value, error) { return s.vals, nil }
func (s *still) Close() error                              { return nil }

type nowhere struct{}

func (nowhere) Append(string, []hal.Channel, time.Time, []hal.Value) error { return nil }

// BenchmarkReading is what the sampler adds to a reading of four channels, from the tick
// to the sink.
func BenchmarkReading(b *testing.B) {
	for _, c := range []struct {
		name string
		s    Sampling
	}{
		{"plain", Sampling{}},
		{"average=8", Sampling{Average: 8}},
		{"deadband", Sampling{Deadband: map[string]Band{"temperature": {Absolute: 0.1}}}},
		{"window", Sampling{Window: time.Minute}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.s.Every = 10 * time.Millisecond
			sn := &still{vals: []hal.Value{hal.FloatValue(21.53), hal.FloatValue(41.356), hal.FloatValue(101257.48),
				hal.IntValue(7)}}
			r := newRunner(New(Options{Sink: nowhere{}}), Spec{Name: "x", Sampling: c.s, Timeout: time.Second,
				Bounds: map[string]Bounds{"temperature": {-40, 85}}})
			r.prepare()
			v := r.newOpenSensor(sn)
			b.ReportAllocs()
			for b.Loop() {
				v.scheduled(b.Context())
			}
			if r.st.Errors > 0 {
				b.Fatal(r.st.Error)
			}
		})
	}
}
