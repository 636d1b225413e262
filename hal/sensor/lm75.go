package sensor

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers that the LM75 and its relatives have in common: a pointer each, two
// bytes, but one byte for the configuration of most (LM75A datasheet, 7.4;
// TMP102, 7.5.1; TMP105, 7.5.1).
const (
	lm75Temp   = 0
	lm75Config = 1
	lm75Hyst   = 2
	lm75Over   = 3

	lm75Shutdown = 1 << 0 // in the configuration's first byte

	// The limits of the thermostat after power-on: 75 and 80 °C.
	lm75HystReset = 0x4B00
	lm75OverReset = 0x5000
)

var lm75Driver = i2cDriver{
	Driver: Driver{
		Name:    "lm75",
		Summary: "LM75, LM75A, LM75B: temperature over I2C",
		Options: []Option{{"variant", "string", "lm75",
			"lm75: steps of 0.5 °C; lm75a, lm75b: steps of 0.125 °C"}},
	},
	addresses: span(0x48, 0x4F),
	pins:      "0x48 to 0x4f, by A0 to A2",
	who: func(w *wire) string {
		if config, err := w.get(lm75Config); err != nil || config&0xE0 != 0 || !thermostat(w) {
			return ""
		}
		return "LM75"
	},
	guess: true,
	set: func(o *options) chip {
		cut := uint(7) // bits below are undefined
		if o.choice("variant", "lm75", "lm75a", "lm75b") != "lm75" {
			cut = 5
		}
		return &lm75{
			mask:   lm75Shutdown << 8,
			zero:   0xE000, // reserved; relatives have their resolution there
			settle: 300 * time.Millisecond,
			least:  -55, most: 127.875,
			decode: func(raw uint16) (float64, error) {
				return float64(int16(raw)>>cut) / float64(uint(256)>>cut), nil
			},
		}
	},
}.driver()

var tmp105Driver = i2cDriver{
	Driver: Driver{
		Name:    "tmp105",
		Summary: "TI TMP105, TMP75, TMP175 or TMP275: temperature over I2C",
		Options: []Option{{"resolution", "integer", "12", "bits: 9 (0.5 °C, 38 ms) to 12 (0.0625 °C, 300 ms)"}},
	},
	addresses: span(0x48, 0x4F),
	pins:      "0x48 to 0x4f, by A0 to A2; 0x48 and 0x49 with the TMP105",
	who: func(w *wire) string {
		if config, err := w.get(lm75Config); err != nil || config&0x80 != 0 || !thermostat(w) {
			return ""
		}
		return "TMP105"
	},
	guess: true,
	set: func(o *options) chip {
		bits := o.between("resolution", 12, 9, 12)
		return &lm75{
			config: uint16(bits-9) << 13,
			mask:   0x6000 | lm75Shutdown<<8,
			settle: 37500 * time.Microsecond << (bits - 9), // electrical characteristics
			least:  -55, most: 127.9375,
			decode: func(raw uint16) (float64, error) {
				if raw&0xF != 0 {
					return 0, errReserved
				}
				return float64(int16(raw)) / 256, nil
			},
		}
	},
}.driver()

var tmp102Driver = i2cDriver{
	Driver: Driver{
		Name:    "tmp102",
		Summary: "TI TMP102: temperature over I2C",
		Options: []Option{{"extended", "bool", "false", "above 128 °C, up to 150 °C"}},
	},
	addresses: span(0x48, 0x4B),
	pins:      "0x48, or 0x49, 0x4a, 0x4b with ADD0 at V+, SDA, SCL",
	who: func(w *wire) string {
		config, err := w.word(lm75Config)
		if err != nil || config&0x600F != 0x6000 || !thermostat(w) {
			return ""
		}
		return "TMP102"
	},
	guess: true,
	set: func(o *options) chip {
		c := &lm75{
			wide:   true,
			config: 3 << 6, // CR: 8 conversions a second, which no reset gives
			mask:   lm75Shutdown<<8 | 3<<6,
			reset:  2 << 6,
			clear:  1 << 4, // EM
			one:    0x6000, // R1, R0: "always 11"
			zero:   0x000F,
			settle: 160 * time.Millisecond, // a period of 125 ms and a conversion of 35 ms
			least:  -55, most: 150,
			decode: decodeTMP102,
		}
		if ext, _ := o.flag("extended"); ext {
			c.config |= 1 << 4
		}
		return c
	},
}.driver()

