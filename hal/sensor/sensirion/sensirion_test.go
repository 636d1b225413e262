package sensirion

import (
	"bytes"
	"math"
	"slices"
	"testing"
)

// The datasheets' examples.
func TestExamples(t *testing.T) {
	if got := CRC([]byte{0xBE, 0xEF}); got != 0x92 {
		t.Errorf("CRC of BEEF is %#x, want 0x92", got)
	}
	var words [3]uint16
	if !Parse([]byte{0x01, 0xF4, 0x33, 0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C}, words[:]) {
		t.Fatal("SCD4x 3.6.2 is refused")
	}
	if words[0] != 500 || math.Abs(Celsius(words[1])-25) > 0.01 || math.Abs(Humidity(words[2])-37) > 0.01 {
		t.Errorf("%d ppm, %v °C, %v %%RH; want 500, 25, 37", words[0], Celsius(words[1]), Humidity(words[2]))
	}
	if SHT4xHumidity(0) != -6 || SHT4xHumidity(65535) != 119 || Celsius(0) != -45 || Celsius(65535) != 130 {
		t.Error("the ranges' ends differ")
	}
}

// What Parse takes, Append writes back; one changed bit is always found.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0x01, 0xF4, 0x33}, uint8(3))
	f.Add(Append(nil, 0, 0xFFFF, 0x8000), uint8(40))
	f.Fuzz(func(t *testing.T, b []byte, bit uint8) {
		words := make([]uint16, len(b)/3)
		if !Parse(b, words) || len(b) == 0 {
			return
		}
		if back := Append(nil, words...); !bytes.Equal(back, b) {
			t.Fatalf("%x is written back as %x", b, back)
		}
		damaged := slices.Clone(b)
		damaged[int(bit)/8%len(b)] ^= 1 << (bit % 8)
		if Parse(damaged, words) {
			t.Fatalf("%x passes for %x", damaged, b)
		}
	})
}
