package sensor

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/sensirion"
)

var scd4xDriver = i2cDriver{
	Driver: Driver{
		Name:    "scd4x",
		Summary: "Sensirion SCD40, SCD41 or SCD43: CO2, temperature and humidity over I2C, each 5 s",
		Options: []Option{
			{"altitude", "integer", "", "m above the sea, 0 to 3000, of which the CO2 depends; as in the chip if left out"},
			{"self_calibration", "bool", "",
				"true where the air is fresh (400 ppm) once a week; as in the chip (true from the maker) if left out"},
		},
	},
	addresses: []uint16{0x62},
	slow:      true,
	commands:  true,
	who: func(w *wire) string {
		// Whether it has something is the one question that it answers while
		// it measures, and that a PCA9685 there takes for a reserved register.
		var ready [1]uint16
		if w.ask(command(sensirion.SCD4xReady), scd4xCommand, ready[:]) != nil {
			return ""
		}
		return "SCD4x"
	},
	set: func(o *options) chip {
		c := &scd4x{}
		if _, ok := o.get("altitude"); ok {
			c.settings = append(c.settings, scd4xSetting{sensirion.SCD4xSetAltitude, sensirion.SCD4xGetAltitude,
				uint16(o.between("altitude", 0, 0, 3000))})
		}
		if on, ok := o.flag("self_calibration"); ok {
			s := scd4xSetting{sensirion.SCD4xSetSelfCalib, sensirion.SCD4xGetSelfCalib, 0}
			if on {
				s.value = 1
			}
			c.settings = append(c.settings, s)
		}
		return c
	},
}.driver()

const (
	scd4xCommand = time.Millisecond        // table 9, most commands
	scd4xStop    = 500 * time.Millisecond  // stop_periodic_measurement
	scd4xPeriod  = 5 * time.Second         // between two measurements
	scd4xLate    = 1500 * time.Millisecond // beyond the period, before it is started anew
)

// scd4x measures by itself each 5 s, and each value is read once. Read waits for
// the next, so that an interval below 5 s finds nothing in between.
type scd4x struct {
	settings []scd4xSetting
	started  time.Time // or when a value came last
	warming  bool      // started, and nothing came yet
}

// A scd4xSetting is what the chip has in its memory until the supply is gone.
type scd4xSetting struct {
	set, get uint16
	value    uint16
}

func (c *scd4x) channels() []hal.Channel {
	return []hal.Channel{{Name: "co2", Unit: "ppm", Kind: hal.Int}, temperature, humidity}
}

// setUp starts the chip. One that was started a moment ago is left alone: a
// reading that ends before its first value must not put it off again.
func (c *scd4x) setUp(w *wire) error {
	if c.warming && time.Since(c.started) < scd4xPeriod+scd4xLate {
		return nil
	}
	c.warming = false
	if err := w.tx(command(sensirion.SCD4xStop), nil); err != nil {
		return err
	}
	if err := w.pause(scd4xStop); err != nil {
		return err
	}
	var serial [3]uint16
	if err := unrefused(w.ask(command(sensirion.SCD4xSerial), scd4xCommand, serial[:])); err != nil {
		return err
	}
	for _, s := range c.settings {
		if err := c.apply(w, s); err != nil {
			return err
		}
	}
	if err := w.tx(command(sensirion.SCD4xStart), nil); err != nil {
		return err
	}
	c.started, c.warming = time.Now(), true
	return nil
}

// apply sets what is not so yet and reads it back.
func (c *scd4x) apply(w *wire, s scd4xSetting) error {
	var is [1]uint16
	for range 2 {
		if err := w.ask(command(s.get), scd4xCommand, is[:]); err != nil || is[0] == s.value {
			return err
		}
		if err := w.tx(sensirion.Append(command(s.set), s.value), nil); err != nil {
			return err
		}
		if err := w.pause(scd4xCommand); err != nil {
			return err
		}
	}
	if err := w.ask(command(s.get), scd4xCommand, is[:]); err != nil || is[0] == s.value {
		return err
	}
	return fmt.Errorf("%w: setting %#04x reads %d after %d was written", ErrProtocol, s.set, is[0], s.value)
}

func (c *scd4x) measure(w *wire) ([]hal.Value, error) {
	var ready [1]uint16
	if err := w.await("the chip has nothing new; every should be 5s or more", 100*time.Millisecond,
		scd4xPeriod+scd4xLate-time.Since(c.started), func() (bool, error) {
			err := w.ask(command(sensirion.SCD4xReady), scd4xCommand, ready[:])
			return ready[0]&sensirion.SCD4xReadyBits != 0, err
		}); err != nil {
		return nil, err
	}
	var raw [3]uint16
	if err := w.ask(command(sensirion.SCD4xRead), scd4xCommand, raw[:]); err != nil {
		return nil, err
	}
	switch {
	case raw[0] == 0:
		return nil, fmt.Errorf("%w: 0 ppm is what a chip says that has not measured", ErrNotReady)
	case raw[0] > 40000:
		return nil, fmt.Errorf("%w: %d ppm, want 1 to 40000", ErrOutOfRange, raw[0])
	}
	temp, err := within(round(sensirion.Celsius(raw[1]), 1000), -10, 60, "°C")
	if err != nil {
		return nil, err
	}
	c.started, c.warming = time.Now(), false
	return []hal.Value{hal.IntValue(int64(raw[0])), temp,
		hal.FloatValue(round(sensirion.Humidity(raw[2]), 1000))}, nil
}
