package sensor

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers and fields of the configuration (ADS1115 datasheet SBAS444, 8.1.2 and
// 8.1.3; ADS1015, SBAS473, alike).
const (
	adsConversion = 0
	adsConfig     = 1
	adsLow        = 2 // limits of the comparator
	adsHigh       = 3

	adsStart      = 1 << 15 // reads 0 while a conversion runs
	adsMuxShift   = 12
	adsGainShift  = 9
	adsSingleShot = 1 << 8
	adsRateShift  = 5
	adsNoCompare  = 3
)

// Inputs by the field MUX, full scales in V by the field PGA, rates in 1/s by the
// field DR.
var (
	adsInputs = []string{"AIN0-AIN1", "AIN0-AIN3", "AIN1-AIN3", "AIN2-AIN3", "AIN0", "AIN1", "AIN2", "AIN3"}
	adsScales = []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256}

	ads1115Rates = []int64{8, 16, 32, 64, 128, 250, 475, 860}
	ads1015Rates = []int64{128, 250, 490, 920, 1600, 2400, 3300}
)

var (
	ads1115Driver = adsDriver("ads1115", "16", ads1115Rates, 0)
	ads1015Driver = adsDriver("ads1015", "12", ads1015Rates, 4)
)

// adsDriver is the driver of one of the two; the converter's bits begin above
// bit low of its register.
func adsDriver(name, bits string, rates []int64, low uint) driver {
	return i2cDriver{
		Driver: Driver{
			Name:    name,
			Summary: "TI " + strings.ToUpper(name) + ": voltages over I2C, " + bits + " bits",
			Options: []Option{
				{"input", "string", "AIN0", "AIN0 to AIN3, AIN0-AIN1, AIN0-AIN3, AIN1-AIN3 or AIN2-AIN3; several with commas"},
				{"full_scale", "number", "4.096", "V: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256; pins bear the supply at most"},
				{"rate", "integer", fmt.Sprint(rates[4]), "conversions in a second: one of " + list(rates)},
			},
		},
		addresses: span(0x48, 0x4B),
		pins:      "0x48, or 0x49, 0x4a, 0x4b with ADDR at VDD, SDA, SCL",
		who: func(w *wire) string {
			low, err1 := w.word(adsLow)
			high, err2 := w.word(adsHigh)
			if err1 != nil || err2 != nil || low != 0x8000 || high != 0x7FFF { // after power-on (8.6.4)
				return ""
			}
			return strings.ToUpper(name)
		},
		guess: true,
		set: func(o *options) chip {
			c := &ads1x15{low: low, scale: o.number("full_scale", 4.096, 0.256, 6.144)}
			gain := slices.Index(adsScales, c.scale)
			if gain < 0 {
				o.fail("full_scale", "%g, want %s", c.scale, list(adsScales))
			}
			rate := o.whole("rate", rates[4])
			field := slices.Index(rates, rate)
			if field < 0 {
				o.fail("rate", "%d, want %s", rate, list(rates))
				return c
			}
			// The clock is 10 % off at most (electrical characteristics).
			c.period = time.Second/time.Duration(rate)*11/10 + 100*time.Microsecond
			c.config = adsStart | uint16(gain&7)<<adsGainShift | adsSingleShot | uint16(field)<<adsRateShift |
				adsNoCompare
			for name := range strings.SplitSeq(o.text("input", "AIN0"), ",") {
				name = strings.TrimSpace(name)
				mux := slices.Index(adsInputs, name)
				if mux < 0 || slices.Contains(c.mux, uint16(mux)) {
					o.fail("input", "%q, want %s, each once", name, strings.Join(adsInputs, ", "))
				}
				c.mux = append(c.mux, uint16(mux))
			}
			return c
		},
	}.driver()
}

func list[T any](values []T) string {
	var s []string
	for _, v := range values {
		s = append(s, fmt.Sprint(v))
	}
	return strings.Join(s, ", ")
}

// ads1x15 is the driver of both. It starts each conversion, so that a chip that
// lost its supply shows. It talks to the chip itself: periph's ads1x15 (v3.7.4)
// does not tell a converter at its end.
type ads1x15 struct {
	low    uint
	scale  float64 // V
	config uint16  // without the input
	mux    []uint16
	period time.Duration // of a conversion
}

// channels: voltage of one input, voltage_ain0 and so on of several; in steps of
// 1/32768 of the full scale, of 1/2048 with the ADS1015. An input whose converter
// is at its end is absent.
func (c *ads1x15) channels() []hal.Channel {
	chs := make([]hal.Channel, len(c.mux))
	for i, mux := range c.mux {
		name := "voltage"
		if len(c.mux) > 1 {
			name += "_" + strings.ReplaceAll(strings.ToLower(adsInputs[mux]), "-", "_")
		}
		chs[i] = hal.Channel{Name: name, Unit: "V", Kind: hal.Float}
	}
	return chs
}

// setUp has nothing to set up: each conversion does it.
func (c *ads1x15) setUp(*wire) error { return nil }

func (c *ads1x15) measure(w *wire) ([]hal.Value, error) {
	vals := make([]hal.Value, len(c.mux))
	var ended error
	some := false
	for i, mux := range c.mux {
		raw, err := c.convert(w, mux)
		if err != nil {
			return nil, err
		}
		if count := raw >> c.low; count == math.MaxInt16>>c.low || count == math.MinInt16>>c.low {
			ended = fmt.Errorf("%w: %s is beyond %g V", ErrSaturated, adsInputs[mux], c.scale)
			continue
		}
		some = true
		vals[i] = hal.FloatValue(round(float64(raw)*c.scale/32768, 1e10)) // the steps have ten decimals
	}
	if !some {
		return nil, ended
	}
	return vals, nil
}

// convert measures one input.
func (c *ads1x15) convert(w *wire, mux uint16) (int16, error) {
	config := c.config | mux<<adsMuxShift
	if err := w.putWord(adsConfig, config); err != nil {
		return 0, err
	}
	if err := w.pause(c.period); err != nil {
		return 0, err
	}
	if err := w.await("the conversion does not end", time.Millisecond, 100*time.Millisecond, func() (bool, error) {
		got, err := w.word(adsConfig)
		switch {
		case err != nil:
			return false, err
		case got == 0 || got == math.MaxUint16:
			return false, dead(byte(got))
		case got&^adsStart != config&^adsStart:
			return false, fmt.Errorf("%w: configuration %04x in place of %04x: is another sensor at this chip?",
				ErrProtocol, got, config)
		}
		return got&adsStart != 0, nil
	}); err != nil {
		return 0, err
	}
	raw, err := w.word(adsConversion)
	return int16(raw), err
}
