package telemetry

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// normal returns what Decode of Append(b) is to give: no payload in NaN, zeros
// where values are absent, Present nil where none is.
func normal(b *Batch) *Batch {
	out := &Batch{Header: b.Header}
	for _, s := range b.Series {
		n := Series{Sensor: s.Sensor, Times: append([]int64(nil), s.Times...)}
		for _, c := range s.Columns {
			d := Column{Name: c.Name, Unit: c.Unit, Kind: c.Kind}
			if absent(c.Present) {
				d.Present = append(d.Present, c.Present...)
			}
			here := func(i int) bool { return c.Present == nil || c.Present[i] }
			for i := range s.Times {
				switch c.Kind {
				case Float:
					d.Floats = append(d.Floats, 0)
					if here(i) {
						d.Floats[i] = c.Floats[i]
					}
				case Int:
					d.Ints = append(d.Ints, 0)
					if here(i) {
						d.Ints[i] = c.Ints[i]
					}
				case Bool:
					d.Bools = append(d.Bools, here(i) && c.Bools[i])
				case Text:
					d.Texts = append(d.Texts, "")
					if here(i) {
						d.Texts[i] = c.Texts[i]
					}
				}
			}
			n.Columns = append(n.Columns, d)
		}
		out.Series = append(out.Series, n)
	}
	return out
}

// same compares batches, floats by their bits.
var same = cmp.Comparer(func(a, b float64) bool { return canonical(a) == canonical(b) })

func roundTrip(t *testing.T, b *Batch) []byte {
	t.Helper()
	prefix := []byte("before")
	enc, err := Append(prefix, b)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	if !bytes.HasPrefix(enc, prefix) {
		t.Fatal("Append changed what was there")
	}
	enc = enc[len(prefix):]
	got, err := Decode(enc)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	if d := cmp.Diff(normal(b), got, same); d != "" {
		t.Fatalf("not what was encoded (-want +got):\n%s", d)
	}
	for _, s := range got.Series {
		for _, c := range s.Columns {
			for _, f := range c.Floats {
				if f != f && math.Float64bits(f) != math.Float64bits(math.NaN()) {
					t.Fatalf("NaN with bits %x", math.Float64bits(f))
				}
			}
		}
	}
	h, err := DecodeHeader(enc)
	if err != nil || h != b.Header {
		t.Fatalf("DecodeHeader = %+v, %v", h, err)
	}
	return enc
}

func floats(v ...float64) *Batch {
	return &Batch{Series: []Series{{Sensor: "s", Times: ramp(len(v)),
		Columns: []Column{{Name: "x", Kind: Float, Floats: v}}}}}
}

func ramp(n int) []int64 {
	t := make([]int64, n)
	for i := range t {
		t[i] = 1_700_000_000_000 + int64(i)*1000
	}
	return t
}

