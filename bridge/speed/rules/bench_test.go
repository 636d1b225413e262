package rules

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// BenchmarkWorker is the rate at which one worker reads its partition of the
// log, evaluates a rule that looks at two fields of 200 bytes of JSON, and
// commits what it made: for no message but the last, or for every second one.
//
//	go test ./bridge/speed/rules -run '^$' -bench Worker -benchtime 5x
func BenchmarkWorker(b *testing.B) {
	const messages = 100_000
	for _, c := range []struct {
		name   string
		above  float64
		expect int
	}{{"none", 1000, 1}, {"half", 30, messages / 2}} {
		for _, disk := range []bool{false, true} {
			name := "memory/"
			if disk {
				name = "disk/"
			}
			b.Run(name+c.name, func(b *testing.B) {
				dir, fs := "log", vfs.FS(vfs.NewMem())
				if disk {
					dir, fs = b.TempDir(), vfs.Default
				}
				benchmarkWorker(b, dir, fs, messages, c.expect,
					fmt.Sprintf("SELECT temp, hum, topic() AS t FROM 'load/#' WHERE temp > %v", c.above))
			})
		}
	}
}

func benchmarkWorker(b *testing.B, dir string, fs vfs.FS, messages, expect int, sql string) {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	store, err := pebble.Open(dir, pebble.Options{FS: fs})
	must(err)
	for _, name := range []string{ingest.Stream, "out"} {
		must(store.Create(name, streams.Config{Shards: 1}))
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	defer func() {
		stop()
		must(<-ended)
		must(store.Close())
	}()

	batch := store.NewBatch()
	for i := range messages {
		temp := 29 + i%2*2
		if i == messages-1 {
			temp = 2000
		}
		m := message.Message{
			Topic: fmt.Sprint("load/", i%50), QoS: 1, ClientID: fmt.Sprint("load-", i%50), Protocol: "mqtt",
			SourceIP:  "192.168.1.77",
			Principal: "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35", Time: 1700000000000,
			Trace:   [16]byte{1},
			Payload: fmt.Appendf(nil, `{"ts":1700000000000,"temp":%d,"hum":48.25,"pad":"%0146d"}`, temp, i),
		}
		batch.Append(ingest.Stream, 0, streams.Record{Time: m.Time, Key: m.ClientID, Data: m.AppendRecord(nil)})
		if batch.Len() == 500 || i == messages-1 {
			must(store.Commit(ctx, batch))
			batch.Reset()
		}
	}

	rig := &rig{store: store}
	rule, err := (&Compiler{Catalog: rig}).Parse("hot", []byte(toOut(sql)))
	must(err)
	info, err := store.Describe(ingest.Stream)
	must(err)
	var made uint64
	b.ReportAllocs()
	for b.Loop() {
		e := New(store, Options{Account: "000000000000", Outbox: func(string) error {
			return nil
		}, Log: slog.New(slog.DiscardHandler)})
		must(e.Set([]*Rule{rule}))
		batch.Reset()
		batch.Unset(fmt.Appendf(nil, "rules/%d/0", info.ID))
		must(store.Commit(ctx, batch))
		run, end := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- e.Run(run) }()
		made += uint64(expect)
		must(store.Wait(ctx, "out", 0, made-1))
		end()
		must(<-done)
		if _, next, err := store.Bounds("out", 0); err != nil || next != made {
			b.Fatalf("out has %d records, want %d; %v", next, made, err)
		}
	}
	b.ReportMetric(float64(messages)*float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRules is what a worker does with one message but for reading and
// committing it, with many rules in force: those whose FROM does not match it,
// in the forms that are common, and those that match, of which each has a
// WHERE of its own that holds for half of the messages.
//
//	go test ./bridge/speed/rules -run '^$' -bench Rules
func BenchmarkRules(b *testing.B) {
	for _, c := range []struct{ matching, rules int }{{0, 1}, {0, 10_000}, {1, 1}, {1, 100}, {1, 10_000}, {100, 100}} {
		b.Run(fmt.Sprintf("matching=%d/rules=%d", c.matching, c.rules), func(b *testing.B) {
			store := memoryStore(b)
			e := New(store, Options{})
			if err := e.Set(manyRules(b, &Compiler{Catalog: &rig{store: store}}, c.rules, c.matching)); err != nil {
				b.Fatal(err)
			}
			recs := make([]streams.Record, groupRecords)
			for i := range recs {
				m := message.Message{
					Topic: fmt.Sprintf("dt/boiler-%d/room", i%50), QoS: 1, ClientID: fmt.Sprint("boiler-", i%50),
					Protocol: "mqtt", SourceIP: "192.168.1.77",
					Principal: "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35", Time: 1700000000000,
					Trace:   [16]byte{1},
					Payload: fmt.Appendf(nil, `{"ts":1700000000000,"temp":%d,"hum":48.25,"pad":"%0146d"}`, 29+i%2*2, i),
				}
				recs[i] = streams.Record{Offset: uint64(i), Data: m.AppendRecord(nil)}
			}
			w := newWorker(e, 0, nil, nil)
			g, rules, ctx := &w.groups[0], e.rules.Load(), iotsql.WithGate(b.Context(), &w.gate)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.one(ctx, g, rules, &recs[i%len(recs)])
				if i%len(recs) == len(recs)-1 || g.batch.Bytes() >= keepOutput {
					g.took()
					g.reset()
				}
			}
			if r := e.Rule("rule_0"); c.matching > 0 && r.count.matched.Load() == 0 && b.N > len(recs) {
				b.Error("no rule matched")
			}
		})
	}
}

// BenchmarkSet is one rule of 10,000 being replaced.
func BenchmarkSet(b *testing.B) {
	store := memoryStore(b)
	compiler := &Compiler{Catalog: &rig{store: store}}
	e := New(store, Options{})
	all := manyRules(b, compiler, 10_000, 1)
	doc := []byte(toOut(all[0].Payload.SQL))
	b.ReportAllocs()
	for b.Loop() {
		r, err := compiler.Parse(all[0].Name, doc)
		if err != nil {
			b.Fatal(err)
		}
		all[0] = r
		if err := e.Set(all); err != nil {
			b.Fatal(err)
		}
	}
}

func memoryStore(b *testing.B) *pebble.Store {
	b.Helper()
	store, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	if err := store.Create("out", streams.Config{Shards: 1}); err != nil {
		b.Fatal(err)
	}
	return store
}

// manyRules makes rules for messages on dt/boiler-…/room, which the first so
// many match.
func manyRules(b *testing.B, c *Compiler, rules, matching int) []*Rule {
	b.Helper()
	forms := []string{"dt/thing-%d/+", "dt/+/climate/%d/#", "dt/thing-%d/room"}
	all := make([]*Rule, rules)
	for i := range all {
		sql := fmt.Sprintf("SELECT temp, hum, topic() AS t FROM 'dt/#' WHERE temp > %d.5", 29+i%2)
		if i >= matching {
			sql = fmt.Sprintf("SELECT temp, hum, topic() AS t FROM '"+forms[i%len(forms)]+"' WHERE temp > 30", i)
		}
		r, err := c.Parse(fmt.Sprint("rule_", i), []byte(toOut(sql)))
		if err != nil {
			b.Fatal(err)
		}
		all[i] = r
	}
	return all
}
