package pebble

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

var shapes = []struct{ writers, records int }{{1, 500}, {8, 25}, {64, 1}, {8, 500}}

// json200 is n different records of 200 bytes, as a device would send.
func json200(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	recs := make([][]byte, n)
	for i := range recs {
		b := fmt.Appendf(nil, `{"ts":%d,"temp":%.2f,"hum":%.1f,"p":%d,"note":"`, 1700000000000+i, r.Float64()*40,
			r.Float64()*100, r.IntN(100000))
		for len(b) < 198 {
			b = append(b, byte('a'+r.IntN(26)))
		}
		recs[i] = append(b, '"', '}')
	}
	return recs
}

// appendLog is what a log costs at least: group commit of appends to a file.
type appendLog struct {
	f       *os.File
	mu      sync.Mutex
	buf     []byte
	waiting []chan error
	wake    chan struct{}
}

func (l *appendLog) run(stop <-chan struct{}) {
	var buf []byte
	for {
		select {
		case <-l.wake:
		case <-stop:
			return
		}
		l.mu.Lock()
		buf, l.buf = l.buf, buf[:0]
		waiting := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		_, err := l.f.Write(buf)
		if err == nil {
			err = unix.Fdatasync(int(l.f.Fd()))
		}
		for _, w := range waiting {
			w <- err
		}
	}
}

func (l *appendLog) append(recs [][]byte, done chan error) {
	l.mu.Lock()
	for _, r := range recs {
		l.buf = append(l.buf, r...)
	}
	l.waiting = append(l.waiting, done)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// BenchmarkAppend is durable records/s, of the store and of a bare file with
// group commit, by writers x records in a batch.
func BenchmarkAppend(b *testing.B) {
	recs := json200(500)
	each := func(b *testing.B, writers, n int, commit func(w int)) {
		b.SetBytes(int64(200 * n))
		var left sync.WaitGroup
		share := make(chan struct{}, b.N)
		for range b.N {
			share <- struct{}{}
		}
		close(share)
		b.ResetTimer()
		for w := range writers {
			left.Go(func() {
				for range share {
					commit(w)
				}
			})
		}
		left.Wait()
		b.StopTimer()
		b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
		b.ReportAllocs()
	}
	for _, sh := range shapes {
		name := fmt.Sprintf("%dx%d", sh.writers, sh.records)
		b.Run("file/"+name, func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			l := &appendLog{f: f, wake: make(chan struct{}, 1)}
			stop := make(chan struct{})
			var ran sync.WaitGroup
			ran.Go(func() { l.run(stop) })
			done := make([]chan error, sh.writers)
			for i := range done {
				done[i] = make(chan error, 1)
			}
			each(b, sh.writers, sh.records, func(w int) {
				l.append(recs[:sh.records], done[w])
				if err := <-done[w]; err != nil {
					b.Error(err)
				}
			})
			close(stop)
			ran.Wait()
		})
		b.Run("store/"+name, func(b *testing.B) {
			s, stop := start(b, b.TempDir(), Options{MemTableSize: 32 << 20})
			create(b, s, "a", streams.Config{Shards: 16})
			batches := make([]*streams.Batch, sh.writers)
			for i := range batches {
				batches[i] = s.NewBatch()
			}
			each(b, sh.writers, sh.records, func(w int) {
				bt := batches[w]
				bt.Reset()
				for i := range sh.records {
					bt.Append("a", w%16, streams.Record{Key: "pump-17", Data: recs[i]})
				}
				if err := s.Commit(context.Background(), bt); err != nil {
					b.Error(err)
				}
			})
			c := s.Counters()
			b.ReportMetric(float64(c.Batches)/float64(max(1, c.Groups)), "batches/sync")
			stop()
		})
		// As PutRecords: each record finds its shard by its key's hash.
		b.Run("put/"+name, func(b *testing.B) {
			s, stop := start(b, b.TempDir(), Options{})
			create(b, s, "a", streams.Config{Shards: 4})
			keys := make([]string, 1000)
			for i := range keys {
				keys[i] = fmt.Sprint("pump-", i)
			}
			batches := make([]*streams.Batch, sh.writers)
			for i := range batches {
				batches[i] = s.NewBatch()
			}
			each(b, sh.writers, sh.records, func(w int) {
				bt := batches[w]
				bt.Reset()
				for i := range sh.records {
					key := keys[(i+w*31)%len(keys)]
					bt.Put("a", streams.HashOf(key), streams.Record{Key: key, Data: recs[i]})
				}
				if err := s.Commit(context.Background(), bt); err != nil {
					b.Error(err)
				}
			})
			stop()
		})
	}
}

// BenchmarkRead reads a shard from memory, 1 MiB or 10,000 records at a time.
func BenchmarkRead(b *testing.B) {
	s, _ := start(b, "", Options{FS: vfs.NewMem(), MemTableSize: 32 << 20, CacheSize: 256 << 20})
	create(b, s, "a", streams.Config{Shards: 1})
	recs := json200(500)
	const n = 100_000
	for i := 0; i < n; {
		commit(b, s, func(bt *streams.Batch) {
			for j := range 500 {
				bt.Append("a", 0, streams.Record{Key: "pump-17", Data: recs[j]})
				i++
			}
		})
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var at uint64
	var bytes, records int
	for b.Loop() {
		rs, err := s.Read("a", 0, at, 10_000, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		for i := range rs {
			bytes += len(rs[i].Data)
		}
		records += len(rs)
		if at += uint64(len(rs)); at >= n {
			at = 0
		}
	}
	b.ReportMetric(float64(bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}
