package telemetry

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuilder(t *testing.T) {
	var b Builder
	weather := []Channel{{"temp", "°C", Float}, {"hum", "%RH", Float}, {"note", "", Text}}
	door := []Channel{{"open", "", Bool}, {"n", "", Int}}
	for round := range 2 { // the second in used memory
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(b.Add("w", weather, 1000, []Value{FloatValue(1.5), FloatValue(50), TextValue("hi")}))
		must(b.Add("d", door, 1001, []Value{BoolValue(true), IntValue(-4)}))
		must(b.Add("w", weather, 999, []Value{{}, FloatValue(51), {}}))
		must(b.Add("w", weather[:2], 1003, []Value{FloatValue(2), FloatValue(52)}))
		must(b.Add("w", weather[:2], 1004, []Value{FloatValue(3), FloatValue(53)}))
		for _, err := range []error{
			b.Add("w", weather, 1, nil),
			b.Add("w", weather[:1], 1, []Value{IntValue(1)}),
			b.Add("w", weather[2:], 1, []Value{TextValue(strings.Repeat("x", MaxText+1))}),
			b.Add("a/b", weather[:1], 1, []Value{FloatValue(1)}),
			b.Add("x", []Channel{{"ts", "", Int}}, 1, []Value{IntValue(1)}),
			b.Add("x", []Channel{door[0], door[0]}, 1, []Value{{}, {}}),
		} {
			if !errors.Is(err, errInvalid) {
				t.Fatalf("err = %v", err)
			}
		}
		want := &Batch{Header: Header{Seq: 3}, Series: []Series{
			{Sensor: "w", Times: []int64{1000, 999}, Columns: []Column{
				{Name: "temp", Unit: "°C", Kind: Float, Present: []bool{true, false}, Floats: []float64{1.5, 0}},
				{Name: "hum", Unit: "%RH", Kind: Float, Floats: []float64{50, 51}},
				{Name: "note", Kind: Text, Present: []bool{true, false}, Texts: []string{"hi", ""}},
			}},
			{Sensor: "d", Times: []int64{1001}, Columns: []Column{
				{Name: "open", Kind: Bool, Bools: []bool{true}}, {Name: "n", Kind: Int, Ints: []int64{-4}},
			}},
			{Sensor: "w", Times: []int64{1003, 1004}, Columns: []Column{
				{Name: "temp", Unit: "°C", Kind: Float, Floats: []float64{2, 3}},
				{Name: "hum", Unit: "%RH", Kind: Float, Floats: []float64{52, 53}},
			}},
		}}
		got := b.Batch(Header{Seq: 3})
		if d := cmp.Diff(want, normal(got), same); d != "" {
			t.Fatalf("round %d: %s", round, d)
		}
		if b.Readings() != 5 || got.Readings() != 5 {
			t.Fatalf("%d readings", b.Readings())
		}
		if enc := roundTrip(t, got); len(enc) > b.sizeHint() {
			t.Fatalf("%d bytes, hint %d", len(enc), b.sizeHint())
		}
		b.Reset()
	}
}

// What Add takes, Append can encode, at the worst of data.
func TestBuilderFull(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	text := func() string {
		s := make([]byte, r.IntN(MaxText))
		for i := range s {
			s[i] = byte(r.Uint32())
		}
		return string(s)
	}
	for name, gen := range map[string]func() (Channel, Value){
		"floats": func() (Channel, Value) {
			return Channel{"x", "", Float}, FloatValue(math.Float64frombits(r.Uint64()))
		},
		"ints": func() (Channel, Value) {
			return Channel{"x", "", Int}, IntValue(int64(r.Uint64() >> (63 * r.UintN(2))))
		},
		"texts":  func() (Channel, Value) { return Channel{"x", "", Text}, TextValue(text()) },
		"bools":  func() (Channel, Value) { return Channel{"x", "", Bool}, BoolValue(r.IntN(2) == 0) },
		"absent": func() (Channel, Value) { return Channel{"x", "", Int}, Value{} },
		"units": func() (Channel, Value) {
			return Channel{"x", text()[:0] + string(rune('a'+r.IntN(26))), Int}, Value{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b Builder
			var err error
			for err == nil {
				c, v := gen()
				err = b.Add("sensor", []Channel{c}, r.Int64()-r.Int64(), []Value{v})
			}
			if !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			enc := roundTrip(t, b.Batch(Header{Seq: math.MaxUint64}))
			t.Logf("%d readings: hint %d, %d bytes", b.Readings(), b.sizeHint(), len(enc))
			if len(enc) > b.sizeHint() || b.sizeHint() > MaxBytes {
				t.Fatalf("%d bytes, hint %d", len(enc), b.sizeHint())
			}
		})
	}
}
