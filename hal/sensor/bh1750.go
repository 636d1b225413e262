package sensor

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Commands of the BH1750FVI (datasheet 2011.11 rev. D, "instruction set
// architecture").
const (
	bh1750PowerOn = 0x01
	bh1750Reset   = 0x07 // the data register, while powered on
	bh1750TimeHi  = 0x40 // with bits 7 to 5 of the measurement time register
	bh1750TimeLo  = 0x60 // with bits 4 to 0
	bh1750Top     = 0xFFFF
)

var bh1750Driver = i2cDriver{
	Driver: Driver{
		Name:    "bh1750",
		Summary: "Rohm BH1750FVI: illuminance over I2C",
		Options: []Option{
			{"mode", "string", "high", "high: steps of 1 lx, 180 ms; high2: of 0.5 lx, 180 ms; low: of 4 lx, 24 ms"},
			{"mtreg", "integer", "69",
				"measurement time, 31 to 254: more is finer and slower, less reaches further (121 klx at 31)"},
		},
	},
	addresses: []uint16{0x23, 0x5C},
	pins:      "0x23, or 0x5c with ADDR high",
	set: func(o *options) chip {
		c := &bh1750{mtreg: byte(o.between("mtreg", 69, 31, 254))}
		// "Electrical characteristics" give the times at mtreg 69, maximum.
		switch o.choice("mode", "high", "high2", "low") {
		case "high":
			c.command, c.perLux, c.takes = 0x20, 1.2, 180*time.Millisecond
		case "high2":
			c.command, c.perLux, c.takes = 0x21, 2.4, 180*time.Millisecond
		case "low":
			c.command, c.perLux, c.takes = 0x23, 1.2, 24*time.Millisecond
		}
		c.takes = c.takes * time.Duration(c.mtreg) / 69
		c.perLux *= float64(c.mtreg) / 69
		return c
	},
}.driver()

// bh1750 makes the chip measure once for each reading; it sleeps between.
// periph's driver knows whole lux only (v3.7.4).
//
// The chip has neither an id nor a register that reads back. So a bus that
// something holds down passes for darkness.
type bh1750 struct {
	command byte
	mtreg   byte
	perLux  float64 // counts
	takes   time.Duration
}

func (c *bh1750) channels() []hal.Channel {
	return []hal.Channel{{Name: "illuminance", Unit: "lx", Kind: hal.Float}}
}

// setUp finds that the chip acknowledges. All settings go out with each
// measurement: a brown-out between two loses them.
func (c *bh1750) setUp(w *wire) error { return w.tx([]byte{bh1750PowerOn}, nil) }

func (c *bh1750) measure(w *wire) ([]hal.Value, error) {
	for _, b := range []byte{bh1750PowerOn, bh1750TimeHi | c.mtreg>>5, bh1750TimeLo | c.mtreg&0x1F, c.command} {
		if err := w.tx([]byte{b}, nil); err != nil {
			return nil, err
		}
	}
	if err := w.pause(c.takes); err != nil {
		return nil, err
	}
	raw, err := c.data(w)
	if err != nil {
		return nil, err
	}
	if raw == bh1750Top {
		return nil, c.top(w)
	}
	return []hal.Value{hal.FloatValue(round(float64(raw)/c.perLux, 100))}, nil
}

func (c *bh1750) data(w *wire) (int, error) {
	var b [2]byte
	err := w.tx(nil, b[:])
	return int(b[0])<<8 | int(b[1]), err
}

// top tells light that is too bright from a bus that nothing drives: the chip's
// data can be set to 0.
func (c *bh1750) top(w *wire) error {
	for _, b := range []byte{bh1750PowerOn, bh1750Reset} {
		if err := w.tx([]byte{b}, nil); err != nil {
			return err
		}
	}
	switch raw, err := c.data(w); {
	case err == nil && raw == bh1750Top:
		return dead(0xFF)
	case err != nil && !errors.Is(err, hal.ErrNoDevice): // one that was reset may refuse
		return err
	}
	return fmt.Errorf("%w: more than %.0f lx; a lower mtreg reaches further", ErrSaturated, bh1750Top/c.perLux)
}