func TestRoundTrip(t *testing.T) {
	inf, nan := math.Inf(1), math.Float64frombits(0xFFF8_0000_DEAD_BEEF)
	negZero := math.Copysign(0, -1)
	var head Header
	for i := range head.Spool {
		head.Spool[i], head.Boot[i] = byte(i), byte(200-i)
	}
	head.Seq, head.Clock = math.MaxUint64, ClockUnsynced
	long := strings.Repeat("x", MaxText)
	for name, b := range map[string]*Batch{
		"empty":       {},
		"header":      {Header: head},
		"one float":   floats(21.5),
		"decimals":    floats(21.5, 21.51, 21.49, -3, 0, 1e15, 0.1+0.2),
		"scaled max":  floats(9007199254740992, -9007199254740992, 0.1),
		"signed zero": floats(0, negZero, 0),
		"special":     floats(1, inf, -inf, nan, math.NaN(), negZero, math.MaxFloat64, 5e-324),
		"one nan":     floats(nan),
		"same":        floats(1.0/3, 1.0/3, 1.0/3),
		"large":       floats(1e300, 1e299, -1e300),
		"no columns":  {Series: []Series{{Sensor: "a:b-C_9", Times: []int64{5}}}},
		"times": {Series: []Series{{Sensor: "a", Times: []int64{math.MaxInt64, math.MinInt64, 0, -1, 1}},
			{Sensor: "b", Times: []int64{math.MinInt64}}}},
		"same times": {Series: []Series{{Sensor: "a", Times: ramp(9)}, {Sensor: "b", Times: ramp(9)},
			{Sensor: "a", Times: ramp(8)}}},
		"ints": {Series: []Series{{Sensor: "a", Times: ramp(6),
			Columns: []Column{{Name: "n", Kind: Int, Ints: []int64{math.MinInt64, math.MaxInt64, 0, 1, -1, 7}}}}}},
		"multiples": {Series: []Series{{Sensor: "a", Times: ramp(9),
			Columns: []Column{{Name: "n", Kind: Int, Ints: []int64{4096, 8192, 4096 * 77, 0, -4096, 4096 * 9, 4096, 0,
				8192}}, {Name: "m", Kind: Int, Ints: []int64{math.MinInt64, 0, math.MinInt64, 0, math.MinInt64, 0,
				1 << 62, 0, -1 << 62}}, {Name: "o", Kind: Int,
				Ints: []int64{7, 7 + 3000, 7 - 9000, 7, 7, 7, 10, 7, 7 + 1<<61}}}}}},
		"bools": {Series: []Series{{Sensor: "a", Times: ramp(9),
			Columns: []Column{{Name: "f", Kind: Bool, Bools: make([]bool, 9)}, {Name: "t", Kind: Bool,
				Bools: []bool{true, true, true, true, true, true, true, true, true}},
				{Name: "m", Kind: Bool, Bools: []bool{true, false, true, true, true, true, true, true, true}}}}}},
		"texts": {Series: []Series{{Sensor: "a", Times: ramp(3),
			Columns: []Column{{Name: "d", Kind: Text, Texts: []string{"open", "", "open"}}, {Name: "p", Kind: Text,
				Texts: []string{"\xff\x00", long, "°"}},
				{Name: "s", Unit: "µ", Kind: Text, Texts: []string{long, long, long}}}}}},
		"absent": {Series: []Series{{Sensor: "a", Times: ramp(3),
			Columns: []Column{{Name: "x", Kind: Float, Present: []bool{false, true, false}, Floats: []float64{9, 1.5,
				9}}, {Name: "n", Kind: Int, Present: []bool{true, false, true}, Ints: []int64{4, 9, 5}}, {Name: "b",
				Kind: Bool, Present: []bool{false, false, false}, Bools: []bool{true, true, true}}, {Name: "s",
				Kind: Text, Present: []bool{false, true, true}, Texts: []string{"gone", "a", "a"}},
				{Name: "all", Kind: Int, Present: []bool{true, true, true}, Ints: []int64{1, 2, 3}}}}}},
		"columns repeat": {Series: []Series{{Sensor: "a", Times: ramp(1),
			Columns: []Column{{Name: "my_own", Unit: "kN", Kind: Float, Floats: []float64{1}}, {Name: "temp",
				Unit: "°C", Kind: Float, Floats: []float64{1}}}}, {Sensor: "b", Times: ramp(1),
			Columns: []Column{{Name: "temp", Unit: "K", Kind: Float, Floats: []float64{1}},
				{Name: "my_own", Unit: "kN", Kind: Float, Floats: []float64{1}}}}}},
	} {
		t.Run(name, func(t *testing.T) { roundTrip(t, b) })
	}
}

