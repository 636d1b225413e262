package sim

// A calibration holds a BME280's trimming parameters, named as in the
// datasheet (BST-BME280-DS002, section 4.2.2).
type calibration struct {
	t1                             uint16
	t2, t3                         int16
	p1                             uint16
	p2, p3, p4, p5, p6, p7, p8, p9 int16
	h1                             uint8
	h2                             int16
	h3                             uint8
	h4, h5                         int16 // 12 bits, signed
	h6                             int8
}

// typical holds the T and P parameters of the datasheet's worked example
// (BMP280 datasheet, section 3.12; the BME280's T and P parts are the same) and
// H parameters as real chips carry them.
var typical = calibration{
	t1: 27504, t2: 26435, t3: -1000,
	p1: 36477, p2: -10685, p3: 3024, p4: 2855, p5: 140, p6: -7,
	p7: 15500, p8: -14600, p9: 6000,
	h1: 75, h2: 362, h3: 0, h4: 315, h5: 50, h6: 30,
}

// newCalibration spreads the typical parameters by about a percent, as chips
// of one reel differ. h4 and h5 stay positive: periph's bmxx80 (v3.7.4) reads
// them without their sign.
func newCalibration(seed uint64) calibration {
	lane := uint64(0)
	spread := func(v, by float64) float64 {
		lane++
		return v + by*unit(seed, 100+lane, 0)
	}
	c := typical
	c.t1 = uint16(spread(float64(c.t1), 300))
	c.t2 = int16(spread(float64(c.t2), 250))
	c.p1 = uint16(spread(float64(c.p1), 400))
	c.p2 = int16(spread(float64(c.p2), 100))
	c.p4 = int16(spread(float64(c.p4), 200))
	c.p5 = int16(spread(float64(c.p5), 30))
	c.h2 = int16(spread(float64(c.h2), 6))
	c.h4 = int16(spread(float64(c.h4), 8))
	c.h5 = int16(spread(float64(c.h5), 4))
	return c
}

// registers writes the parameters where the chip keeps them: 0x88 to 0xA1 and
// 0xE1 to 0xE7 (section 4.2.2, table 16).
func (c *calibration) registers(regs *[256]byte) {
	le := func(at int, v uint16) { regs[at], regs[at+1] = byte(v), byte(v>>8) }
	le(0x88, c.t1)
	le(0x8A, uint16(c.t2))
	le(0x8C, uint16(c.t3))
	le(0x8E, c.p1)
	for i, v := range []int16{c.p2, c.p3, c.p4, c.p5, c.p6, c.p7, c.p8, c.p9} {
		le(0x90+2*i, uint16(v))
	}
	regs[0xA1] = c.h1
	le(0xE1, uint16(c.h2))
	regs[0xE3] = c.h3
	regs[0xE4] = byte(c.h4 >> 4)
	regs[0xE5] = byte(c.h4&0xF) | byte(c.h5&0xF)<<4
	regs[0xE6] = byte(c.h5 >> 4)
	regs[0xE7] = byte(c.h6)
}

// temperature returns t_fine, in 1/5120 °C, for a 20-bit ADC value (appendix A,
// section 8.1, floating point: exact where the integer form rounds).
func (c *calibration) temperature(adc float64) (tFine float64) {
	v1 := (adc/16384 - float64(c.t1)/1024) * float64(c.t2)
	d := adc/131072 - float64(c.t1)/8192
	return v1 + d*d*float64(c.t3)
}

// fine is t_fine as the datasheet's integer form has it (section 4.2.3), which
// leaves out the lowest bits of the ADC value: up to 0.003 °C, and through the
// other compensations 0.5 Pa. periph computes pressure and humidity with this
// one, as the datasheet recommends, so a chip is true with it.
func (c *calibration) fine(adc int) float64 {
	v1 := (int64(adc)>>3 - int64(c.t1)<<1) * int64(c.t2) >> 11
	d := int64(adc)>>4 - int64(c.t1)
	return float64(v1 + (d*d>>12)*int64(c.t3)>>14)
}

// pressure returns Pa for a 20-bit ADC value.
func (c *calibration) pressure(adc, tFine float64) float64 {
	v1 := tFine/2 - 64000
	v2 := v1 * v1 * float64(c.p6) / 32768
	v2 += v1 * float64(c.p5) * 2
	v2 = v2/4 + float64(c.p4)*65536
	v1 = (float64(c.p3)*v1*v1/524288 + float64(c.p2)*v1) / 524288
	v1 = (1 + v1/32768) * float64(c.p1)
	if v1 == 0 {
		return 0
	}
	p := (1048576 - adc - v2/4096) * 6250 / v1
	v1 = float64(c.p9) * p * p / 2147483648
	v2 = p * float64(c.p8) / 32768
	return p + (v1+v2+float64(c.p7))/16
}

// humidity returns %RH for a 16-bit ADC value, not yet held to 0..100.
func (c *calibration) humidity(adc, tFine float64) float64 {
	t := tFine - 76800
	h := adc - (float64(c.h4)*64 + float64(c.h5)/16384*t)
	h *= float64(c.h2) / 65536 * (1 + float64(c.h6)/67108864*t*(1+float64(c.h3)/67108864*t))
	return h * (1 - float64(c.h1)*h/524288)
}

// inverse finds the ADC value in [0, top] whose f is nearest to want; f must
// rise with adc, or fall if down. Beyond f's range it returns an end, as a
// saturated converter does.
func inverse(top int, want float64, down bool, f func(adc float64) float64) int {
	lo, hi := 0, top // f(lo) is not past want, f(hi+1) is
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if past := f(float64(mid)) > want; past != down {
			hi = mid - 1
		} else {
			lo = mid
		}
	}
	if lo < top {
		below, above := want-f(float64(lo)), f(float64(lo+1))-want
		if down {
			below, above = -below, -above
		}
		if above < below {
			return lo + 1
		}
	}
	return lo
}
