package dps3

import (
	"math/rand/v2"
	"testing"
)

// All coefficients come back from the registers, over the whole range of each.
// The formulas are checked by the vectors of the driver.
func TestParse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		var b, back [CoefBytes]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		c := Parse(&b)
		if c.Put(&back); back != b {
			t.Fatalf("%x comes back as %x", b, back)
		}
	}
	if got := Parse(&[CoefBytes]byte{0x80, 0x07, 0xFF, 0x80, 0, 0x07, 0xFF, 0xFF}); got.C0 != -2048 || got.C1 != 2047 ||
		got.C00 != -524288 || got.C10 != 524287 {
		t.Errorf("the ends are %+v", got)
	}
	if Signed([]byte{0x80, 0, 0}) != -1<<23 || Signed([]byte{0x7F, 0xFF, 0xFF}) != 1<<23-1 {
		t.Error("results' ends differ")
	}
}
