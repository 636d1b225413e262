package sensor

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/bmp3"
)

var (
	bmp388Driver = bmp3Driver("bmp388", bmp3.IDBMP388)
	bmp390Driver = bmp3Driver("bmp390", bmp3.IDBMP390)
)

// bmp3Driver is one driver for both chips, by either name.
func bmp3Driver(name string, id byte) driver {
	return i2cDriver{
		Driver: Driver{
			Name:    name,
			Summary: "Bosch " + bmp3Name[id] + ": pressure and temperature over I2C",
			Options: []Option{{"oversampling", "integer", "8",
				"conversions for each pressure: 1 (5 ms), 2, 4, 8 (19 ms), 16 or 32 (69 ms)"}},
		},
		addresses: []uint16{0x77, 0x76},
		pins:      "0x77, or 0x76 with SDO low",
		who: func(w *wire) string {
			id, err := w.get(bmp3.RegID)
			if err != nil {
				return ""
			}
			return bmp3Name[id]
		},
		set: func(o *options) chip {
			c := &bmp388{}
			switch n := o.whole("oversampling", 8); n {
			case 1, 2, 4, 8, 16, 32:
				c.osrP = byte(bits.Len(uint(n)) - 1)
			default:
				o.fail("oversampling", "%d, want 1, 2, 4, 8, 16 or 32", n)
			}
			if c.osrP > 3 {
				c.osrT = 1 // table 7 recommends it
			}
			return c
		},
	}.driver()
}

var bmp3Name = map[byte]string{bmp3.IDBMP388: "BMP388", bmp3.IDBMP390: "BMP390"}

// bmp388 makes the chip measure once for each reading. A temperature outside of
// its range (-40 to 85 °C) is an error, a pressure outside of its range (300 to
// 1250 hPa) is absent.
type bmp388 struct {
	osrP, osrT byte // two to the osr conversions
	cal        bmp3.Calibration
}

func (c *bmp388) channels() []hal.Channel { return []hal.Channel{temperature, pressure} }

// setUp finds out whether it is such a chip, and reads its calibration.
func (c *bmp388) setUp(w *wire) error {
	id, err := w.get(bmp3.RegID)
	if err != nil {
		return err
	}
	if bmp3Name[id] == "" {
		return c.other(w, id)
	}
	var b [bmp3.CalibBytes]byte
	if err := w.read(bmp3.RegCalib, b[:]); err != nil {
		return err
	}
	if uniform(b[:]) {
		return fmt.Errorf("%w: the chip's calibration is all zeros or ones: it did not start well, or is broken",
			ErrImplausible)
	}
	c.cal = bmp3.Parse(&b)
	return nil
}

// other says which chip is there: relatives have their ids elsewhere.
func (c *bmp388) other(w *wire, id byte) error {
	if name := whoBMX280(w); name != "" {
		return fmt.Errorf("%w: it is a %s", ErrWrongID, name)
	}
	next, err := w.get(bmp581ID)
	switch {
	case err != nil:
		return err
	case id != next && (next == 0x50 || next == 0x51):
		return fmt.Errorf("%w: it is a BMP581 or BMP585", ErrWrongID)
	case id == 0 || id == 0xFF:
		return dead(id)
	}
	return fmt.Errorf("%w: chip id %#x, want 0x50 (BMP388) or 0x60 (BMP390)", ErrWrongID, id)
}

const bmp581ID = 0x01 // register of its id: 0x50, of the BMP585 0x51

func (c *bmp388) measure(w *wire) ([]hal.Value, error) {
	// All settings each time, from sleep: a brown-out between two readings
	// loses them, and shows in no error. In a write each byte comes with its
	// address (5.2.2).
	if err := w.tx([]byte{bmp3.RegPower, bmp3.Sleep, bmp3.RegOSR, c.osrT<<3 | c.osrP, bmp3.RegConfig, 0,
		bmp3.RegPower, bmp3.Forced}, nil); err != nil {
		return nil, err
	}
	// The typical time (3.9.2); what chips differ by is waited for below.
	if err := w.pause(time.Duration(234+392+2020<<c.osrP+163+2020<<c.osrT) * time.Microsecond); err != nil {
		return nil, err
	}
	if err := w.await("the chip does not end its measurement", time.Millisecond, 100*time.Millisecond,
		func() (bool, error) {
			status, err := w.get(bmp3.RegStatus)
			return status&bmp3.Ready == bmp3.Ready, err
		}); err != nil {
		return nil, err
	}
	var d [bmp3.RegData + 6 - bmp3.RegErr]byte
	if err := w.read(bmp3.RegErr, d[:]); err != nil {
		return nil, err
	}
	if d[0] == 0xFF && d[1] == 0xFF {
		return nil, dead(0xFF)
	}
	if d[0]&bmp3.Fatal != 0 {
		return nil, fmt.Errorf("%w: fatal error (ERR_REG %#02x)", ErrFault, d[0])
	}
	raw := func(at int) float64 { return float64(int(d[at]) | int(d[at+1])<<8 | int(d[at+2])<<16) }
	rawP, rawT := raw(2), raw(5)
	if rawT == bmp3.NotDone {
		return nil, fmt.Errorf("%w: the chip has measured no temperature", ErrNotReady)
	}
	celsius := c.cal.Celsius(rawT)
	temp, err := within(round(celsius, 1000), -40, 85, "°C")
	if err != nil {
		return nil, err
	}
	v := hal.Value{}
	if p := round(c.cal.Pressure(rawP, celsius), 100); rawP != bmp3.NotDone && p >= 30000 && p <= 125000 {
		v = hal.FloatValue(p)
	}
	return []hal.Value{temp, v}, nil
}
