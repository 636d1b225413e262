package sensor

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/sensirion"
)

var sht3xDriver = i2cDriver{
	Driver: Driver{
		Name:    "sht3x",
		Summary: "Sensirion SHT30, SHT31, SHT35 or SHT85: temperature and humidity over I2C",
		Options: []Option{{"repeatability", "string", "high", "high (16 ms), medium (7 ms) or low (5 ms)"}},
	},
	addresses: []uint16{0x44, 0x45},
	pins:      "0x44, or 0x45 with ADDR high",
	commands:  true,
	who: func(w *wire) string {
		if _, err := sht3xStatus(w); err != nil {
			return ""
		}
		return "SHT3x"
	},
	set: func(o *options) chip {
		c := &sht{humidity: sensirion.Humidity}
		// Table 4, "max".
		switch o.choice("repeatability", "high", "medium", "low") {
		case "high":
			c.command, c.takes = command(sensirion.SHT3xHigh), 15500*time.Microsecond
		case "medium":
			c.command, c.takes = command(sensirion.SHT3xMedium), 6500*time.Microsecond
		case "low":
			c.command, c.takes = command(sensirion.SHT3xLow), 4500*time.Microsecond
		}
		c.start = func(w *wire) error {
			// Another program may have left it in periodic measurement, where
			// it refuses all else (4.5 to 4.8).
			if err := w.tx(command(sensirion.SHT3xBreak), nil); err != nil {
				return err
			}
			if err := w.pause(sht3xBreakTime); err != nil {
				return err
			}
			status, err := sht3xStatus(w)
			if err = unrefused(err); err == nil && status&sensirion.SHT3xHeater != 0 {
				err = w.tx(command(sensirion.SHT3xHeaterOff), nil)
			}
			return err
		}
		return c
	},
}.driver()

var sht4xDriver = i2cDriver{
	Driver: Driver{
		Name:    "sht4x",
		Summary: "Sensirion SHT40, SHT41, SHT43 or SHT45: temperature and humidity over I2C",
		Options: []Option{{"precision", "string", "high", "high (9 ms), medium (5 ms) or low (2 ms)"}},
	},
	addresses: []uint16{0x44, 0x45, 0x46},
	pins:      "0x44, 0x45 or 0x46, by the chip's order code",
	commands:  true,
	who: func(w *wire) string {
		if _, err := sht4xSerial(w); err != nil {
			return ""
		}
		return "SHT4x"
	},
	set: func(o *options) chip {
		c := &sht{humidity: sensirion.SHT4xHumidity}
		c.start = func(w *wire) (err error) {
			c.serial, err = sht4xSerial(w)
			return unrefused(err)
		}
		// Table 5, "max".
		switch o.choice("precision", "high", "medium", "low") {
		case "high":
			c.command, c.takes = []byte{sensirion.SHT4xHigh}, 8300*time.Microsecond
		case "medium":
			c.command, c.takes = []byte{sensirion.SHT4xMedium}, 4500*time.Microsecond
		case "low":
			c.command, c.takes = []byte{sensirion.SHT4xLow}, 1600*time.Microsecond
		}
		return c
	},
}.driver()

const (
	sht3xBreakTime  = time.Millisecond // section 4.8
	sht4xSerialTime = time.Millisecond // table 5: as long as a soft reset
)

// sht is an SHT3x or SHT4x: a command makes it measure once. Temperatures outside
// of its range (-40 to 125 °C) are an error; humidity is cut off at 0 and 100 %RH.
type sht struct {
	command  []byte
	takes    time.Duration
	humidity func(raw uint16) float64
	start    func(w *wire) error // makes sure that the chip is there
	serial   [2]uint16           // of an SHT4x
}

func (c *sht) channels() []hal.Channel { return []hal.Channel{temperature, humidity} }

func (c *sht) setUp(w *wire) error { return c.start(w) }

func (c *sht) measure(w *wire) ([]hal.Value, error) {
	var raw [2]uint16
	if err := w.ask(c.command, c.takes, raw[:]); err != nil {
		return nil, err
	}
	if raw == c.serial && raw != [2]uint16{} {
		// A scan, or another program, asked in between.
		return nil, fmt.Errorf("%w: it is the serial number", ErrProtocol)
	}
	temp, err := within(round(sensirion.Celsius(raw[0]), 1000), -40, 125, "°C")
	if err != nil {
		return nil, err
	}
	hum := round(min(max(c.humidity(raw[1]), 0), 100), 1000)
	return []hal.Value{temp, hal.FloatValue(hum)}, nil
}

func sht3xStatus(w *wire) (uint16, error) {
	var status [1]uint16
	err := w.ask(command(sensirion.SHT3xStatus), 0, status[:])
	return status[0], err
}

func sht4xSerial(w *wire) (serial [2]uint16, err error) {
	err = w.ask([]byte{sensirion.SHT4xSerial}, sht4xSerialTime, serial[:])
	return serial, err
}