// randomBatch makes a valid batch of any shape.
func randomBatch(r *rand.Rand) *Batch {
	b := &Batch{Header: Header{Seq: r.Uint64() >> r.UintN(64), Clock: Clock(r.UintN(3))}}
	for i := range b.Spool {
		b.Spool[i], b.Boot[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		b.Time = Time{Anchor: r.Int64() >> r.UintN(64), Bound: r.Int64N(maxBound) >> r.UintN(53)}
	}
	words := []string{"", "on", "off", "\"\\\n\u2028\x01", "é", "a longer text that is not repeated often"}
	for i := range r.IntN(4) {
		s := Series{Sensor: string(rune('a' + i))}
		n := 1 + r.IntN(1+r.IntN(40))
		now := r.Int64() >> r.UintN(64)
		for range n {
			s.Times = append(s.Times, now)
			now += r.Int64N(1 << (1 + r.UintN(20)))
		}
		if len(b.Series) > 0 && r.IntN(3) == 0 {
			s.Times = append([]int64(nil), b.Series[0].Times...)
		}
		n = len(s.Times)
		for j := range r.IntN(5) {
			c := Column{Name: "c" + string(rune('a'+j)), Unit: []string{"", "°C", "x"}[r.IntN(3)],
				Kind: Kind(1 + r.IntN(4))}
			if r.IntN(3) == 0 {
				d := known[r.IntN(len(known))]
				clash := false
				for _, o := range s.Columns {
					clash = clash || o.Name == d.name
				}
				if !clash {
					c.Name, c.Unit, c.Kind = d.name, d.unit, d.kind
				}
			}
			if r.IntN(3) == 0 {
				for range n {
					c.Present = append(c.Present, r.IntN(3) > 0)
				}
			}
			mode, x := r.IntN(5), r.Int64()>>r.UintN(64)
			step := []int64{1, 1, 4096, 1000, 1 << 50}[r.IntN(5)]
			for range n {
				switch c.Kind {
				case Float:
					f := float64(x) / pow10[mode]
					switch {
					case mode == 3:
						f = math.Float64frombits(r.Uint64())
					case mode == 4 && r.IntN(5) == 0:
						f = []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)}[r.IntN(4)]
					}
					c.Floats = append(c.Floats, f)
				case Int:
					c.Ints = append(c.Ints, x)
				case Bool:
					c.Bools = append(c.Bools, r.IntN(10) > mode)
				case Text:
					c.Texts = append(c.Texts, words[r.IntN(len(words))])
				}
				if r.IntN(30) == 0 {
					x = r.Int64() >> r.UintN(64)
				}
				x += (r.Int64N(1<<(1+mode*5)) - 1<<(mode*5)) * step
			}
			s.Columns = append(s.Columns, c)
		}
		b.Series = append(b.Series, s)
	}
	return b
}

func TestRandomRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	n := 800
	if testing.Short() {
		n = 100
	}
	for range n {
		roundTrip(t, randomBatch(r))
	}
}

// Builds a batch from any bytes: what Append takes, Decode gives back.
func FuzzAppend(f *testing.F) {
	f.Add(uint64(1), []byte("\x01\x02\x03\x04\x05\x06\x07\x08"))
	f.Add(uint64(7), bytes.Repeat([]byte{0xF0, 0x7F}, 99))
	f.Fuzz(func(t *testing.T, seed uint64, in []byte) {
		b := randomBatch(rand.New(rand.NewPCG(seed, 2)))
		// The bytes are one series more: its times, numbers and texts.
		n := len(in) / 8
		s := Series{Sensor: "bytes"}
		fs, is, ts := Column{Name: "f", Kind: Float}, Column{Name: "i", Kind: Int}, Column{Name: "t", Kind: Text}
		for i := range n {
			u := binary.LittleEndian.Uint64(in[i*8:])
			s.Times = append(s.Times, int64(u>>20))
			fs.Floats = append(fs.Floats, math.Float64frombits(u))
			is.Ints = append(is.Ints, int64(u))
			ts.Texts = append(ts.Texts, string(in[i*8:i*8+int(u&7)]))
		}
		if s.Columns = []Column{fs, is, ts}; n > 0 {
			b.Series = append(b.Series, s)
		}
		if n > 1000 {
			return
		}
		roundTrip(t, b)
	})
}

