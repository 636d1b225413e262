// Package bmx280 holds what the driver and the simulated chip know of Bosch's
// BME280 and BMP280: registers, trimming parameters, and the formulas that make
// measurements of them (BST-BME280-DS002 and BST-BMP280-DS001; section numbers
// are the BME280's). Temperature and pressure are the same in both chips.
package bmx280

// Registers (section 5.3).
const (
	RegCalib    = 0x88 // CalibBytes of temperature and pressure; H1 is the last
	RegID       = 0xD0
	RegReset    = 0xE0
	RegCalibHum = 0xE1 // CalibHumBytes
	RegCtrlHum  = 0xF2 // takes effect at a write of RegCtrlMeas
	RegStatus   = 0xF3
	RegCtrlMeas = 0xF4
	RegConfig   = 0xF5
	RegData     = 0xF7 // press msb lsb xlsb, temp msb lsb xlsb, hum msb lsb

	CalibBytes    = 26
	CalibHumBytes = 7

	ResetWord = 0xB6
	Measuring = 1 << 3 // in RegStatus

	ModeSleep  = 0
	ModeForced = 1
	ModeNormal = 3

	// What the data registers hold for a quantity that was not measured.
	SkippedPT  = 0x80000
	SkippedHum = 0x8000
)

// Chip ids. 0x56 and 0x57 are samples of the BMP280 (BST-BMP280-DS001, 4.3.1).
const (
	IDBME280 = 0x60
	IDBMP280 = 0x58
)

// IsBMP280 says whether id is a BMP280's.
func IsBMP280(id byte) bool { return id >= 0x56 && id <= IDBMP280 }

// A Calibration holds the trimming parameters of one chip, named as in section
// 4.2.2. A BMP280 has none of humidity.
type Calibration struct {
	T1                             uint16
	T2, T3                         int16
	P1                             uint16
	P2, P3, P4, P5, P6, P7, P8, P9 int16
	H1                             uint8
	H2                             int16
	H3                             uint8
	H4, H5                         int16 // 12 bits, signed
	H6                             int8
}

// Parse reads the parameters from the registers (table 16): tp is from RegCalib,
// h from RegCalibHum, or nil for a BMP280.
func Parse(tp *[CalibBytes]byte, h *[CalibHumBytes]byte) Calibration {
	word := func(at int) uint16 { return uint16(tp[at]) | uint16(tp[at+1])<<8 }
	c := Calibration{T1: word(0), T2: int16(word(2)), T3: int16(word(4)), P1: word(6)}
	for i, p := range []*int16{&c.P2, &c.P3, &c.P4, &c.P5, &c.P6, &c.P7, &c.P8, &c.P9} {
		*p = int16(word(8 + 2*i))
	}
	if h == nil {
		return c
	}
	c.H1 = tp[25]
	c.H2 = int16(uint16(h[0]) | uint16(h[1])<<8)
	c.H3 = h[2]
	// The high bytes carry the signs; the two share 0xE5 for their low nibbles.
	c.H4 = int16(int8(h[3]))<<4 | int16(h[4]&0xF)
	c.H5 = int16(int8(h[5]))<<4 | int16(h[4]>>4)
	c.H6 = int8(h[6])
	return c
}

// Put writes the parameters where the chip keeps them.
func (c *Calibration) Put(regs *[256]byte) {
	le := func(at int, v uint16) { regs[at], regs[at+1] = byte(v), byte(v>>8) }
	le(RegCalib, c.T1)
	le(RegCalib+2, uint16(c.T2))
	le(RegCalib+4, uint16(c.T3))
	le(RegCalib+6, c.P1)
	for i, v := range []int16{c.P2, c.P3, c.P4, c.P5, c.P6, c.P7, c.P8, c.P9} {
		le(RegCalib+8+2*i, uint16(v))
	}
	regs[RegCalib+25] = c.H1
	le(RegCalibHum, uint16(c.H2))
	regs[RegCalibHum+2] = c.H3
	regs[RegCalibHum+3] = byte(c.H4 >> 4)
	regs[RegCalibHum+4] = byte(c.H4&0xF) | byte(c.H5&0xF)<<4
	regs[RegCalibHum+5] = byte(c.H5 >> 4)
	regs[RegCalibHum+6] = byte(c.H6)
}

// Fine returns t_fine for a 20-bit ADC value: the temperature in 1/5120 °C,
// which the other formulas want (appendix A, section 8.1: floating point, exact
// where the integer form of 4.2.3 rounds by up to 0.003 °C and 0.5 Pa).
func (c *Calibration) Fine(adc float64) float64 {
	d := adc/131072 - float64(c.T1)/8192
	return (adc/16384-float64(c.T1)/1024)*float64(c.T2) + d*d*float64(c.T3)
}

// Celsius is t_fine in °C.
func Celsius(fine float64) float64 { return fine / 5120 }

// Pressure returns Pa for a 20-bit ADC value, 0 where the parameters allow none.
func (c *Calibration) Pressure(adc, fine float64) float64 {
	t := fine/2 - 64000
	offset := t*t*float64(c.P6)/32768 + t*float64(c.P5)*2
	offset = offset/4 + float64(c.P4)*65536
	gain := (float64(c.P3)*t*t/524288 + float64(c.P2)*t) / 524288
	gain = (1 + gain/32768) * float64(c.P1)
	if gain == 0 {
		return 0
	}
	p := (1048576 - adc - offset/4096) * 6250 / gain
	return p + (float64(c.P9)*p*p/2147483648+p*float64(c.P8)/32768+float64(c.P7))/16
}

// Humidity returns %RH for a 16-bit ADC value, not held to 0..100.
func (c *Calibration) Humidity(adc, fine float64) float64 {
	t := fine - 76800
	h := adc - (float64(c.H4)*64 + float64(c.H5)/16384*t)
	h *= float64(c.H2) / 65536 * (1 + float64(c.H6)/67108864*t*(1+float64(c.H3)/67108864*t))
	return h * (1 - float64(c.H1)*h/524288)
}