// lm75 is the driver of a thermometer with the registers above.
//
// The chip measures by itself, and has no id. What it is, is shown by bits that
// always read the same and by settings that read back. The thermostat's limits
// and polarity are left as they are: something may hang on its pin.
type lm75 struct {
	wide         bool   // the configuration has two bytes, else one, kept as the upper
	config, mask uint16 // bits that are set, and must read back
	reset        uint16 // what mask's bits are after power-on
	clear        uint16 // bits beside mask that config decides too
	one, zero    uint16 // bits of the configuration that always read 1, and 0
	settle       time.Duration
	least, most  float64 // °C
	decode       func(raw uint16) (float64, error)
}

var errReserved = fmt.Errorf("%w: bits are set that always read 0", ErrImplausible)

func (c *lm75) channels() []hal.Channel { return []hal.Channel{temperature} }

// readConfig returns the configuration, in the upper byte if it has one.
func (c *lm75) readConfig(w *wire) (uint16, error) {
	if c.wide {
		return w.word(lm75Config)
	}
	b, err := w.get(lm75Config)
	return uint16(b) << 8, err
}

// setUp writes the configuration if it is not there yet, which is also the case
// after a brown-out, and waits for the first value.
func (c *lm75) setUp(w *wire) error {
	was, err := c.readConfig(w)
	if err != nil {
		return err
	}
	if err := c.look(was); err != nil {
		return err
	}
	if was&c.mask == c.config&c.mask {
		return nil
	}
	to := was&^(c.mask|c.clear|1<<15) | c.config // bit 15 starts a conversion
	data := []byte{byte(to >> 8), byte(to)}
	if !c.wide {
		data = data[:1]
	}
	if err := w.put(lm75Config, data...); err != nil {
		return err
	}
	is, err := c.readConfig(w)
	if err != nil {
		return err
	}
	if is&c.mask == c.config&c.mask {
		return w.pause(c.settle)
	}
	if low, err := w.word(lm75Hyst); is == 0 && low == 0 && err == nil {
		return dead(0)
	}
	return fmt.Errorf("%w: the configuration reads %#04x after %#04x was written; "+
		"lm75, tmp102 and tmp105 are drivers for relatives", ErrWrongID, is, to)
}

// look finds what is no such chip by the bits of its configuration.
func (c *lm75) look(config uint16) error {
	ones := uint16(0xFF00)
	if c.wide {
		ones = 0xFFFF
	}
	switch {
	case config == ones:
		return dead(0xFF)
	case config == 0 && c.one != 0:
		return dead(0)
	case config&c.one != c.one || config&c.zero != 0:
		return fmt.Errorf("%w: the configuration reads %#04x, which a chip of this kind never does; "+
			"lm75, tmp102 and tmp105 are drivers for relatives", ErrWrongID, config)
	}
	return nil
}

func (c *lm75) measure(w *wire) ([]hal.Value, error) {
	if err := c.setUp(w); err != nil {
		return nil, err
	}
	raw, err := w.word(lm75Temp)
	if err != nil {
		return nil, err
	}
	if raw == 0 {
		if raw, err = c.nothing(w); err != nil {
			return nil, err
		}
	}
	temp, err := c.decode(raw)
	if err != nil {
		return nil, err
	}
	v, err := within(temp, c.least, c.most, "°C")
	return []hal.Value{v}, err
}

// nothing looks at a chip that reads 0 again: that is 0 °C, what a chip has before
// its first conversion, or a bus that something holds down. A configuration that no
// reset gives rules out the second. A thermostat with both limits at 0 °C is none.
func (c *lm75) nothing(w *wire) (raw uint16, err error) {
	if c.config&c.mask == c.reset && w.left() > c.settle+margin {
		if err := w.pause(c.settle); err != nil {
			return 0, err
		}
		if raw, err = w.word(lm75Temp); err != nil || raw != 0 {
			return raw, err
		}
	}
	hyst, err1 := w.word(lm75Hyst)
	over, err2 := w.word(lm75Over)
	if hyst == 0 && over == 0 && err1 == nil && err2 == nil {
		return 0, dead(0)
	}
	return 0, errors.Join(err1, err2)
}

// decodeTMP102 reads 12 bits, or 13 where bit 0 says so (7.5.2).
func decodeTMP102(raw uint16) (float64, error) {
	if raw&1 != 0 {
		if raw&6 != 0 {
			return 0, errReserved
		}
		return float64(int16(raw)>>3) / 16, nil
	}
	if raw&0xF != 0 {
		return 0, errReserved
	}
	return float64(int16(raw)>>4) / 16, nil
}

// thermostat says whether the limits are as after power-on, which is all that
// tells such a chip from another.
func thermostat(w *wire) bool {
	hyst, err1 := w.word(lm75Hyst)
	over, err2 := w.word(lm75Over)
	return err1 == nil && err2 == nil && hyst == lm75HystReset && over == lm75OverReset
}
