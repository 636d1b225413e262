package rules

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// BenchmarkWhy is what a worker does with a group of messages but for reading
// and committing it, with nothing kept for `rule why` and with all that is:
// a stricter measure than the worker's rate. Half of the messages fire.
//
//	go test ./bridge/speed/rules -run '^$' -bench Why -count 10
func BenchmarkWhy(b *testing.B) {
	store, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for name, size := range map[string]int{"full": groupRecords, "light": 20} {
		var recs []streams.Record
		for i := range size {
			m := message.Message{
				Topic: fmt.Sprint("load/", i%50), QoS: 1, ClientID: fmt.Sprint("load-", i%50), Protocol: "mqtt",
				SourceIP:  "192.168.1.77",
				Principal: "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35", Time: 1700000000000,
				Trace:   [16]byte{1},
				Payload: fmt.Appendf(nil, `{"ts":1700000000000,"temp":%d,"hum":48.25,"pad":"%0146d"}`, 29+i%2*2, i),
			}
			recs = append(recs, streams.Record{Offset: uint64(i), Data: m.AppendRecord(nil)})
		}
		for _, perTurn := range []int{0, keepPerTurn} {
			b.Run(fmt.Sprintf("group=%s/kept=%d", name, perTurn), func(b *testing.B) {
				if err := store.Create("out", streams.Config{Shards: 1}); err == nil {
					b.Cleanup(func() { _ = store.Delete("out") })
				}
				r := &rig{store: store}
				e := New(store, Options{})
				e.perTurn = perTurn
				rule, err := (&Compiler{Catalog: r}).Parse("hot",
					[]byte(toOut("SELECT temp, hum, topic() AS t FROM 'load/#' WHERE temp > 30")))
				if err != nil {
					b.Fatal(err)
				}
				if err := e.Set([]*Rule{rule}); err != nil {
					b.Fatal(err)
				}
				w := newWorker(e, 0, nil, nil)
				g := &w.groups[0]
				b.ReportAllocs()
				for b.Loop() {
					w.evaluate(b.Context(), g, recs)
					g.took()
					g.reset()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/msg")
			})
		}
	}
}
