package ingest

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// bootBatch is batch of another boot.
func bootBatch(t testing.TB, boot uint32, seq uint64) []byte {
	t.Helper()
	h := telemetry.Header{Spool: [16]byte{1}, Seq: seq}
	binary.BigEndian.PutUint32(h.Boot[:], boot)
	p, err := telemetry.Append(nil, &telemetry.Batch{Header: h,
		Series: []telemetry.Series{{Sensor: "s", Times: []int64{int64(seq)},
			Columns: []telemetry.Column{{Name: "v", Kind: telemetry.Int, Ints: []int64{int64(seq)}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A spool that forgot its last commits numbers other batches as it did those;
// a new boot tells them apart, and batches of the boot before come again.
func TestForgetfulSpool(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{})
	b.run()
	for _, c := range []struct {
		boot uint32
		seq  uint64
		n    int // readings in the log afterwards
	}{{1, 7, 1}, {1, 8, 2}, {1, 9, 3}, {2, 8, 4}, {2, 9, 5}, {1, 7, 5}, {1, 9, 5}, {2, 9, 5}, {2, 10, 6}} {
		b.must(send("pump", bootBatch(t, c.boot, c.seq)), nil)
		if n := len(b.all(Stream)); n != c.n {
			t.Fatalf("boot %d, batch %d: %d readings, want %d", c.boot, c.seq, n, c.n)
		}
	}
}

// The marks of a thing are bounded, whatever it says of its boots, and the ones
// in use stay.
func TestMarksAreBounded(t *testing.T) {
	fs := vfs.NewMem()
	now := time.UnixMilli(1e12)
	o := Options{Now: func() time.Time { now = now.Add(time.Millisecond); return now }}
	b := open(t, fs, o)
	b.run()
	b.must(send("other", bootBatch(t, 1, 1)), nil)
	const boots = 3 * maxMarks
	for i := range uint32(boots) {
		b.must(send("pump", bootBatch(t, 1, uint64(i+1))), nil) // goes on all the time
		b.must(send("pump", bootBatch(t, 2+i, 5)), nil)
	}
	marks := func(thing string) (n int) {
		if err := b.store.Scan(markPrefix(thing), func(_, _ []byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	same(t, "marks", []int{marks("pump"), marks("other")}, []int{maxMarks, 1})
	b.stop()
	b = open(t, fs, o)
	b.run()
	n := len(b.all(Stream))
	b.must(send("pump", bootBatch(t, 1, boots)), nil)
	for i := range uint32(maxMarks - 1) {
		b.must(send("pump", bootBatch(t, 1+boots-i, 5)), nil)
	}
	same(t, "copies", len(b.all(Stream)), n)
}

// A batch sent as a retained message makes no retained readings.
func TestReadingsAreNotRetained(t *testing.T) {
	b := open(t, vfs.NewMem(), Options{})
	b.run()
	m := send("pump", batch(t, 1, 1, "s"))
	m.Retain = true
	b.must(m, nil)
	if got := b.all(Stream)[0]; got.Retain {
		t.Errorf("%+v", got)
	}
}
