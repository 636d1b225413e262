package sensor

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var max31855Driver = spiDriver{
	Driver: Driver{
		Name:    "max31855",
		Summary: "Maxim MAX31855: a thermocouple and its cold end over SPI",
	},
	clock: hal.SPIOptions{Hz: 1_000_000, Mode: 0}, // the chip takes 5 MHz; cables don't
	bytes: 4,
	set:   func(*options) spiChip { return &max31855{} },
}.driver()

var max6675Driver = spiDriver{
	Driver: Driver{
		Name:    "max6675",
		Summary: "Maxim MAX6675: a type K thermocouple over SPI",
	},
	clock: hal.SPIOptions{Hz: 1_000_000, Mode: 0}, // the chip takes 4.3 MHz
	bytes: 2,
	set:   func(*options) spiChip { return &max6675{} },
}.driver()

// zeros tells 0 °C from a line that is held low: both read as zeros alone. It
// takes them for a temperature only if the one before was near.
type zeros struct {
	last  float64 // °C
	known bool
}

// near is how far a probe may have come since the last reading, in °C.
const near = 5

// allow judges a frame of zeros.
func (z *zeros) allow() error {
	if z.known && math.Abs(z.last) <= near {
		return nil
	}
	return dead(0)
}

func (z *zeros) note(celsius float64) { z.last, z.known = celsius, true }

// A max31855 is the driver of the same name: MAX31855 datasheet, tables 2 to 5.
type max31855 struct{ zeros }

// The frame's bits, table 2.
const (
	max31855Fault    = 1 << 16
	max31855Reserved = 1<<17 | 1<<3
	max31855Open     = 1 << 0
	max31855ToGround = 1 << 1
	max31855ToSupply = 1 << 2
)

// channels: the thermocouple to 0.25 °C, its cold end, which is the chip, to
// 0.0625 °C.
func (*max31855) channels() []hal.Channel {
	return []hal.Channel{temperature, {Name: "reference_temperature", Unit: "°C", Kind: hal.Float}}
}

// wait has nothing to wait for: the chip measures by itself, each 100 ms.
func (*max31855) wait(context.Context) error { return nil }

// parse takes -270 to 1800 °C, what thermocouples of the chip's types can have
// (table 1), and -55 to 127 °C for the chip itself.
func (c *max31855) parse(frame []byte) ([]hal.Value, error) {
	v := binary.BigEndian.Uint32(frame)
	switch {
	case v == math.MaxUint32:
		return nil, dead(0xFF)
	case v == 0:
		if err := c.allow(); err != nil {
			return nil, err
		}
	case v&max31855Reserved != 0:
		return nil, fmt.Errorf("%w: reserved bits are set in %08x", ErrImplausible, v)
	case v&max31855Open != 0:
		return nil, fmt.Errorf("%w: no thermocouple is connected", ErrOpenCircuit)
	case v&max31855ToGround != 0:
		return nil, fmt.Errorf("%w: the thermocouple touches ground", ErrShortCircuit)
	case v&max31855ToSupply != 0:
		return nil, fmt.Errorf("%w: the thermocouple touches the supply", ErrShortCircuit)
	case v&max31855Fault != 0:
		return nil, fmt.Errorf("%w: without a reason", ErrFault)
	}
	probe, err := within(float64(int32(v)>>18)/4, -270, 1800, "°C")
	if err != nil {
		return nil, err
	}
	ref, err := within(float64(int16(v)>>4)/16, -55, 127, "°C")
	if err != nil {
		return nil, fmt.Errorf("cold end: %w", err)
	}
	c.note(probe.Float())
	return []hal.Value{probe, ref}, nil
}

// A max6675 is the driver of the same name: MAX6675 datasheet, figure 1 and
// "serial interface".
type max6675 struct {
	zeros
	asked time.Time // when the last frame was read
}

// The frame's bits, figure 1. Bit 0 is not driven.
const (
	max6675Open  = 1 << 2
	max6675Fixed = 1<<15 | 1<<1 // read 0
)

// max6675Convert is the longest conversion, 0.22 s, and a little. Selecting the
// chip stops one, so that a chip that is read more often never measures.
const max6675Convert = 230 * time.Millisecond

// channels: to 0.25 °C, 0 to 1023.75 °C. The cold end is corrected in the chip.
func (*max6675) channels() []hal.Channel { return []hal.Channel{temperature} }

// wait lets a conversion end.
func (c *max6675) wait(ctx context.Context) error {
	if rest := time.Until(c.asked.Add(max6675Convert)); rest > 0 {
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	c.asked = time.Now()
	return nil
}

func (c *max6675) parse(frame []byte) ([]hal.Value, error) {
	v := binary.BigEndian.Uint16(frame)
	switch {
	case v == math.MaxUint16:
		return nil, dead(0xFF)
	case v == 0:
		if err := c.allow(); err != nil {
			return nil, err
		}
	case v&max6675Fixed != 0:
		return nil, fmt.Errorf("%w: bits that are always 0 are set in %04x", ErrImplausible, v)
	case v&max6675Open != 0:
		return nil, fmt.Errorf("%w: no thermocouple is connected", ErrOpenCircuit)
	}
	celsius := float64(v>>3) / 4
	c.note(celsius)
	return []hal.Value{hal.FloatValue(celsius)}, nil
}
