// Package bmp3 holds what the driver and the simulated chip know of Bosch's
// BMP388 and BMP390: registers, trimming coefficients, and the formulas that make
// measurements of them (BST-BMP388-DS001; section numbers are that one's). Both
// chips have the same.
package bmp3

import "encoding/binary"

// Registers (section 4.2).
const (
	RegID     = 0x00
	RegErr    = 0x02
	RegStatus = 0x03
	RegData   = 0x04 // pressure xlsb lsb msb, temperature xlsb lsb msb
	RegPower  = 0x1B
	RegOSR    = 0x1C // osr_t << 3 | osr_p
	RegConfig = 0x1F // the filter's coefficient
	RegCalib  = 0x31 // CalibBytes
	RegCmd    = 0x7E

	CalibBytes = 21

	Fatal      = 1 << 0 // in RegErr
	CmdErr     = 1 << 1
	ConfErr    = 1 << 2
	Ready      = 1<<5 | 1<<6 // both measurements, in RegStatus
	CmdReady   = 1 << 4
	Sleep      = 0x03 // in RegPower: both converters on
	Forced     = 0x13
	SoftReset  = 0xB6
	NotDone    = 0x800000 // what data is after power-on
	ResetPower = 0x00
)

// Chip ids.
const (
	IDBMP388 = 0x50
	IDBMP390 = 0x60
)

// A Calibration holds the trimming coefficients of one chip, as the chip has
// them (section 3.11.1).
type Calibration struct {
	T1, T2   uint16
	T3       int8
	P1, P2   int16
	P3, P4   int8
	P5, P6   uint16
	P7, P8   int8
	P9       int16
	P10, P11 int8
}

// Parse reads the coefficients from the registers.
func Parse(b *[CalibBytes]byte) Calibration {
	word := func(at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
	return Calibration{
		T1: word(0), T2: word(2), T3: int8(b[4]),
		P1: int16(word(5)), P2: int16(word(7)), P3: int8(b[9]), P4: int8(b[10]),
		P5: word(11), P6: word(13), P7: int8(b[15]), P8: int8(b[16]),
		P9: int16(word(17)), P10: int8(b[19]), P11: int8(b[20]),
	}
}

// Put writes the coefficients where the chip keeps them.
func (c *Calibration) Put(b *[CalibBytes]byte) {
	put := binary.LittleEndian.PutUint16
	put(b[0:], c.T1)
	put(b[2:], c.T2)
	b[4] = byte(c.T3)
	put(b[5:], uint16(c.P1))
	put(b[7:], uint16(c.P2))
	b[9], b[10] = byte(c.P3), byte(c.P4)
	put(b[11:], c.P5)
	put(b[13:], c.P6)
	b[15], b[16] = byte(c.P7), byte(c.P8)
	put(b[17:], uint16(c.P9))
	b[19], b[20] = byte(c.P10), byte(c.P11)
}

// Celsius returns °C for a 24-bit ADC value (section 9.2).
func (c *Calibration) Celsius(adc float64) float64 {
	d := adc - float64(c.T1)*256
	return d*float64(c.T2)/(1<<30) + d*d*float64(c.T3)/(1<<48)
}

// Pressure returns Pa for a 24-bit ADC value at t °C (section 9.3).
func (c *Calibration) Pressure(adc, t float64) float64 {
	offset := float64(c.P5)*8 + t*(float64(c.P6)/(1<<6)+t*(float64(c.P7)/(1<<8)+t*float64(c.P8)/(1<<15)))
	gain := (float64(c.P1)-1<<14)/(1<<20) + t*((float64(c.P2)-1<<14)/(1<<29)+
		t*(float64(c.P3)/(1<<32)+t*float64(c.P4)/(1<<37)))
	square := (float64(c.P9) + t*float64(c.P10)) / (1 << 48)
	return offset + adc*(gain+adc*(square+adc*float64(c.P11)/(1<<65)))
}
