package rules

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// BenchmarkReplay is the rate at which one goroutine replays the reference
// rule over a million messages of 200 bytes on disk: read, decoded and
// evaluated for both rules.
//
//	go test ./bridge/speed/rules -run '^$' -bench Replay -benchtime 1x
func BenchmarkReplay(b *testing.B) {
	const messages = 1_000_000
	store := replayLog(b, messages)
	const reference = "SELECT temp, hum, topic() AS t FROM 'dt/#' WHERE temp > "
	for _, c := range []struct {
		name, old, new string
		fires, changes uint64 // of messages
	}{
		{"threshold", reference + "30", reference + "25", messages / 2, 0},
		{"output", reference + "30", "SELECT temp, hum * 1.5 AS hum, topic() AS t FROM 'dt/#' WHERE temp > 30", 0,
			messages / 2},
		{"other-topics", reference + "30", "SELECT temp FROM 'other/#' WHERE temp > 30", 0, 0},
		{"neither-topic", "SELECT a FROM 'dt/+'", "SELECT temp FROM 'other/#' WHERE temp > 30", 0, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := New(store, Options{Account: "000000000000", Log: slog.New(slog.DiscardHandler)})
			r := &Replay{Old: replayed(b, "hot", c.old), New: replayed(b, "hot", c.new), Examples: 3}
			b.ReportAllocs()
			for b.Loop() {
				report, err := e.Replay(b.Context(), r, func(uint64, uint64) {})
				if err != nil {
					b.Fatal(err)
				}
				if report.Messages != messages || report.Differences[fires].Count != c.fires ||
					report.Differences[changes].Count != c.changes {
					b.Fatalf("%+v", report)
				}
			}
			b.ReportMetric(float64(messages)*float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// replayLog makes an ingest log on disk, as a bridge with 16 shards and group
// commits of 400 messages would.
func replayLog(b *testing.B, messages int) *pebble.Store {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	const shards, group = 16, 400
	store, err := pebble.Open(b.TempDir(), pebble.Options{})
	must(err)
	must(store.Create(ingest.Stream, streams.Config{Shards: shards}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		must(<-ended)
		must(store.Close())
	})
	batch := store.NewBatch()
	var record []byte
	for i := range messages {
		client := fmt.Sprintf("boiler-%d", i/group%1000)
		m := message.Message{
			Topic: "dt/" + client + "/room", QoS: 1, ClientID: client, Thing: client, Protocol: "mqtt",
			SourceIP:  "192.168.1.77",
			Principal: "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35", Time: 1700000000000 +
				int64(i), Trace: [16]byte{1, byte(i)},
			Payload: fmt.Appendf(nil, `{"ts":%d,"id":"boiler-room-0017","temp":%d.5,"hum":48.2,"pressure":101325,`+
				`"firmware":"2026.04.1-rc3+build.5512","location":"building 7, floor 2, room 214, rack 3, slot 19 L3","status":"ok"}`,
				1700000000000+i, 27+i%2*4),
		}
		record = m.AppendRecord(record[:0])
		batch.Append(ingest.Stream, streams.ShardOf(client, shards),
			streams.Record{Time: m.Time, Key: client, Data: record})
		if batch.Len() == group || i == messages-1 {
			must(store.Commit(ctx, batch))
			batch.Reset()
		}
	}
	return store
}
