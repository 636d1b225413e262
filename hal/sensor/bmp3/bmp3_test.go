package bmp3

import (
	"math/rand/v2"
	"testing"
)

// All coefficients come back from the registers, over the whole range of each.
// The formulas are checked by the vectors of the driver.
func TestParse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		var b, back [CalibBytes]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		c := Parse(&b)
		if c.Put(&back); back != b {
			t.Fatalf("%x comes back as %x", b, back)
		}
	}
}
