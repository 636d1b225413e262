package sensor

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers of the MPU-6050 (register map RM-MPU-6000A, sections 4.3 to 4.32).
const (
	mpuRate    = 0x19
	mpuFilter  = 0x1A
	mpuGyro    = 0x1B
	mpuAccel   = 0x1C
	mpuData    = 0x3B // acceleration, temperature, rate: seven words
	mpuPower   = 0x6B
	mpuWho     = 0x75
	mpuReset   = 1 << 7
	mpuSleep   = 1 << 6
	mpuClockX  = 1 // the rate sensor's clock, steadier than the inner one (4.28)
	mpu44Hz    = 3 // low pass of 44 Hz, delay 5 ms (4.2)
	mpuWords   = 7
	mpuRangeAt = 3
)

var (
	mpuAccelRanges = []int64{2, 4, 8, 16}          // g
	mpuGyroRanges  = []int64{250, 500, 1000, 2000} // °/s
	mpuGyroSteps   = []float64{131, 65.5, 32.8, 16.4}
)

var mpu6050Driver = i2cDriver{
	Driver: Driver{
		Name:    "mpu6050",
		Summary: "InvenSense MPU-6050: acceleration, rate of turn and temperature over I2C",
		Options: []Option{
			{"accel_range_g", "integer", "2", "2, 4, 8 or 16"},
			{"gyro_range_dps", "integer", "250", "250, 500, 1000 or 2000 °/s"},
		},
	},
	addresses: []uint16{0x68, 0x69},
	pins:      "0x68, or 0x69 with AD0 high",
	who: func(w *wire) string {
		if id, err := w.get(mpuWho); err == nil && id == 0x68 {
			return "MPU-6050"
		}
		return ""
	},
	set: func(o *options) chip {
		return &mpu6050{accel: rangeOf(o, "accel_range_g", mpuAccelRanges),
			gyro: rangeOf(o, "gyro_range_dps", mpuGyroRanges)}
	},
}.driver()

// mpu6050 is the driver of the same name. The chip measures without end.
type mpu6050 struct {
	accel, gyro int // fields of the ranges
	note        string
}

func (c *mpu6050) channels() []hal.Channel {
	var chs []hal.Channel
	for _, q := range []struct{ name, unit string }{{"accel", "m/s²"}, {"gyro", "°/s"}} {
		for _, axis := range []string{"x", "y", "z"} {
			chs = append(chs, hal.Channel{Name: q.name + "_" + axis, Unit: q.unit, Kind: hal.Float})
		}
	}
	return append(chs, temperature)
}

func (c *mpu6050) Note() string { return c.note }

// identify takes the clones that are sold as MPU-6050; what they measure as
// temperature nobody knows for sure.
func (c *mpu6050) identify(w *wire) error {
	id, err := w.get(mpuWho)
	switch {
	case err != nil:
		return err
	case id == 0 || id == 0xFF:
		return dead(id)
	case id == 0x98 || id == 0x72:
		c.note = fmt.Sprintf("the chip is a clone of the MPU-6050, id %#x: its temperature may be off", id)
	case id != 0x68:
		what := map[byte]string{0x70: " (an MPU-6500)", 0x71: " (an MPU-9250)", 0x73: " (an MPU-9255)",
			0x19: " (an MPU-6886)"}[id]
		return fmt.Errorf("%w: chip id %#x%s, want 0x68 (MPU-6050)", ErrWrongID, id, what)
	}
	return nil
}

// settings are registers and what they are set to.
func (c *mpu6050) settings() [][2]byte {
	return [][2]byte{{mpuPower, mpuClockX}, {mpuRate, 0}, {mpuFilter, mpu44Hz},
		{mpuGyro, byte(c.gyro) << mpuRangeAt}, {mpuAccel, byte(c.accel) << mpuRangeAt}}
}

func (c *mpu6050) setUp(w *wire) error {
	if err := c.identify(w); err != nil {
		return err
	}
	if err := w.put(mpuPower, mpuReset); err != nil {
		return err
	}
	if err := w.await("the chip does not end its reset", 10*time.Millisecond, 200*time.Millisecond,
		func() (bool, error) {
			v, err := w.get(mpuPower)
			return v&mpuReset == 0, err
		}); err != nil {
		return err
	}
	if err := settle(w, c.settings()); err != nil {
		return err
	}
	return w.pause(50 * time.Millisecond) // the rate sensor needs 30 ms (product specification, 6.1)
}

// measure reads all in one transfer, so that all is of one time. An axis at its
// converter's end is absent, and so is a temperature outside of -40 to 85 °C.
func (c *mpu6050) measure(w *wire) ([]hal.Value, error) {
	// After a brown-out the chip sleeps, and its data stand still.
	if ok, err := has(w, c.settings()); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%w: the chip has lost its settings", ErrNotReady)
	}
	var b [2 * mpuWords]byte
	if err := w.read(mpuData, b[:]); err != nil {
		return nil, err
	}
	if uniform(b[:]) {
		return nil, fmt.Errorf("%w: all data read %02x", ErrNotReady, b[0])
	}
	var raw [mpuWords]int16
	for i := range raw {
		raw[i] = int16(binary.BigEndian.Uint16(b[2*i:]))
	}
	vals := make([]hal.Value, 0, mpuWords)
	scale := gravity * float64(mpuAccelRanges[c.accel]) / 32768
	for _, r := range raw[:3] {
		vals = append(vals, axis(r, scale))
	}
	for _, r := range raw[4:] {
		vals = append(vals, axis(r, 1/mpuGyroSteps[c.gyro]))
	}
	v := hal.Value{}
	if t := round(float64(raw[3])/340+36.53, 1e3); t >= -40 && t <= 85 { // 4.18
		v = hal.FloatValue(t)
	}
	return append(vals, v), nil
}
