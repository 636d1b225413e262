package ingest

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// BenchmarkPublish takes batches of 100 readings of 4 sensors, on a store in
// memory: what expanding costs, without the disk.
func BenchmarkPublish(b *testing.B) {
	for _, deliver := range []bool{false, true} {
		b.Run(fmt.Sprint("deliver=", deliver), func(b *testing.B) {
			t := open(b, vfs.NewMem(), Options{})
			t.run()
			// Memory only holds so much: the sequence goes on, old records go.
			if err := t.store.Update(Stream, 0, 64<<20); err != nil {
				b.Fatal(err)
			}
			batch := telemetry.Batch{Header: telemetry.Header{Clock: telemetry.ClockSynced}}
			for s := range 4 {
				series := telemetry.Series{Sensor: fmt.Sprint("sensor-", s)}
				for _, name := range []string{"temp", "hum", "pressure"} {
					c := telemetry.Column{Name: name, Kind: telemetry.Float}
					for i := range 25 {
						c.Floats = append(c.Floats, float64(2000+i%7)/100)
					}
					series.Columns = append(series.Columns, c)
				}
				for i := range 25 {
					series.Times = append(series.Times, 1_700_000_000_000+int64(i)*250)
				}
				batch.Series = append(batch.Series, series)
			}
			const ahead = 64 // publishes that wait for the disk
			room := make(chan struct{}, ahead)
			var payload []byte
			shown := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch.Seq++
				var err error
				if payload, err = telemetry.Append(nil, &batch); err != nil {
					b.Fatal(err)
				}
				m := send("pump", payload)
				b.StartTimer()
				room <- struct{}{}
				e := t.in.Begin(m, func(string) bool { return true }, func(err error) {
					if err != nil {
						b.Error(err)
					}
					<-room
				})
				if deliver {
					for m := range e.Messages {
						shown += len(m.Payload)
					}
				}
				e.Commit()
			}
			if deliver && shown == 0 {
				b.Error("nothing was shown")
			}
			for range ahead {
				room <- struct{}{}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/reading")
			b.ReportMetric(float64(len(payload))/100, "wire-B/reading")
			b.ReportMetric(float64(t.store.Counters().Bytes)/float64(b.N)/100, "log-B/reading")
		})
	}
}
