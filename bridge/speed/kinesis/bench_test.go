package kinesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// onDisk is a service over a log in a folder, with a stream "s".
func onDisk(b *testing.B, shards int) API {
	store, err := pebble.Open(b.TempDir(), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			b.Error(err)
		}
	})
	s, err := Open(store, Options{Account: "123456789012"})
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Create("s", streams.Config{Shards: shards, Retention: 24 * time.Hour}); err != nil {
		b.Fatal(err)
	}
	return s.In("")
}

// some is a request of n records of 200 bytes, with keys of 100 devices.
func some(n int) *PutRecordsInput {
	r := rand.New(rand.NewPCG(1, 1))
	in := &PutRecordsInput{StreamRef: named}
	for i := range n {
		data := fmt.Appendf(nil, `{"ts":%d,"temp":%.2f,"note":"`, 1700000000000+i, r.Float64()*40)
		for len(data) < 198 {
			data = append(data, byte('a'+r.IntN(26)))
		}
		in.Records = append(in.Records, PutRecordsRequestEntry{Data: append(data, '"', '}'),
			PartitionKey: p(fmt.Sprint("device-", r.IntN(100)))})
	}
	return in
}

// BenchmarkPutRecords is durable records/s through the API's methods, by
// clients x records in a call, into four shards.
func BenchmarkPutRecords(b *testing.B) {
	for _, c := range []struct{ clients, records int }{{8, 500}, {8, 25}} {
		b.Run(fmt.Sprintf("%dx%d", c.clients, c.records), func(b *testing.B) {
			a := onDisk(b, 4)
			in := some(c.records)
			b.ReportAllocs()
			b.SetBytes(int64(c.records) * 200)
			n := 0
			var wg sync.WaitGroup
			calls := make(chan struct{})
			for range c.clients {
				wg.Go(func() {
					for range calls {
						if _, err := a.PutRecords(bg, in); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				calls <- struct{}{}
				n++
			}
			close(calls)
			wg.Wait()
			b.ReportMetric(float64(n*c.records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkGetRecords reads warm data, 10,000 records a call.
func BenchmarkGetRecords(b *testing.B) {
	a := onDisk(b, 1)
	in := some(500)
	for range 40 {
		if _, err := a.PutRecords(bg, in); err != nil {
			b.Fatal(err)
		}
	}
	it, err := a.GetShardIterator(bg, &GetShardIteratorInput{StreamRef: named, ShardId: p("0"),
		ShardIteratorType: p("TRIM_HORIZON")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(10_000 * 200)
	for b.Loop() {
		out, err := a.GetRecords(bg, &GetRecordsInput{ShardIterator: it.ShardIterator})
		if err != nil || len(out.Records) != 10_000 {
			b.Fatal(len(out.Records), err)
		}
	}
}
