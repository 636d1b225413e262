package pebble

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// TestCost tells what a large log costs: how much Pebble writes for each byte of
// records while retention by size works, and how long it takes to open the
// store again and read from every shard. TIDEMILL_COST is how many GB are
// appended, and kept.
func TestCost(t *testing.T) {
	gb, _ := strconv.ParseFloat(os.Getenv("TIDEMILL_COST"), 64)
	if gb == 0 {
		t.Skip("set TIDEMILL_COST to the GB to append, such as 5")
	}
	for _, keep := range []float64{gb, gb / 4} {
		t.Run(fmt.Sprintf("keep %.2f GB", keep), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{RetainEvery: time.Second, MemTableSize: 8 << 20} // as in the bridge
			s, stop := start(t, dir, o)
			create(t, s, "a", streams.Config{Shards: 16, MaxBytes: int64(keep * 1e9)})
			recs := json200(5000)
			var payload int64
			before := writtenBytes(t)
			b := s.NewBatch()
			for i := 0; float64(payload) < gb*1e9; i++ {
				b.Reset()
				for j := range 500 {
					key := fmt.Sprint("pump-", (i*7+j)%1000)
					b.Put("a", streams.HashOf(key), streams.Record{Key: key, Data: recs[(i*500+j)%len(recs)]})
					payload += int64(200 + len(key))
				}
				if err := s.Commit(context.Background(), b); err != nil {
					t.Fatal(err)
				}
			}
			m := s.db.Metrics()
			all := m.Total()
			// Pebble 2.1 counts the log as flushed, and blob files that a flush
			// writes as compacted too.
			flushed := all.TableBytesFlushed - m.WAL.BytesWritten + all.BlobBytesFlushed
			compacted := all.TableBytesCompacted + all.BlobBytesCompacted - all.BlobBytesFlushed
			of := func(n uint64) float64 { return float64(n) / float64(payload) }
			t.Logf("%.2f GB of keys and data; written for each byte: log %.2f, flushed %.2f, compacted %.2f, together %.2f",
				float64(payload)/1e9, of(m.WAL.BytesWritten), of(flushed), of(compacted),
				of(m.WAL.BytesWritten+flushed+compacted))
			if before > 0 {
				t.Logf("the kernel counts %.2f", of(writtenBytes(t)-before))
			}
			size, err := s.Size("a")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("kept %.2f GB, on disk %.2f GB", float64(size.Bytes)/1e9, float64(m.DiskSpaceUsage())/1e9)
			stop()
			begun := time.Now()
			s, stop = start(t, dir, o)
			opened := time.Since(begun)
			for shard := range 16 {
				oldest, _, err := s.Bounds("a", shard)
				if err != nil || len(read(t, s, "a", shard, oldest, 1, 0)) != 1 {
					t.Fatal(shard, err)
				}
			}
			t.Logf("opened in %v, first record of each shard after %v", opened, time.Since(begun))
			stop()
		})
	}
}

// writtenBytes is what this process has handed to write calls so far, as Linux
// counts it; elsewhere 0.
func writtenBytes(t *testing.T) uint64 {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "wchar: ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseUint(line, 10, 64)
	if err != nil {
		t.Fatalf("/proc/self/io: %q", text)
	}
	return n
}
