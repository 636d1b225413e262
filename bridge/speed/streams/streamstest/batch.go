package streamstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func testAppend(f *fixture) {
	f.create("a", 2)
	before := time.Now()
	b := f.commit(func(b *streams.Batch) {
		b.Append("a", 1,
			streams.Record{Key: "k", Data: []byte("0"), Time: 12345}, streams.Record{Key: "k", Data: []byte("1")})
		b.Append("a", 0, streams.Record{Data: []byte("2")})
		b.Append("a", 1, streams.Record{Key: strings.Repeat("l", streams.MaxKey), Data: nil})
	})
	if b.Len() != 4 || b.Bytes() <= streams.MaxKey {
		f.Errorf("%d records, %d bytes", b.Len(), b.Bytes())
	}
	at := time.UnixMilli(b.Time())
	if d := at.Sub(before); d.Abs() > 24*time.Hour {
		f.Errorf("committed at %v, now is %v", at, before)
	}
	for i, want := range []struct {
		shard int
		rec   streams.Record
	}{
		{1, streams.Record{Key: "k", Data: []byte("0"), Time: 12345}},
		{1, streams.Record{Key: "k", Data: []byte("1"), Time: b.Time()}},
		{0, streams.Record{Data: []byte("2"), Time: b.Time()}},
		{1, streams.Record{Key: strings.Repeat("l", streams.MaxKey), Time: b.Time()}},
	} {
		stream, shard := b.Place(i)
		if stream != "a" || shard != want.shard {
			f.Errorf("record %d is in %s/%d, want shard %d", i, stream, shard, want.shard)
		}
		recs, err := f.Read(stream, shard, b.Offset(i), 1, 0)
		f.ok(err)
		if len(recs) != 1 {
			f.Fatalf("record %d: %d at its offset", i, len(recs))
		}
		r := recs[0]
		if r.Offset != b.Offset(i) || r.Key != want.rec.Key || !bytes.Equal(r.Data, want.rec.Data) ||
			r.Time != want.rec.Time {
			f.Errorf("record %d is %+v", i, r)
		}
	}
	size, err := f.Size("a")
	f.ok(err)
	if size.Records < 4 || size.Bytes <= 0 {
		f.Errorf("size %+v", size)
	}
	// An empty batch is nothing, and done.
	f.commit(func(*streams.Batch) {})
	// A batch can be used again.
	b.Reset()
	b.Append("a", 0, streams.Record{Data: []byte("3")})
	f.ok(f.Commit(f.bounded(), b))
	f.holds("a", 0, "2", "3")
}

// What is put in may be used again, and what is got changed.
func testOwn(f *fixture) {
	f.create("a", 1)
	data := []byte("mine")
	b := f.NewBatch()
	b.Append("a", 0, streams.Record{Data: data})
	copy(data, "xxxx")
	f.ok(f.Commit(f.bounded(), b))
	for range 2 {
		recs := f.all("a", 0)
		if len(recs) != 1 || string(recs[0].Data) != "mine" {
			f.Fatalf("read %q", texts(recs))
		}
	}
}

// A batch over streams is stored as a whole, or nothing of it.
func testAcross(f *fixture) {
	f.create("a", 2)
	f.create("b", 1)
	f.commit(func(b *streams.Batch) {
		b.Append("a", 0, streams.Record{Data: []byte("a0")})
		b.Append("b", 0, streams.Record{Data: []byte("b0")})
		b.Append("a", 1, streams.Record{Data: []byte("a1")})
	})
	b := f.NewBatch()
	b.Append("a", 0, streams.Record{Data: []byte("lost")})
	b.Append("none", 0, streams.Record{Data: []byte("lost")})
	b.Append("b", 0, streams.Record{Data: []byte("lost")})
	f.is(f.Commit(f.bounded(), b), streams.ErrNotFound)
	for range 2 {
		f.holds("a", 0, "a0")
		f.holds("a", 1, "a1")
		f.holds("b", 0, "b0")
		f.restart()
	}
}

// A batch that cannot be stored says why, and takes no other with it.
func testRefused(f *fixture) {
	f.create("a", 1)
	good := streams.Record{Data: []byte("good")}
	for _, c := range []struct {
		name string
		fill func(b *streams.Batch)
		want error
	}{
		{"stream", func(b *streams.Batch) { b.Append("none", 0, good) }, streams.ErrNotFound},
		{"stream of Put", func(b *streams.Batch) { b.Put("none", streams.Hash{}, good) }, streams.ErrNotFound},
		{"shard", func(b *streams.Batch) { b.Append("a", 1, good) }, streams.ErrShard},
		{"key", func(b *streams.Batch) {
			b.Append("a", 0, streams.Record{Key: strings.Repeat("k", streams.MaxKey+1)})
		}, streams.ErrTooLarge},
		{"data", func(b *streams.Batch) {
			b.Append("a", 0, streams.Record{Data: make([]byte, streams.MaxData+1)})
		}, streams.ErrTooLarge},
	} {
		bad, beside := f.NewBatch(), f.NewBatch()
		bad.Append("a", 0, good)
		c.fill(bad)
		beside.Append("a", 0, streams.Record{Data: []byte(c.name)})
		told := make(chan error, 2)
		f.CommitAsync(bad, func(err error) { told <- err })
		f.CommitAsync(beside, func(err error) { told <- err })
		if err := <-told; !errors.Is(err, c.want) {
			f.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		f.ok(<-told)
	}
	f.holds("a", 0, "stream", "stream of Put", "shard", "key", "data")
}

// Batches are stored and answered in the order in which they were queued.
func testAsync(f *fixture) {
	f.create("a", 1)
	const n = 500
	told := make(chan int, n)
	var want []string
	for i := range n {
		b := f.NewBatch()
		b.Append("a", 0, streams.Record{Data: fmt.Append(nil, i)})
		want = append(want, fmt.Sprint(i))
		f.CommitAsync(b, func(err error) {
			if err != nil {
				f.Errorf("batch %d: %v", i, err)
			}
			told <- i
		})
	}
	end := f.bounded()
	for i := range n {
		select {
		case got := <-told:
			if got != i {
				f.Fatalf("batch %d is answered, want %d", got, i)
			}
		case <-end.Done():
			f.Fatalf("batch %d is not answered", i)
		}
	}
	f.holds("a", 0, want...)
}

// Who has no time left commits nothing.
func testWithdrawn(f *fixture) {
	f.create("a", 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := f.NewBatch()
	b.Append("a", 0, streams.Record{Data: []byte("late")})
	f.is(f.Commit(ctx, b), context.Canceled)
	f.commit(func(*streams.Batch) {})
	f.holds("a", 0)
}

// A log that has ended says so.
func testEnded(f *fixture) {
	f.create("a", 1)
	ended := f.running
	f.restart()
	b := ended.NewBatch()
	b.Append("a", 0, streams.Record{})
	f.is(ended.Commit(f.bounded(), b), streams.ErrClosed)
	told := make(chan error, 1)
	ended.CommitAsync(b, func(err error) { told <- err })
	f.is(<-told, streams.ErrClosed)
	_, err := ended.Read("a", 0, 0, 0, 0)
	f.is(err, streams.ErrClosed)
	f.is(ended.Create("b", streams.Config{Shards: 1}), streams.ErrClosed)
	f.is(ended.Wait(f.bounded(), "a", 0, 0), streams.ErrClosed)
}
