package spool

import (
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// What is flushed has the time that is known then, and says how well.
func TestStamp(t *testing.T) {
	var now Stamp
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), Options{Clock: func() Stamp { return now }})
	const wall = 1_796_000_000_000
	for i, tc := range []struct {
		stamp Stamp
		time  telemetry.Time
	}{
		{Stamp{Clock: telemetry.ClockUnknown, Timed: true, Offset: 50, Bound: 7}, telemetry.Time{Anchor: 50, Bound: 7}},
		{Stamp{Clock: telemetry.ClockUnknown, Timed: true, Offset: 50}, telemetry.Time{Anchor: 50, Bound: 1}},
		{Stamp{Clock: telemetry.ClockSynced, Timed: true, Offset: wall, Bound: 1001, Now: wall + 2000, PPM: 200},
			telemetry.Time{Anchor: wall, Bound: 1001}},
		{Stamp{Clock: telemetry.ClockSynced, Timed: true, Offset: wall, Bound: 900, Now: wall + 500_000, PPM: 200},
			telemetry.Time{}},
		// The file could not be written for hours.
		{Stamp{Clock: telemetry.ClockSynced, Timed: true, Offset: wall, Bound: 900, Now: wall + 5_000_000, PPM: 200},
			telemetry.Time{Anchor: wall, Bound: 1899}},
		{Stamp{Clock: telemetry.ClockUnsynced, Offset: 5}, telemetry.Time{}},
	} {
		now = tc.stamp
		add(t, s, int64(i))
		flushed(t, s)
		seq, p := take(t, s, uint64(i))
		b, err := telemetry.Decode(p)
		if err != nil || seq != uint64(i+1) || string(s.Last()) != string(p) {
			t.Fatalf("batch %d: %v", seq, err)
		}
		raw, _ := telemetry.DecodeHeader(p)
		if b.Clock != tc.stamp.Clock || b.Time != tc.time || raw.Time != tc.time {
			t.Errorf("%d: %v %+v, want %+v", i, b.Clock, b.Time, tc.time)
		}
		want := int64(i) // add's times are the numbers
		if tc.stamp.Timed {
			want += tc.stamp.Offset
		}
		if got := b.Series[0].Times[0]; got != want {
			t.Errorf("%d: at %d, want %d", i, got, want)
		}
	}
}
