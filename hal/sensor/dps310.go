package sensor

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/dps3"
)

var dps310Driver = i2cDriver{
	Driver: Driver{
		Name:    "dps310",
		Summary: "Infineon DPS310 or DPS368: pressure and temperature over I2C",
		Options: []Option{
			{"oversampling", "integer", "16", "conversions for each pressure: 1 (4 ms), 2, 4, 8, 16 (28 ms) to 128 (207 ms)"},
			{"temperature_oversampling", "integer", "1", "conversions for each temperature: as above"},
		},
	},
	addresses: []uint16{0x77, 0x76},
	pins:      "0x77, or 0x76 with SDO low",
	who: func(w *wire) string {
		// In a BMP388 the register of the id is part of a clock.
		if c := (&dps310{}); c.identify(w) != nil || c.load(w) != nil {
			return ""
		}
		return "DPS310"
	},
	set: func(o *options) chip {
		over := func(key string, def int64) int {
			n := o.whole(key, def)
			if n < 1 || n > 128 || bits.OnesCount64(uint64(n)) != 1 {
				o.fail(key, "%d, want 1, 2, 4, 8, 16, 32, 64 or 128", n)
				return 0
			}
			return bits.Len64(uint64(n)) - 1
		}
		return &dps310{overP: over("oversampling", 16), overT: over("temperature_oversampling", 1)}
	},
}.driver()

// dps310 makes the chip measure once for each reading, first the temperature,
// which the pressure hangs on. A temperature outside of its range (-40 to 85 °C)
// is an error, a pressure outside of its range (300 to 1200 hPa) is absent.
type dps310 struct {
	overP, overT int // two to the over conversions
	coefs        dps3.Coefs
	regs         [2]byte // of RegPressure and RegTemp
	config       byte    // RegConfig
	note         string
}

// Note says that the chip has no id.
func (c *dps310) Note() string { return c.note }

func (c *dps310) channels() []hal.Channel { return []hal.Channel{temperature, pressure} }

// dps310Micros is how long a measurement of two to the n conversions takes, in µs
// (table 16).
var dps310Micros = [8]int{3600, 5200, 8400, 14800, 27600, 53200, 104400, 206800}

// dps310Rate is written where the rate of continuous measurements is, which has
// no effect: a chip that lost it has restarted.
const dps310Rate = 1 << 4

// identify finds out whether it is such a chip.
func (c *dps310) identify(w *wire) error {
	id, err := w.get(dps3.RegID)
	switch {
	case err != nil:
		return err
	case id == dps3.ID:
		return nil
	case id == 0:
		return dead(id)
	case id == 0xFF:
		if c.load(w) != nil {
			return dead(id)
		}
		if c.note == "" {
			c.note = "the chip has no product id, as QEMU's model of a DPS310 has none"
		}
		return nil
	}
	if name := whoBMX280(w); name != "" {
		return fmt.Errorf("%w: it is a %s", ErrWrongID, name)
	}
	return fmt.Errorf("%w: product id %#02x, want 0x10 (DPS310)", ErrWrongID, id)
}

// load reads the coefficients.
func (c *dps310) load(w *wire) error {
	var b [dps3.CoefBytes]byte
	if err := w.read(dps3.RegCoef, b[:]); err != nil {
		return err
	}
	if uniform(b[:]) {
		return fmt.Errorf("%w: the chip's coefficients are all zeros or ones", ErrImplausible)
	}
	c.coefs = dps3.Parse(&b)
	return nil
}

func (c *dps310) setUp(w *wire) error {
	if err := c.identify(w); err != nil {
		return err
	}
	// Both are there 40 ms after power-on (table 6).
	const started = dps3.ReadyCoefs | dps3.ReadyChip
	if err := w.await("the chip does not load its coefficients", 5*time.Millisecond, 100*time.Millisecond,
		func() (bool, error) {
			m, err := w.get(dps3.RegMeasure)
			return m&started == started, err
		}); err != nil {
		return err
	}
	if err := c.load(w); err != nil {
		return err
	}
	source, err := w.get(dps3.RegSource)
	if err != nil {
		return err
	}
	if err := c.warmChips(w); err != nil {
		return err
	}
	return c.configure(w, source&dps3.External)
}

// warmChips corrects chips that read 60 °C at 20 °C. The registers stand in no
// datasheet; the maker's own code and the kernel's dps310.c write them unless bit
// 1 of 0x32 says that there is no need.
func (c *dps310) warmChips(w *wire) error {
	fine, err := w.get(0x32)
	if err != nil || fine&2 != 0 {
		return err
	}
	for _, x := range [][2]byte{{0x0E, 0xA5}, {0x0F, 0x96}, {0x62, 0x02}, {0x0E, 0}, {0x0F, 0}} {
		if err := w.put(x[0], x[1]); err != nil {
			return err
		}
	}
	return nil
}

// configure writes the settings, with the thermometer that the coefficients are
// for, and clears what was measured before.
func (c *dps310) configure(w *wire, source byte) error {
	c.regs = [2]byte{dps310Rate | byte(c.overP), source | dps310Rate | byte(c.overT)}
	c.config = 0
	if c.overP > 3 {
		c.config |= dps3.ShiftP
	}
	if c.overT > 3 {
		c.config |= dps3.ShiftT
	}
	for _, x := range [][2]byte{{dps3.RegPressure, c.regs[0]}, {dps3.RegTemp, c.regs[1]}, {dps3.RegConfig, c.config}} {
		if err := w.put(x[0], x[1]); err != nil {
			return err
		}
	}
	var old [6]byte
	return w.read(dps3.RegData, old[:])
}

func (c *dps310) measure(w *wire) ([]hal.Value, error) {
	var is [4]byte
	if err := w.read(dps3.RegPressure, is[:]); err != nil {
		return nil, err
	}
	switch {
	case uniform(is[:]):
		return nil, dead(is[0])
	case [2]byte(is[:2]) != c.regs || is[3] != c.config:
		return nil, fmt.Errorf("%w: the chip has restarted", ErrNotReady)
	}
	if err := c.one(w, is[2], dps3.MeasureT, dps3.ReadyT, c.overT); err != nil {
		return nil, err
	}
	if err := c.one(w, is[2], dps3.MeasureP, dps3.ReadyP, c.overP); err != nil {
		return nil, err
	}
	var d [6]byte
	if err := w.read(dps3.RegData, d[:]); err != nil {
		return nil, err
	}
	t := float64(dps3.Signed(d[3:])) / dps3.Scale[c.overT]
	temp, err := within(round(c.coefs.Celsius(t), 1000), -40, 85, "°C")
	if err != nil {
		return nil, err
	}
	v := hal.Value{}
	p := round(c.coefs.Pressure(float64(dps3.Signed(d[:3]))/dps3.Scale[c.overP], t), 100)
	if p >= 30000 && p <= 120000 {
		v = hal.FloatValue(p)
	}
	return []hal.Value{temp, v}, nil
}

// one makes one measurement. The upper bits of RegMeasure can only be read; they
// are written as they were, since QEMU's model takes them.
func (c *dps310) one(w *wire, was byte, what, ready byte, over int) error {
	if err := w.put(dps3.RegMeasure, was&0xF8|what); err != nil {
		return err
	}
	if err := w.pause(time.Duration(dps310Micros[over]) * time.Microsecond); err != nil {
		return err
	}
	return w.await("the chip does not end its measurement", time.Millisecond, 100*time.Millisecond,
		func() (bool, error) {
			m, err := w.get(dps3.RegMeasure)
			return m&ready != 0, err
		})
}
