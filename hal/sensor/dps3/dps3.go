// Package dps3 holds what the driver and the simulated chip know of Infineon's
// DPS310: registers, calibration coefficients, and the formulas that make
// measurements of them (DPS310 datasheet 1.2; section numbers are that one's).
package dps3

// Registers (section 7).
const (
	RegData     = 0x00 // pressure b2 b1 b0, temperature b2 b1 b0
	RegPressure = 0x06 // rate and oversampling
	RegTemp     = 0x07 // source, rate and oversampling
	RegMeasure  = 0x08
	RegConfig   = 0x09
	RegReset    = 0x0C
	RegID       = 0x0D
	RegCoef     = 0x10 // CoefBytes
	RegSource   = 0x28 // which thermometer the coefficients are for, as in RegTemp

	CoefBytes = 18

	ID = 0x10 // product 0, revision 1

	External   = 1 << 7 // thermometer in the pressure sensor, in RegTemp and RegSource
	MeasureP   = 1      // one measurement of pressure, in RegMeasure
	MeasureT   = 2
	ReadyP     = 1 << 4
	ReadyT     = 1 << 5
	ReadyChip  = 1 << 6
	ReadyCoefs = 1 << 7
	ShiftP     = 1 << 2 // results above 24 bits are shifted, in RegConfig
	ShiftT     = 1 << 3
	SoftReset  = 0x09 // to RegReset
)

// Scale is what raw results are divided by, for an oversampling of 2 to the n
// (table 9). Above 8, that is n = 3, results are shifted.
var Scale = [8]float64{524288, 1572864, 3670016, 7864320, 253952, 516096, 1040384, 2088960}

// Coefs are the calibration coefficients of one chip (section 8.11).
type Coefs struct {
	C0, C1                  int32 // 12 bits
	C00, C10                int32 // 20 bits
	C01, C11, C20, C21, C30 int32 // 16 bits
}

// Parse reads the coefficients from the registers.
func Parse(b *[CoefBytes]byte) Coefs {
	at := func(bit, bits int) int32 {
		v := int32(0)
		for i := bit; i < bit+bits; i++ {
			v = v<<1 | int32(b[i/8]>>(7-i%8)&1)
		}
		return v << (32 - bits) >> (32 - bits)
	}
	return Coefs{
		C0: at(0, 12), C1: at(12, 12), C00: at(24, 20), C10: at(44, 20),
		C01: at(64, 16), C11: at(80, 16), C20: at(96, 16), C21: at(112, 16), C30: at(128, 16),
	}
}

// Put writes the coefficients where the chip keeps them.
func (c *Coefs) Put(b *[CoefBytes]byte) {
	*b = [CoefBytes]byte{}
	put := func(bit, bits int, v int32) {
		for i := range bits {
			b[(bit+i)/8] |= byte(v>>(bits-1-i)&1) << (7 - (bit+i)%8)
		}
	}
	put(0, 12, c.C0)
	put(12, 12, c.C1)
	put(24, 20, c.C00)
	put(44, 20, c.C10)
	for i, v := range []int32{c.C01, c.C11, c.C20, c.C21, c.C30} {
		put(64+16*i, 16, v)
	}
}

// Celsius returns °C for a scaled result t (section 4.9.2).
func (c *Coefs) Celsius(t float64) float64 { return float64(c.C0)/2 + float64(c.C1)*t }

// Pressure returns Pa for scaled results p and t (section 4.9.1).
func (c *Coefs) Pressure(p, t float64) float64 {
	return float64(c.C00) + p*(float64(c.C10)+p*(float64(c.C20)+p*float64(c.C30))) +
		t*float64(c.C01) + t*p*(float64(c.C11)+p*float64(c.C21))
}

// Signed reads a result of three bytes, most significant first.
func Signed(b []byte) int32 { return int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8 }
