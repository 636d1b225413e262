package sensor

import (
	"fmt"
	"math"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers of both chips, two bytes each (INA219 datasheet SBOS448, 8.6; INA226,
// SBOS547, 7.6).
const (
	inaConfig      = 0
	inaShunt       = 1
	inaBus         = 2
	inaPower       = 3
	inaCurrent     = 4
	inaCalibration = 5

	ina226Mask         = 0x06
	ina226Manufacturer = 0xFE
	ina226Die          = 0xFF

	ina219Overflow = 1 << 0 // of the bus register
	ina226Overflow = 1 << 2 // of Mask/Enable
)

var ina219Driver = i2cDriver{
	Driver: Driver{
		Name:    "ina219",
		Summary: "TI INA219: voltage, current and power over I2C",
		Options: inaOptions,
	},
	addresses: span(0x40, 0x4F),
	pins:      "0x40 to 0x4f, by A0 and A1",
	who: func(w *wire) string {
		if config, err := w.word(inaConfig); err != nil || config != 0x399F { // after power-on
			return ""
		}
		return "INA219"
	},
	guess: true,
	set: func(o *options) chip {
		return newINA(o, &ina2xx{
			// 32 V, 320 mV, 12 bits, without end: what power-on gives (8.6.2.1).
			config: 0x399F,
			factor: 0.04096, powers: 20, // 8.5.1, equations 1 and 3
			shuntStep: 10e-6, busStep: 4e-3, busShift: 3,
			settle: 2 * time.Millisecond, // 532 µs for each of both (electrical characteristics)
		})
	},
}.driver()

var ina226Driver = i2cDriver{
	Driver: Driver{
		Name:    "ina226",
		Summary: "TI INA226: voltage, current and power over I2C",
		Options: inaOptions,
	},
	addresses: span(0x40, 0x4F),
	pins:      "0x40 to 0x4f, by A0 and A1",
	who:       whoINA226,
	set: func(o *options) chip {
		return newINA(o, &ina2xx{
			id: true,
			// 1.1 ms, no averages, without end: what power-on gives (7.6.1).
			config: 0x4127,
			factor: 0.00512, powers: 25, // 7.5, equations 1 and 3
			shuntStep: 2.5e-6, busStep: 1.25e-3,
			settle: 3 * time.Millisecond,
		})
	},
}.driver()

var inaOptions = []Option{
	{"shunt_ohms", "number", "0.1", "resistance of the shunt, 0.0001 to 100"},
	{"current_lsb", "number", "0.0001", "A for one step of the current, which has 32767 each way; " +
		"a small one is finer, a large one reaches further; the chip takes the next step above it that it can"},
}

// ina2xx is the driver of both. periph's ina219 (v3.7.4) takes a bus of zeros for a
// chip, does not see that a brown-out took the calibration, and gives no voltage at
// an overflow; it has no INA226.
type ina2xx struct {
	id                 bool // the chip has one
	config             uint16
	factor, powers     float64
	shuntStep, busStep float64 // V
	busShift           uint
	settle             time.Duration

	step        float64 // A, by the calibration
	calibration uint16
}

func newINA(o *options, c *ina2xx) chip {
	ohms := o.number("shunt_ohms", 0.1, 1e-4, 100)
	step := o.number("current_lsb", 1e-4, 1e-7, 1)
	// Cut, not rounded; a little more, since 4096 comes out as 4095.9999.
	cal, most := math.Floor(c.factor/(step*ohms)+1e-6), math.MaxInt16
	if !c.id {
		most = math.MaxUint16 &^ 1 // the INA219's lowest bit is always 0
	}
	if cal < 2 || cal > math.MaxInt16 && c.id || cal > math.MaxUint16 {
		o.fail("current_lsb", "%g with shunt_ohms %g needs a calibration of %.0f, want 2 to %d", step, ohms, cal, most)
		return c
	}
	c.calibration = uint16(cal) & uint16(most)
	// The whole calibration is less than what was asked for, so a step is more: by a
	// third where 2.7 becomes 2.
	c.step = c.factor / (float64(c.calibration) * ohms)
	return c
}

// channels: voltage is that of the load against ground.
func (c *ina2xx) channels() []hal.Channel {
	return []hal.Channel{
		{Name: "shunt_voltage", Unit: "V", Kind: hal.Float}, {Name: "voltage", Unit: "V", Kind: hal.Float},
		{Name: "current", Unit: "A", Kind: hal.Float}, {Name: "power", Unit: "W", Kind: hal.Float},
	}
}

// Identities of the INA226 (7.6.9, 7.6.10): "TI", and the die without its revision.
const (
	inaTI     = 0x5449
	ina226Is  = 0x2260
	ina226Rev = 0x000F
)

func whoINA226(w *wire) string {
	if ti, err := w.word(ina226Manufacturer); err != nil || ti != inaTI {
		return ""
	}
	if die, err := w.word(ina226Die); err != nil || die&^ina226Rev != ina226Is {
		return ""
	}
	return "INA226"
}

func (c *ina2xx) identify(w *wire) error {
	ti, err := w.word(ina226Manufacturer)
	if err != nil {
		return err
	}
	die, err := w.word(ina226Die)
	switch {
	case err != nil:
		return err
	case ti == die && (ti == 0 || ti == math.MaxUint16):
		return dead(byte(ti))
	case ti != inaTI || die&^ina226Rev != ina226Is:
		// An INA219 has no such registers, and gives what was read before.
		what := map[uint16]string{0x2270: " (an INA260)", 0x399F: " (an INA219)"}[die]
		return fmt.Errorf("%w: ids %04x and %04x%s, want 5449 and 226x (INA226)", ErrWrongID, ti, die, what)
	}
	return nil
}

// setUp shows by settings that read back that a chip is there: the INA219 has no
// id.
func (c *ina2xx) setUp(w *wire) error {
	if c.id {
		if err := c.identify(w); err != nil {
			return err
		}
	}
	if err := w.putWord(inaConfig, c.config); err != nil {
		return err
	}
	if err := w.putWord(inaCalibration, c.calibration); err != nil {
		return err
	}
	if ok, err := c.isSet(w); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%w: its settings do not read back", hal.ErrNoDevice)
	}
	return w.pause(c.settle)
}

func (c *ina2xx) isSet(w *wire) (bool, error) {
	config, err := w.word(inaConfig)
	if err != nil {
		return false, err
	}
	cal, err := w.word(inaCalibration)
	return config == c.config && cal == c.calibration, err
}

// measure reads what the chip, which measures without end, has last. An overflow,
// or a shunt at the end of the INA226's converter, leaves current and power
// without a value.
func (c *ina2xx) measure(w *wire) ([]hal.Value, error) {
	// A brown-out loses the calibration, and shows as a current of 0 alone.
	if ok, err := c.isSet(w); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%w: the chip has lost its settings", ErrNotReady)
	}
	var r [inaCurrent + 1]uint16
	for reg := byte(inaShunt); reg <= inaCurrent; reg++ {
		var err error
		if r[reg], err = w.word(reg); err != nil {
			return nil, err
		}
	}
	flags, overflow := r[inaBus], uint16(ina219Overflow)
	if c.id {
		var err error
		if flags, err = w.word(ina226Mask); err != nil {
			return nil, err
		}
		overflow = ina226Overflow
	}
	if c.id && r[inaBus]>>15 != 0 { // 7.6.3: always 0
		return nil, fmt.Errorf("%w: bus voltage %04x", ErrImplausible, r[inaBus])
	}
	shunt := int16(r[inaShunt])
	vals := []hal.Value{
		hal.FloatValue(round(float64(shunt)*c.shuntStep, 1e8)),
		hal.FloatValue(round(float64(r[inaBus]>>c.busShift)*c.busStep, 1e5)), {}, {},
	}
	ended := c.id && (shunt == math.MaxInt16 || shunt == math.MinInt16)
	if ended {
		vals[0] = hal.Value{}
	}
	if flags&overflow == 0 && !ended {
		vals[2] = hal.FloatValue(round(float64(int16(r[inaCurrent]))*c.step, 1e9))
		vals[3] = hal.FloatValue(round(float64(r[inaPower])*c.step*c.powers, 1e9))
	}
	return vals, nil
}
