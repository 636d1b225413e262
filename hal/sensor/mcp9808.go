package sensor

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers of the MCP9808 (DS25095A, table 5-1), two bytes each unless said.
const (
	mcp9808Config     = 0x01
	mcp9808Temp       = 0x05
	mcp9808Maker      = 0x06 // mcp9808MakerID
	mcp9808Device     = 0x07 // mcp9808DeviceID above a revision
	mcp9808Resolution = 0x08 // one byte

	mcp9808MakerID  = 0x0054
	mcp9808DeviceID = 0x04
	mcp9808Shutdown = 1 << 8 // in mcp9808Config
	mcp9808Finest   = 3      // 0.0625 °C, as after power-on

	// mcp9808Settle is a conversion at the finest resolution, 250 ms typical, and
	// what chips differ by (table 5-5).
	mcp9808Settle = 320 * time.Millisecond
)

var mcp9808Driver = i2cDriver{
	Driver: Driver{
		Name:    "mcp9808",
		Summary: "Microchip MCP9808: temperature over I2C",
	},
	addresses: span(0x18, 0x1F),
	pins:      "0x18 to 0x1f, by A0 to A2",
	who: func(w *wire) string {
		if (&mcp9808{}).identify(w) != nil {
			return ""
		}
		return "MCP9808"
	},
	set: func(*options) chip { return &mcp9808{} },
}.driver()

// mcp9808 reads steps of 0.0625 °C. periph's driver looks at no id (v3.7.4).
type mcp9808 struct{}

func (c *mcp9808) channels() []hal.Channel { return []hal.Channel{temperature} }

func (c *mcp9808) identify(w *wire) error {
	maker, err := w.word(mcp9808Maker)
	if err != nil {
		return err
	}
	device, err := w.word(mcp9808Device)
	if err != nil {
		return err
	}
	switch {
	case maker == device && (maker == 0 || maker == 0xFFFF):
		return dead(byte(maker))
	case maker != mcp9808MakerID:
		return fmt.Errorf("%w: maker id %#04x, want 0x0054 (Microchip)", ErrWrongID, maker)
	case device>>8 != mcp9808DeviceID:
		what := map[uint16]string{0x00: " (an MCP9805)", 0x02: " (an MCP9804)", 0x20: " (an MCP98242 or MCP98243)",
			0x21: " (an MCP98243)", 0x22: " (an MCP98244)"}[device>>8] // jc42.c of the kernel lists them
		return fmt.Errorf("%w: device id %#02x%s, want 0x04 (MCP9808)", ErrWrongID, device>>8, what)
	}
	return nil
}

// setUp wakes the chip if it sleeps and sets its resolution.
func (c *mcp9808) setUp(w *wire) error {
	if err := c.identify(w); err != nil {
		return err
	}
	config, err := w.word(mcp9808Config)
	if err != nil {
		return err
	}
	res, err := w.get(mcp9808Resolution)
	if err != nil {
		return err
	}
	if config&mcp9808Shutdown == 0 && res&3 == mcp9808Finest {
		return nil
	}
	if err := w.put(mcp9808Resolution, mcp9808Finest); err != nil {
		return err
	}
	if err := w.putWord(mcp9808Config, config&^mcp9808Shutdown); err != nil {
		return err
	}
	return w.pause(mcp9808Settle)
}

func (c *mcp9808) measure(w *wire) ([]hal.Value, error) {
	raw, err := w.word(mcp9808Temp)
	if err != nil {
		return nil, err
	}
	// Before its first conversion the chip has 0, as after a brown-out.
	if raw&0x1FFF == 0 && w.left() > mcp9808Settle+margin {
		if err := w.pause(mcp9808Settle); err != nil {
			return nil, err
		}
		if raw, err = w.word(mcp9808Temp); err != nil {
			return nil, err
		}
	}
	// A bus that reads the same everywhere has no id.
	if raw == 0 || raw == 0xFFFF {
		if err := c.identify(w); err != nil {
			return nil, err
		}
	}
	// Bits 15 to 13 compare with the limits; bit 12 is the sign (5.2.4).
	v, err := within(float64(int16(raw<<3)>>3)/16, -40, 125, "°C")
	return []hal.Value{v}, err
}
