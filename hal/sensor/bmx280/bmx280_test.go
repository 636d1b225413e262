package bmx280

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The worked example of the BMP280 datasheet, section 3.12.
func TestDatasheetExample(t *testing.T) {
	c := Calibration{T1: 27504, T2: 26435, T3: -1000, P1: 36477, P2: -10685, P3: 3024, P4: 2855, P5: 140, P6: -7,
		P7: 15500, P8: -14600, P9: 6000}
	fine := c.Fine(519888)
	if got := Celsius(fine); math.Abs(got-25.08) > 0.005 {
		t.Errorf("temperature %.3f, want 25.08", got)
	}
	if got := c.Pressure(415148, fine); math.Abs(got-100653.27) > 0.1 {
		t.Errorf("pressure %.2f, want 100653.27", got)
	}
}

// All parameters come back from the registers, over the whole range of each.
func TestParse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	w := func() int16 { return int16(r.Uint32()) }
	twelve := func() int16 { return int16(r.IntN(1<<12) - 1<<11) }
	for range 10000 {
		want := Calibration{uint16(w()), w(), w(), uint16(w()), w(), w(), w(), w(), w(), w(), w(), w(),
			uint8(w()), w(), uint8(w()), twelve(), twelve(), int8(w())}
		var regs [256]byte
		want.Put(&regs)
		if got := Parse((*[CalibBytes]byte)(regs[RegCalib:]), (*[CalibHumBytes]byte)(regs[RegCalibHum:])); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	// A real chip's registers 0xE1 to 0xE7, read by hand: H4 315, H5 -30.
	if got := Parse(new([CalibBytes]byte), &[CalibHumBytes]byte{0x6A, 1, 0, 0x13, 0x2B, 0xFE, 0x1E}); got.H4 != 315 ||
		got.H5 != -30 {
		t.Errorf("H4 %d, H5 %d; want 315, -30", got.H4, got.H5)
	}
	if got := Parse(new([CalibBytes]byte), &[CalibHumBytes]byte{0x6A, 1, 0, 0xFE, 0x2C, 0x03, 0x1E}); got.H4 != -20 ||
		got.H5 != 50 {
		t.Errorf("H4 %d, H5 %d; want -20, 50", got.H4, got.H5)
	}
}
