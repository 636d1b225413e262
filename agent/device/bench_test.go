package device

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/clock"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/hal"
)

// BenchmarkSink is the way of a reading of four channels from the sampler into the
// spool's memory; flushes are not part of it.
func BenchmarkSink(b *testing.B) {
	sp, err := spool.Open(filepath.Join(b.TempDir(), "spool.db"), spool.Options{FlushEvery: time.Hour,
		MaxBytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer sp.Close()
	s := newSink(sp, clock.Open(clock.Options{}, nil), &broadcast{})
	chs := []hal.Channel{{Name: "temperature", Unit: "°C", Kind: hal.Float},
		{Name: "humidity", Unit: "%RH", Kind: hal.Float}, {Name: "pressure", Unit: "Pa", Kind: hal.Float},
		{Name: "count", Kind: hal.Int}}
	vals := []hal.Value{hal.FloatValue(21.53), hal.FloatValue(41.356), hal.FloatValue(101257.48), hal.IntValue(7)}
	b.ReportAllocs()
	for b.Loop() {
		if s.Append("hall", chs, time.Now(), vals) != nil {
			b.Fatal("not taken")
		}
	}
}
