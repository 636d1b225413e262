package sensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Two chips in one, each with an address. The accelerometer is nearly the same in
// both variants (LSM303DLHC datasheet, 7.1; LSM303AGR, 8.1 to 8.40), the
// magnetometer is not.
const (
	lsmMagAddress = 0x1E

	lsmWhoA    = 0x0F // of the AGR; the DLHC's datasheet has none
	lsmWhoAIs  = 0x33
	lsmCtrl1A  = 0x20
	lsmCtrl4A  = 0x23
	lsmStatusA = 0x27
	lsmOutA    = 0x28
	lsmSteps   = 0x80 // of the address: it steps on (5.1.2)

	lsm100HzXYZ  = 0x57   // CTRL_REG1_A: 100 Hz, all axes
	lsmBlockFine = 0x88   // CTRL_REG4_A: both bytes of one measurement, 12 bits
	lsmRangeAt   = 4      // CTRL_REG4_A: FS
	lsmNew       = 1 << 3 // STATUS_REG_A, STATUS_REG_M: all three axes are new

	// Magnetometer of the DLHC (7.2).
	dlhcRate     = 0x00
	dlhcGain     = 0x01
	dlhcMode     = 0x02
	dlhcOut      = 0x03 // X, Z, Y, upper byte first
	dlhcStatus   = 0x09
	dlhcID       = 0x0A // "H43"
	dlhc15Hz     = 0x10
	dlhcEndless  = 0x00
	dlhcGainAt   = 5
	dlhcOverflow = -4096

	// Magnetometer of the AGR (8.25 to 8.40).
	agrWhoM    = 0x4F
	agrWhoMIs  = 0x40
	agrConfigA = 0x60
	agrConfigC = 0x62
	agrStatus  = 0x67
	agrOut     = 0x68 // X, Y, Z, lower byte first
	agrEndless = 0x8C // 100 Hz, without end, its temperature corrected
	agrBlock   = 0x10 // both bytes of one measurement
)

var (
	lsmAccelRanges = []int64{2, 4, 8, 16}              // g
	dlhcAccelSteps = []float64{1, 2, 4, 12}            // mg, table 3
	agrAccelSteps  = []float64{0.98, 1.95, 3.9, 11.72} // mg, table 3

	// Ranges by the field GN, from 1, and counts for one gauss of X and Y, and of Z
	// (table 75).
	dlhcRanges = []float64{1.3, 1.9, 2.5, 4.0, 4.7, 5.6, 8.1} // gauss
	dlhcXY     = []float64{1100, 855, 670, 450, 400, 330, 230}
	dlhcZ      = []float64{980, 760, 600, 400, 355, 295, 205}
)

// agrStep is 1.5 mgauss (LSM303AGR, table 3), in µT.
const agrStep = 0.15

var lsm303Driver = i2cDriver{
	Driver: Driver{
		Name:    "lsm303",
		Summary: "ST LSM303DLHC or LSM303AGR: acceleration and magnetic field over I2C",
		Options: []Option{
			{"variant", "string", "dlhc", "dlhc or agr"},
			{"accel_range_g", "integer", "2", "2, 4, 8 or 16"},
			{"mag_range_gauss", "number", "1.3", "of the DLHC: 1.3, 1.9, 2.5, 4, 4.7, 5.6 or 8.1; the AGR has 50"},
		},
	},
	addresses: []uint16{0x19},
	pins:      "of the accelerometer; the magnetometer has 0x1e",
	who: func(w *wire) string {
		var id [3]byte
		if w.at(lsmMagAddress).read(dlhcID, id[:]) == nil && string(id[:]) == "H43" {
			return "LSM303DLHC"
		}
		if who, err := w.at(lsmMagAddress).get(agrWhoM); err == nil && who == agrWhoMIs {
			return "LSM303AGR"
		}
		return ""
	},
	set: func(o *options) chip {
		c := &lsm303{agr: o.choice("variant", "dlhc", "agr") == "agr",
			accel: rangeOf(o, "accel_range_g", lsmAccelRanges), mag: -1}
		gauss := o.number("mag_range_gauss", 1.3, 1.3, 8.1)
		for i, r := range dlhcRanges {
			if r == gauss {
				c.mag = i
			}
		}
		if c.mag < 0 {
			o.fail("mag_range_gauss", "%g, want %s", gauss, list(dlhcRanges))
		}
		return c
	},
}.driver()

// lsm303 is the driver of the same name. Both chips measure without end.
type lsm303 struct {
	agr   bool
	accel int // index of the range
	mag   int // index of the DLHC's range
}

func (c *lsm303) channels() []hal.Channel {
	var chs []hal.Channel
	for _, q := range []struct{ name, unit string }{{"accel", "m/s²"}, {"mag", "µT"}} {
		for _, axis := range []string{"x", "y", "z"} {
			chs = append(chs, hal.Channel{Name: q.name + "_" + axis, Unit: q.unit, Kind: hal.Float})
		}
	}
	return chs
}