// Whatever Decode accepts is written again and read back as an equal batch.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		if enc, err := Append(nil, randomBatch(r)); err == nil {
			f.Add(enc[:len(enc)-crcBytes])
		}
	}
	packed, err := Append(nil, &Batch{Series: []Series{{Sensor: "a", Times: ramp(40),
		Columns: []Column{{Name: "s", Kind: Text,
			Texts: strings.Fields(strings.Repeat("these texts repeat enough ", 10))}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed[:len(packed)-crcBytes])
	packed, err = Append(nil, &Batch{Series: []Series{{Sensor: "a", Times: []int64{1},
		Columns: []Column{{Name: "s", Kind: Text, Texts: []string{strings.Repeat("zstd ", 100)}}}}}})
	if err != nil || packed[1]&flagZstd == 0 {
		f.Fatalf("not compressed: %v", err)
	}
	f.Add(packed[:len(packed)-crcBytes])
	f.Fuzz(func(t *testing.T, in []byte) {
		in = binary.LittleEndian.AppendUint32(in[:len(in):len(in)], crc32.Checksum(in, castagnoli))
		b, err := Decode(in)
		if err != nil {
			if b != nil || !errors.Is(err, errCorrupt) && !errors.Is(err, errVersion) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("Decode = %v, %v", b, err)
			}
			return
		}
		out, err := Append(nil, b)
		if errors.Is(err, ErrTooLarge) && (len(in) > MaxBytes/2 || strings.Contains(err.Error(), "weight")) {
			return // we pack better than who wrote it
		}
		if err != nil {
			t.Fatalf("can't encode what was decoded: %v", err)
		}
		again, err := Decode(out)
		if err != nil {
			t.Fatalf("can't decode what was encoded: %v", err)
		}
		if d := cmp.Diff(b, again, same); d != "" {
			t.Fatalf("%s", d)
		}
	})
}

func TestInvalid(t *testing.T) {
	column := func(c Column) *Batch {
		return &Batch{Series: []Series{{Sensor: "s", Times: []int64{1}, Columns: []Column{c}}}}
	}
	one := []int64{1}
	for name, tc := range map[string]struct {
		b    *Batch
		want error
	}{
		"clock":         {&Batch{Header: Header{Clock: 3}}, errInvalid},
		"no sensor":     {&Batch{Series: []Series{{Times: one}}}, errInvalid},
		"two levels":    {&Batch{Series: []Series{{Sensor: "a/b", Times: one}}}, errInvalid},
		"wildcard":      {&Batch{Series: []Series{{Sensor: "#", Times: one}}}, errInvalid},
		"long sensor":   {&Batch{Series: []Series{{Sensor: strings.Repeat("a", 65), Times: one}}}, errInvalid},
		"no readings":   {&Batch{Series: []Series{{Sensor: "a"}}}, errInvalid},
		"no name":       {column(Column{Kind: Int, Ints: one}), errInvalid},
		"ts":            {column(Column{Name: "ts", Kind: Int, Ints: one}), errInvalid},
		"upper case":    {column(Column{Name: "Temp", Kind: Int, Ints: one}), errInvalid},
		"quote":         {column(Column{Name: `a"`, Kind: Int, Ints: one}), errInvalid},
		"long name":     {column(Column{Name: strings.Repeat("a", 33), Kind: Int, Ints: one}), errInvalid},
		"long unit":     {column(Column{Name: "a", Unit: strings.Repeat("a", 17), Kind: Int, Ints: one}), errInvalid},
		"unit no UTF-8": {column(Column{Name: "a", Unit: "\xff", Kind: Int, Ints: one}), errInvalid},
		"unit control":  {column(Column{Name: "a", Unit: "\n", Kind: Int, Ints: one}), errInvalid},
		"kind":          {column(Column{Name: "a", Kind: 5, Texts: []string{""}}), errInvalid},
		"rows":          {column(Column{Name: "a", Kind: Float}), errInvalid},
		"present rows":  {column(Column{Name: "a", Kind: Int, Ints: one, Present: []bool{true, false}}), errInvalid},
		"long text": {column(Column{Name: "a", Kind: Text, Texts: []string{strings.Repeat("a", MaxText+1)}}),
			errInvalid},
		"twice": {&Batch{Series: []Series{{Sensor: "a", Times: one,
			Columns: []Column{{Name: "a", Kind: Int, Ints: one}, {Name: "a", Unit: "m", Kind: Int, Ints: one}}}}},
			errInvalid},
		"readings": {&Batch{Series: []Series{{Sensor: "a", Times: ramp(MaxReadings + 1)}}}, ErrTooLarge},
		"series":   {&Batch{Series: make([]Series, MaxSeries+1)}, ErrTooLarge},
		"bytes":    {floats(noise(MaxReadings)...), ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "series" {
				for i := range tc.b.Series {
					tc.b.Series[i] = Series{Sensor: "a", Times: one}
				}
			}
			dst := []byte("keep")
			got, err := Append(dst, tc.b)
			if !errors.Is(err, tc.want) || string(got) != "keep" {
				t.Fatalf("Append = %q, %v; want %v", got, err, tc.want)
			}
		})
	}
}

func noise(n int) []float64 {
	r := rand.New(rand.NewPCG(5, 6))
	v := make([]float64, n)
	for i := range v {
		v[i] = math.Float64frombits(r.Uint64())
	}
	return v
}

func TestCorrupt(t *testing.T) {
	good, err := Append(nil, randomBatch(rand.New(rand.NewPCG(9, 9))))
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := Decode(good[:i]); err == nil {
			t.Fatalf("accepts the first %d of %d bytes", i, len(good))
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i & 7)
		if _, err := Decode(bad); err == nil {
			t.Fatalf("accepts a flipped bit in byte %d", i)
		} else if i == 0 && !errors.Is(err, errVersion) || i > 0 && !errors.Is(err, errCorrupt) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if _, err := Decode(make([]byte, MaxBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
}

// seal makes an envelope around a body.
func seal(flags byte, body []byte) []byte {
	in := append([]byte{version, flags}, make([]byte, 32)...)
	in = append(append(in, 1), body...)
	return binary.LittleEndian.AppendUint32(in, crc32.Checksum(in, castagnoli))
}

// Small batches that ask for much are refused before it is allocated.
func TestBombs(t *testing.T) {
	var texts []byte // one long text, repeated
	texts = append(texts, 1, 1, 'a')
	texts = binary.AppendUvarint(texts, MaxReadings)
	texts = append(texts, 2, 0, 1, 't', 0, byte(Text), 1<<6|riceZeros, 2, textDict, 1)
	texts = appendString(texts, strings.Repeat("x", MaxText))
	texts = append(texts, 1<<6|riceZeros, 0)
	var rows []byte
	rows = append(rows, 100)
	for range 100 {
		rows = append(rows, 1, 'a')
		rows = binary.AppendUvarint(rows, MaxReadings)
		rows = append(rows, 0)
	}
	values := append([]byte{1, 1, 'a'}, binary.AppendUvarint(nil, MaxReadings)...)
	values = append(values, 18)
	for i := range 9 {
		values = append(values, 0, 1, byte('a'+i), 0, byte(Float))
	}
	zeros := zstdWriter.EncodeAll(make([]byte, maxBody+1), nil)
	for name, in := range map[string][]byte{
		"texts":   seal(0, texts),
		"rows":    seal(0, rows),
		"values":  seal(0, values),
		"zstd":    seal(flagZstd, zeros),
		"no size": seal(flagZstd, []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x01, 0x00, 0x00}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode(in); !errors.Is(err, errCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("%d bytes: %v", len(in), err)
			}
		})
	}
	// The largest that is accepted, for the sum in the documentation: the first
	// series carries the weight of the second.
	whole := binary.AppendUvarint([]byte{2, 1, 'b', 1}, 2*100)
	for i := range 100 {
		whole = append(whole, 0, 2, byte('a'+i/26), byte('a'+i%26), 0, byte(Text))
	}
	whole = append(append(whole, 1, 'a'), binary.AppendUvarint(nil, MaxReadings)...)
	whole = append(whole, 16)
	for i := range 8 {
		whole = append(whole, 0, 1, byte('a'+i), 0, byte(Text))
	}
	whole = append(whole, 1<<6|riceZeros, 2)
	for range 100 {
		whole = appendString(append(whole, textPlain), strings.Repeat("z", MaxText))
	}
	whole = append(whole, 1<<6|riceZeros, 2)
	for range 8 {
		whole = append(whole, textDict, 1, 1, 'x', 1<<6|riceZeros, 0)
	}
	in := seal(0, whole)
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	if got := r.AllocedBytesPerOp(); got > 4<<20 {
		t.Errorf("%d bytes in make %d, documented at most 4 MiB", len(in), got)
	}
}

func TestDecodeSharesNothing(t *testing.T) {
	want := randomBatch(rand.New(rand.NewPCG(11, 1)))
	enc, err := Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(enc)
	if err != nil {
		t.Fatal(err)
	}
	clear(enc)
	for range 10 { // over the pooled memory
		other, _ := Append(nil, randomBatch(rand.New(rand.NewPCG(12, 1))))
		if _, err := Decode(other); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(normal(want), got, same); d != "" {
		t.Fatal(d)
	}
	if reflect.DeepEqual(got, &Batch{}) {
		t.Fatal("nothing decoded")
	}
}

// The table in FORMAT.md is the one in the code.
func TestFormatTable(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{"", "float", "int", "bool", "text"}
	var want strings.Builder
	for i, d := range known {
		if err := d.valid(); err != nil {
			t.Error(err)
		}
		if knownRef[d] != uint64(i+1) {
			t.Errorf("%v is there twice", d)
		}
		fmt.Fprintf(&want, "| %d | %s | %s | %s |\n", i+1, d.name, d.unit, kinds[d.kind])
	}
	if !bytes.HasSuffix(doc, []byte(want.String())) {
		t.Errorf("FORMAT.md has another table than:\n%s", want.String())
	}
}

// An encoded batch, byte for byte: the format must not change by accident.
func TestGolden(t *testing.T) {
	b := &Batch{Header: Header{Spool: [16]byte{1}, Boot: [16]byte{2}, Seq: 300, Clock: ClockSynced}, Series: []Series{
		{Sensor: "w", Times: []int64{1_700_000_000_000, 1_700_000_001_000, 1_700_000_002_001}, Columns: []Column{
			{Name: "temperature", Unit: "°C", Kind: Float, Floats: []float64{21.5, 21.51, 21.49}},
			{Name: "mine", Unit: "kN", Kind: Int, Ints: []int64{0, 4096, 8192 * 3}, Present: []bool{true, true, true}},
			{Name: "odd", Kind: Float, Floats: []float64{math.Inf(1), 0, 1.5}, Present: []bool{true, false, true}},
			{Name: "state", Kind: Text, Texts: []string{"on", "off", "on"}},
			{Name: "level", Kind: Bool, Bools: []bool{true, false, true}},
		}},
		{Sensor: "v", Times: []int64{1_700_000_000_005, 1_700_000_001_005, 1_700_000_002_006}},
	}}
	enc := roundTrip(t, b)
	const want = "01020100000000000000000000000000000002000000000000000000000000000000ac02020177030a0200046d696e65" +
		"026b4e0201036f64640001221e017603008180a0abfef962d00f0112cc21293d802002e00105f0000000000000f07f87" +
		"2500010002026f6e036f666600060205ff0ac459991f"
	if got := hex.EncodeToString(enc); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
