package telemetry

import (
	"encoding/json"
	"math"
	"testing"
)

func TestAppendJSON(t *testing.T) {
	s := Series{Sensor: "a", Times: []int64{1700000000000, -1}, Columns: []Column{
		{Name: "temp", Kind: Float, Floats: []float64{21.5, math.Inf(-1)}},
		{Name: "z", Kind: Float, Floats: []float64{math.Copysign(0, -1), 1e-7}},
		{Name: "n", Kind: Int, Ints: []int64{math.MinInt64, 0}, Present: []bool{true, false}},
		{Name: "on", Kind: Bool, Bools: []bool{true, false}},
		{Name: "s", Kind: Text, Texts: []string{"a\"\\\n\r\t\x00\x1f°\u2028\u2029", "<&>\xff."}},
	}}
	for i, want := range []string{
		`{"ts":1700000000000,"temp":21.5,"z":-0,"n":-9223372036854775808,"on":true,"s":"a\"\\\n\r\t\u0000\u001f°\u2028\u2029"}`,
		`{"ts":-1,"temp":null,"z":1e-7,"on":false,"s":"<&>\ufffd."}`,
	} {
		if got := string(s.AppendJSON([]byte("x"), i, Doubt{})); got != "x"+want {
			t.Errorf("reading %d:\n got %s\nwant x%s", i, got, want)
		}
	}
}

// Numbers are written as encoding/json writes them, texts read back alike.
func FuzzJSON(f *testing.F) {
	f.Add(uint64(0), "a")
	f.Add(math.Float64bits(1e21), "\u2028\"\\/\b\f")
	f.Add(math.Float64bits(-9.99e-7), "\xed\xa0\x80")
	f.Add(math.Float64bits(1e-100), "\U0010FFFF")
	f.Fuzz(func(t *testing.T, bits uint64, text string) {
		x := math.Float64frombits(bits)
		s := Series{Times: []int64{int64(bits)}, Columns: []Column{{Name: "x", Kind: Float, Floats: []float64{x}},
			{Name: "s", Kind: Text, Texts: []string{text}}}}
		got := s.AppendJSON(nil, 0, Doubt{})
		var back struct {
			Ts int64           `json:"ts"`
			X  json.RawMessage `json:"x"`
			S  string          `json:"s"`
		}
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		number, err := json.Marshal(x)
		if err != nil {
			number = []byte("null")
		}
		quoted, _ := json.Marshal(text)
		var want string
		if err := json.Unmarshal(quoted, &want); err != nil {
			t.Fatal(err)
		}
		if back.Ts != int64(bits) || string(back.X) != string(number) || back.S != want {
			t.Fatalf("%s: want %s, %s", got, number, quoted)
		}
	})
}