// settings are registers and what they are set to.
func (c *lsm303) settings() (accel, mag [][2]byte) {
	accel = [][2]byte{{lsmCtrl1A, lsm100HzXYZ}, {lsmCtrl4A, lsmBlockFine | byte(c.accel)<<lsmRangeAt}}
	if c.agr {
		return accel, [][2]byte{{agrConfigA, agrEndless}, {agrConfigC, agrBlock}}
	}
	return accel, [][2]byte{{dlhcRate, dlhc15Hz}, {dlhcGain, byte(c.mag+1) << dlhcGainAt}, {dlhcMode, dlhcEndless}}
}

// setUp shows by settings that read back that the DLHC's accelerometer is there,
// which has no id.
func (c *lsm303) setUp(w *wire) error {
	if c.agr {
		switch id, err := w.get(lsmWhoA); {
		case err != nil:
			return err
		case id == 0 || id == 0xFF:
			return dead(id)
		case id != lsmWhoAIs:
			return fmt.Errorf("%w: accelerometer id %#x, want 0x33", ErrWrongID, id)
		}
	}
	accel, mag := c.settings()
	if err := settle(w, accel); err != nil {
		return err
	}
	m := w.at(lsmMagAddress)
	if err := c.identifyMag(m); err != nil {
		return fmt.Errorf("magnetometer: %w", err)
	}
	if err := settle(m, mag); err != nil {
		return fmt.Errorf("magnetometer: %w", err)
	}
	return nil
}

func (c *lsm303) identifyMag(m *wire) error {
	if c.agr {
		id, err := m.get(agrWhoM)
		if err == nil && id != agrWhoMIs {
			err = fmt.Errorf("%w: id %#x%s, want 0x40", ErrWrongID, id, map[byte]string{0x3D: " (an LIS3MDL)"}[id])
		}
		return err
	}
	var id [3]byte
	err := m.read(dlhcID, id[:])
	if err == nil && string(id[:]) != "H43" {
		err = fmt.Errorf("%w: id % x, want 48 34 33", ErrWrongID, id)
	}
	return err
}

// measure reads the newest of both. An axis at its converter's end is absent.
func (c *lsm303) measure(w *wire) ([]hal.Value, error) {
	accel, mag := c.settings()
	m := w.at(lsmMagAddress)
	for _, x := range []struct {
		w  *wire
		to [][2]byte
	}{{w, accel}, {m, mag}} {
		// After a brown-out the chip is off, and its data stand still.
		if ok, err := has(x.w, x.to); err != nil {
			return nil, err
		} else if !ok {
			return nil, fmt.Errorf("%w: the chip has lost its settings", ErrNotReady)
		}
	}
	vals, err := c.acceleration(w)
	if err != nil {
		return nil, err
	}
	field, err := c.field(m)
	return append(vals, field...), err
}

func (c *lsm303) acceleration(w *wire) ([]hal.Value, error) {
	b, err := fresh(w, lsmStatusA, lsmNew, lsmOutA|lsmSteps)
	if err != nil {
		return nil, err
	}
	step := dlhcAccelSteps[c.accel]
	if c.agr {
		step = agrAccelSteps[c.accel]
	}
	var vals []hal.Value
	for i := range 3 {
		raw := int16(binary.LittleEndian.Uint16(b[2*i:])) >> 4 // 12 bits, at the upper end
		v := hal.Value{}
		if raw != math.MaxInt16>>4 && raw != math.MinInt16>>4 {
			v = hal.FloatValue(round(float64(raw)*step*gravity/1000, 1e5))
		}
		vals = append(vals, v)
	}
	return vals, nil
}

// field is that of X, Y and Z in µT: 100 to a gauss.
func (c *lsm303) field(m *wire) ([]hal.Value, error) {
	vals := make([]hal.Value, 3)
	if c.agr {
		b, err := fresh(m, agrStatus, lsmNew, agrOut)
		for i := range vals {
			vals[i] = axis(int16(binary.LittleEndian.Uint16(b[2*i:])), agrStep)
		}
		return vals, err
	}
	b, err := fresh(m, dlhcStatus, 1, dlhcOut)
	for i, from := range []int{0, 4, 2} {
		gain := dlhcXY[c.mag]
		if i == 2 {
			gain = dlhcZ[c.mag]
		}
		if raw := int16(binary.BigEndian.Uint16(b[from:])); raw != dlhcOverflow {
			vals[i] = axis(raw, 100/gain)
		}
	}
	return vals, err
}

// fresh waits for a measurement and reads its three words.
func fresh(w *wire, status, bits, out byte) (b [6]byte, err error) {
	// 66 ms at the slowest rate.
	err = w.await("no measurement comes", 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		v, err := w.get(status)
		return v&bits == bits, err
	})
	if err == nil {
		err = w.read(out, b[:])
	}
	return b, err
}
