package kinesis

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// halves are explicit hash keys of the two shards of a stream.
var halves = []string{"0", max128}

// pour puts records of size bytes into both shards, n into each, and returns
// how many were taken.
func (b *bench) pour(n, size int) (taken int) {
	b.t.Helper()
	for n > 0 {
		m := min(n, 250)
		n -= m
		in := &PutRecordsInput{StreamRef: named}
		for range m {
			for _, h := range halves {
				in.Records = append(in.Records,
					PutRecordsRequestEntry{Data: make([]byte, size-1), PartitionKey: p("k"), ExplicitHashKey: &h})
			}
		}
		out, err := b.PutRecords(bg, in)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, r := range out.Records {
			if r.ErrorCode == nil {
				taken++
			}
		}
		if failed := int(*out.FailedRecordCount); failed+count(out.Records) != len(in.Records) {
			b.t.Errorf("%d failed of %d", failed, len(in.Records))
		}
	}
	return taken
}

func count(rs []PutRecordsResultEntry) (stored int) {
	for _, r := range rs {
		if !r.SequenceNumber.IsZero() {
			stored++
		}
	}
	return stored
}

// Two shards take 2 MiB and 2,000 records in a second, however much comes.
func TestEmulatedWrites(t *testing.T) {
	for _, c := range []struct{ offered, size, want int }{{1500, 100, 2000}, {40, 64 << 10, 32}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 2, Options{Emulate: true})
			for second := range 5 {
				if got := b.pour(c.offered, c.size); got != c.want {
					t.Errorf("second %d: %d records of %d bytes, want %d", second, got, c.size, c.want)
				}
				time.Sleep(500 * time.Millisecond)
				if got := b.pour(10, c.size); got != 0 {
					t.Errorf("second %d: %d more", second, got)
				}
				time.Sleep(500 * time.Millisecond)
			}
			st := b.s.Stats()[0].Shards
			if st[0].InRecords != int64(c.want*5/2) || st[1].PutThrottled != int64(c.offered+10-c.want/2)*5 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestRefusedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{Emulate: true})
		half := strings.Repeat("x", 600<<10)
		out := b.put("a#0:"+half, "b#0:"+half, "c#"+max128+":"+half, "d#0:small")
		const why = "Rate exceeded for shard shardId-000000000000 in stream s under account 123456789012."
		for i, refused := range []bool{false, true, false, false} {
			r := out.Records[i]
			if refused != (r.ErrorCode != nil) || refused == (r.ShardId != nil) ||
				refused != r.SequenceNumber.IsZero() {
				t.Errorf("record %d: %+v", i, r)
			}
			if refused && (*r.ErrorCode != ThroughputExceeded || *r.ErrorMessage != why) {
				t.Errorf("%s: %s", *r.ErrorCode, *r.ErrorMessage)
			}
		}
		if *out.FailedRecordCount != 1 {
			t.Errorf("%d failed", *out.FailedRecordCount)
		}
		put := &PutRecordInput{StreamRef: named, Data: []byte(half), PartitionKey: p("e"), ExplicitHashKey: p("0")}
		_, err := b.PutRecord(bg, put)
		wantError(t, err, ThroughputExceeded, why)
		time.Sleep(time.Second)
		if _, err := b.PutRecord(bg, put); err != nil {
			t.Error(err)
		}
		if got := texts(b.get(b.from("0", "TRIM_HORIZON"), 10).Records); got != "a:"+half+" d:small e:"+half {
			t.Errorf("%d bytes stored", len(got))
		}
	})
}

// try reads and says whether the limits let it.
func (b *bench) try(it *string, limit int32) (*GetRecordsOutput, bool) {
	b.t.Helper()
	out, err := b.GetRecords(bg, &GetRecordsInput{ShardIterator: it, Limit: &limit})
	var e *Error
	if errors.As(err, &e) && e.Code == ThroughputExceeded {
		return nil, false
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return out, true
}

// Two shards give 4 MiB in a second, and answer ten calls.
func TestEmulatedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{Emulate: true})
		for range 24 {
			b.pour(1, 1<<20)
			time.Sleep(time.Second)
		}
		its := []*string{b.from("0", "TRIM_HORIZON"), b.from("1", "TRIM_HORIZON")}
		for second := range 5 {
			bytes := 0
			for range 8 {
				for i := range its {
					if out, ok := b.try(its[i], 1); ok {
						its[i] = out.NextShardIterator
						bytes += len(out.Records[0].Data) + len(out.Records[0].PartitionKey)
					}
				}
				time.Sleep(125 * time.Millisecond)
			}
			if bytes != 4<<20 {
				t.Errorf("second %d: %d bytes, want 4 MiB", second, bytes)
			}
		}
		// A large answer is owed for: five seconds for 10 MiB.
		out, ok := b.try(its[0], 10_000)
		if !ok || len(out.Records) != 10 {
			t.Fatalf("%t, %d records, want 10", ok, len(out.Records))
		}
		for range 49 {
			time.Sleep(100 * time.Millisecond)
			if _, ok := b.try(its[0], 1); ok {
				t.Fatal("read within 5 s")
			}
		}
		time.Sleep(100 * time.Millisecond)
		if _, ok := b.try(its[0], 1); !ok {
			t.Error("not read after 5 s")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{Emulate: true})
		its := []*string{b.from("0", "LATEST"), b.from("1", "LATEST")}
		for second := range 3 {
			calls := 0
			for range 20 {
				for i := range its {
					if _, ok := b.try(its[i], 1); ok {
						calls++
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			if calls != 10 {
				t.Errorf("second %d: %d calls, want 10", second, calls)
			}
		}
	})
}
