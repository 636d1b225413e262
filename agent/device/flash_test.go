package device

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/spool"
)

// The numbers are the kernel's, of the device that a partition is of.
func TestWriteStatus(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("io", "rchar: 5\nwchar: 7\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n")
	put("block/mmcblk0/stat", "  10 0 80 5 20 0 1000 9 0 14 14 0 0 0 0 0 0\n")
	put("block/mmcblk0/size", "61079552\n")
	put("block/mmcblk0/mmcblk0p2/partition", "2\n")
	put("block/mmcblk0/device/life_time", "0x01 0x03\n")
	put("block/mmcblk0/device/pre_eol_info", "0x02\n")
	put("dev/block/x", "")
	if err := os.Symlink("../../block/mmcblk0/mmcblk0p2", filepath.Join(dir, "dev/block/179:258")); err != nil {
		t.Fatal(err)
	}
	c := newWriteCounter(filepath.Join(dir, "io"), dir, "/proc")
	c.block = c.find(179<<8 | 258&0xff | 258&^0xff<<12)
	c.card, _ = c.cardWritten()
	put("io", "write_bytes: 98304\ncancelled_write_bytes: 4096\n")
	put("block/mmcblk0/stat", "  10 0 80 5 20 0 3000 9 0 14 14 0 0 0 0 0 0\n")
	n := int64(90112)
	const card, capacity = 2000 * 512, 61079552 * 512
	got := c.status(c.since.Add(12*time.Hour), 1000, 3000, 50<<20)
	want := WriteStatus{Bytes: &n, PerReading: 90.112, PerDay: 180224, MaxPerDay: 50 << 20,
		Card: &CardStatus{Name: "mmcblk0", Capacity: capacity, Bytes: card, PerDay: 2 * card, Cycles: 3000,
			Years: capacity * 3000. / (2 * card) / 365.25, Used: "20 to 30 %", Reserved: "warning"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %+v, want %+v %+v", got, got.Card, want, want.Card)
	}
	got = c.status(c.since.Add(time.Minute), 0, 1, 0)
	if got.PerDay != 0 || got.Card.Years != 0 || got.PerReading != 0 {
		t.Errorf("after a minute: %+v %+v", got, got.Card)
	}
	none := newWriteCounter(filepath.Join(dir, "none"), dir, "/proc")
	if got := none.status(time.Now(), 1, 1, 0); !reflect.DeepEqual(got, WriteStatus{}) {
		t.Errorf("where nothing is known: %+v", got)
	}
}

func TestLossStatus(t *testing.T) {
	now := time.Now()
	sec := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for _, c := range []struct {
		name string
		in   spool.Stats
		want LossStatus
	}{
		{"as asked for", spool.Stats{Loss: spool.Loss{Every: sec(5), Interval: sec(5)}},
			LossStatus{Bound: 5, Wanted: 5}},
		{"longer", spool.Stats{Loss: spool.Loss{Every: sec(5), Interval: sec(60), Since: now.Add(-sec(40))}},
			LossStatus{Seconds: 40, Bound: 60, Wanted: 5, GivesWay: "flush_every"}},
		{"as long as it may be", spool.Stats{Loss: spool.Loss{Every: sec(5), Interval: sec(60), Over: true}},
			LossStatus{Bound: 60, Wanted: 5, GivesWay: "max_writes"}},
		{"the disk fails", spool.Stats{Failure: &spool.Failure{}, Loss: spool.Loss{Every: sec(5), Interval: sec(5),
			Since: now.Add(-sec(90))}}, LossStatus{Seconds: 90, Wanted: 5}},
	} {
		if got := lossStatus(&c.in, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
