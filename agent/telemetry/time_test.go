package telemetry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A batch whose Time changes says the same readings at other times, and what
// surrounds them stays.
func TestRetime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := randomBatch(r)
		raw, err := Append(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		clock, to := Clock(r.IntN(2)), Time{Anchor: r.Int64() >> r.UintN(64), Bound: r.Int64N(maxBound)}
		again, err := Retime(raw, clock, to)
		if (b.Time == Time{}) {
			if !errors.Is(err, ErrNoTime) {
				t.Fatalf("a batch of version 1: %v", err)
			}
			if plain, err := Plain(raw); err != nil || !bytes.Equal(plain, raw) {
				t.Fatalf("a batch of version 1 is plain already: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		want := normal(b.Shifted(to.Anchor - b.Time.Anchor))
		want.Clock, want.Time = clock, to
		if d := cmp.Diff(want, got, same); d != "" {
			t.Fatalf("%s", d)
		}
		// What was changed once can be changed back.
		if back, err := Retime(again, b.Clock, b.Time); err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("not what it was: %v", err)
		}
		plain, err := Plain(again)
		if err != nil {
			t.Fatal(err)
		}
		want.Time = Time{}
		if got, err = Decode(plain); err != nil || plain[0] != version {
			t.Fatalf("version %d, %v", plain[0], err)
		}
		if d := cmp.Diff(want, got, same); d != "" {
			t.Fatalf("%s", d)
		}
	}
}

// A batch that just fits still does when its Time needs every byte it can.
func TestRetimeFits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var b Builder
	chs := []Channel{{Name: "t", Kind: Text}, {Name: "f", Kind: Float}}
	for i := int64(0); ; i++ {
		text := make([]byte, 400)
		for j := range text {
			text[j] = byte(r.Uint32())
		}
		if err := b.Add("s", chs, i, []Value{TextValue(string(text)), FloatValue(r.Float64())}); err != nil {
			break
		}
	}
	raw, err := Append(nil, b.Batch(Header{Seq: 1 << 63, Time: Time{Anchor: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Retime(raw, ClockSynced, Time{Anchor: -1 << 63, Bound: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := DecodeHeader(again); err != nil || h.Time.Bound != maxBound || h.Time.Anchor != -1<<63 {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := Plain(again); err != nil {
		t.Fatal(err)
	}
}

func TestTimeRefused(t *testing.T) {
	good, err := Append(nil, &Batch{Header: Header{Seq: 1, Time: Time{Anchor: 1, Bound: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	at := fixedBytes + 1
	if _, err := Decode(summed(append(good[:at:at], 2, 2, 1, 0))); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string][]byte{
		"nothing known":   {2, 1, 0, 0},
		"cut":             {2, 2},
		"not shortest":    {0x82, 0, 2, 1, 0},
		"bound too large": {2, 2, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0},
	} {
		if _, err := Decode(summed(append(good[:at:at], block...))); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bound := range []int64{-1, maxBound + 1} {
		if _, err := Append(nil, &Batch{Header: Header{Time: Time{Bound: bound}}}); !errors.Is(err, errInvalid) {
			t.Errorf("bound %d: %v", bound, err)
		}
	}
}

// Records say how good their time is, and those of a good clock say nothing.
func TestDoubt(t *testing.T) {
	const ts, old = 1_796_000_000_000, 60_000
	for name, tc := range map[string]struct {
		clock Clock
		time  Time
		ts    int64
		came  int64
		want  string
	}{
		"good":                  {ClockSynced, Time{}, ts, ts, ""},
		"good to a second":      {ClockSynced, Time{1, 1000}, ts, ts, ""},
		"known":                 {ClockSynced, Time{1, 1001}, ts, ts, `,"ts_error_ms":1001`},
		"unknown":               {ClockUnknown, Time{1, 500}, ts, ts + 900, `,"ts_error_ms":900,"clock":"unknown"`},
		"unknown, came at 1":    {ClockUnknown, Time{1, 500}, ts, ts + 1, `,"ts_error_ms":500,"clock":"unknown"`},
		"unknown, no end":       {ClockUnknown, Time{1, 500}, ts, 0, `,"clock":"unknown"`},
		"before":                {ClockUnknown, Time{}, ts, ts, ""},
		"before, drifting":      {ClockUnsynced, Time{}, ts, ts, ""},
		"before, never set":     {ClockUnsynced, Time{}, old, ts, `,"clock":"unknown"`},
		"before, set to an old": {ClockSynced, Time{}, old, ts, ""},
	} {
		b := &Batch{Header: Header{Clock: tc.clock, Time: tc.time},
			Series: []Series{{Sensor: "s", Times: []int64{tc.ts}}}}
		got := string(b.Series[0].AppendJSON(nil, 0, b.Doubt(tc.came)))
		if _, rest, _ := strings.Cut(strings.TrimSuffix(got, "}"), "000"); !strings.HasSuffix(rest, tc.want) ||
			tc.want == "" && strings.Contains(got, ",") {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	// A sensor's own values of these names stay.
	s := &Series{Times: []int64{1}, Columns: []Column{{Name: "clock", Kind: Int, Ints: []int64{7}},
		{Name: "ts_error_ms", Kind: Int, Ints: []int64{8}}}}
	if got := string(s.AppendJSON(nil, 0, Doubt{unknown: true, bound: 5, came: 9})); got !=
		`{"ts":1,"clock":7,"ts_error_ms":8}` {
		t.Error(got)
	}
}

func TestShifted(t *testing.T) {
	b := &Batch{Series: []Series{{Sensor: "a", Times: []int64{1, 2}}, {Sensor: "b", Times: []int64{3}}}}
	s := b.Shifted(10)
	if !slices.Equal(s.Series[0].Times, []int64{11, 12}) || !slices.Equal(s.Series[1].Times, []int64{13}) ||
		!slices.Equal(b.Series[0].Times, []int64{1, 2}) {
		t.Errorf("%v of %v", s.Series, b.Series)
	}
}

// Whatever Retime and Plain accept, Decode reads, with the readings as they were.
func FuzzRetime(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		if enc, err := Append(nil, randomBatch(r)); err == nil {
			f.Add(enc[:len(enc)-crcBytes], int64(5), int64(6))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, anchor, bound int64) {
		in = summed(in[:len(in):len(in)])
		before, err := Decode(in)
		out, no := Retime(in, ClockSynced, Time{Anchor: anchor, Bound: bound})
		if no != nil || err != nil {
			return
		}
		after, err := Decode(out)
		if errors.Is(err, ErrTooLarge) && len(in) > MaxBytes-maxTimeBlock {
			return // of a writer that left no room
		}
		if err != nil || after.Readings() != before.Readings() {
			t.Fatalf("%v", err)
		}
		if plain, err := Plain(out); err == nil {
			if b, err := Decode(plain); err != nil || b.Readings() != before.Readings() || b.Seq != before.Seq {
				t.Fatalf("%v", err)
			}
		}
	})
}

// summed appends the sum of all before it.
func summed(in []byte) []byte {
	return binary.LittleEndian.AppendUint32(in, crc32.Checksum(in, castagnoli))
}
