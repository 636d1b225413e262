package sim

import "github.com/tidemill/tidemill/hal/sensor/bmx280"

// typical holds the T and P parameters of the datasheet's worked example
// (BMP280 datasheet, section 3.12; the BME280's T and P parts are the same) and
// an H2 as real chips carry it.
var typical = bmx280.Calibration{
	T1: 27504, T2: 26435, T3: -1000,
	P1: 36477, P2: -10685, P3: 3024, P4: 2855, P5: 140, P6: -7,
	P7: 15500, P8: -14600, P9: 6000,
	H2: 362,
}

// newCalibration spreads the typical parameters by about a percent, as chips of
// one reel differ, and draws those of humidity, other than H2, from the whole
// range that the datasheet gives them (section 4.2.2), signs included, as long
// as the chip can measure what Weather has.
func newCalibration(seed uint64) bmx280.Calibration {
	lane := uint64(100)
	spread := func(v, by float64) float64 {
		lane++
		return v + by*unit(seed, lane, 0)
	}
	c := typical
	c.T1 = uint16(spread(float64(c.T1), 300))
	c.T2 = int16(spread(float64(c.T2), 250))
	c.P1 = uint16(spread(float64(c.P1), 400))
	c.P2 = int16(spread(float64(c.P2), 100))
	c.P4 = int16(spread(float64(c.P4), 200))
	c.P5 = int16(spread(float64(c.P5), 30))
	c.H2 = int16(spread(float64(c.H2), 6))
	for {
		c.H1 = uint8(spread(127.5, 127.5))
		c.H3 = uint8(spread(127.5, 127.5))
		c.H4 = int16(spread(0, 2047.9))
		c.H5 = int16(spread(0, 2047.9))
		c.H6 = int8(spread(0, 127.9))
		if measures(&c) {
			return c
		}
	}
}

// driest and wettest are the limits of Weather's humidity, %RH.
const driest, wettest = 5, 100

// measures says whether the converter of humidity covers what Weather can be, at
// both ends of the chip's range of temperature and between.
func measures(c *bmx280.Calibration) bool {
	for _, temp := range []float64{-40, 0, 40, 85} {
		if c.Humidity(0, temp*5120) > driest || c.Humidity(1<<16-1, temp*5120) < wettest {
			return false
		}
	}
	return true
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
