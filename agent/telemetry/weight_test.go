package telemetry

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gathered is what a builder has after n readings of one sensor, every 100 ms on
// the dot, that always say the same.
func gathered(t testing.TB, n int) *Batch {
	t.Helper()
	var b Builder
	for i := range n {
		if err := b.Add("door", []Channel{{"level", "", Bool}}, 1_790_000_000_000+int64(i)*100,
			[]Value{BoolValue(true)}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Batch(Header{Seq: 1})
}

// 112 bytes cannot become megabytes.
func TestWeightIsBounded(t *testing.T) {
	dense := gathered(t, 5600)
	if enc, err := Append(nil, dense); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%d readings in %d bytes: %v", dense.Readings(), len(enc), err)
	}
	// One who does not ask Append.
	in := append([]byte{1, 1, 'a'}, 0x80, 0x80, 0x01, 2, 15<<1, 1<<6|riceZeros, 0, boolTrue)
	if _, err := Decode(seal(0, in)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%d bytes: %v", len(in), err)
	}
}

// Whatever a builder takes can be sent, in parts if need be, and nothing is lost.
func TestHalves(t *testing.T) {
	var parts []*Batch
	var split func(b *Batch)
	split = func(b *Batch) {
		enc, err := Append(nil, b)
		if err == nil {
			got, err := Decode(enc)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, got)
			return
		}
		first, second, ok := b.Halves()
		if !ok {
			t.Fatalf("one reading has no room: %v", err)
		}
		split(first)
		split(second)
	}
	wide := func() *Batch { // readings with as much in them as there can be, all alike
		var b Builder
		chs := make([]Channel, MaxPerSeries)
		vals := make([]Value, MaxPerSeries)
		for i := range chs {
			chs[i] = Channel{Name: "c" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Kind: Text}
			vals[i] = TextValue(string(make([]byte, 400)))
		}
		if err := b.Add("wide", chs, 1, vals); err != nil {
			t.Fatal(err)
		}
		return b.Batch(Header{})
	}
	for name, whole := range map[string]*Batch{
		"door": gathered(t, 5600), "wide": wide(), "weather": weather(1000), "vitals": vitals(100),
	} {
		parts = nil
		split(whole)
		var times [][]int64
		n := 0
		for _, p := range parts {
			n += p.Readings()
			for _, s := range p.Series {
				times = append(times, s.Times)
			}
		}
		t.Logf("%s: %d readings in %d parts", name, n, len(parts))
		if n != whole.Readings() {
			t.Errorf("%s: %d readings, want %d", name, n, whole.Readings())
		}
		if name == "door" {
			var all []int64
			for _, p := range times {
				all = append(all, p...)
			}
			if d := cmp.Diff(whole.Series[0].Times, all); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

// What an agent gathers in a flush (5 s by default) is never split, nor is as
// much as a builder takes, of sensors that say something.
func TestTracesHaveRoom(t *testing.T) {
	for _, trace := range []struct {
		name string
		make func(int) *Batch
	}{{"weather", weather}, {"vitals", vitals}, {"door", func(n int) *Batch { return gathered(t, n) }}} {
		for _, n := range []int{1, 15, 50, 500, 2500} {
			if trace.name == "door" && n > 500 || trace.name == "vitals" && n > 500 {
				continue // a minute of a door that says the same ten times a second is split, see TestHalves
			}
			b := trace.make(n)
			enc, err := Append(nil, b)
			if err != nil {
				t.Errorf("%s, %d readings: %v", trace.name, n, err)
				continue
			}
			w, err := b.check()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, %d readings: %d bytes, weight %d of %d", trace.name, n, len(enc), w, allowance(len(enc)))
		}
	}
}
