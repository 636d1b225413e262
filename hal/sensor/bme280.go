package sensor

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/bmx280"
)

var bme280Driver = i2cDriver{
	Driver: Driver{
		Name:    "bme280",
		Summary: "Bosch BME280: temperature, humidity and pressure over I2C; BMP280: without humidity",
		Options: bmx280Options,
	},
	addresses: bmx280Addresses,
	pins:      "0x76, or 0x77 with SDO high",
	who:       whoBMX280,
	set:       func(o *options) chip { return newBMX280(o, true) },
}.driver()

var bmp280Driver = i2cDriver{
	Driver: Driver{
		Name:    "bmp280",
		Summary: "Bosch BMP280: temperature and pressure over I2C",
		Options: bmx280Options,
	},
	addresses: bmx280Addresses,
	pins:      "0x76, or 0x77 with SDO high",
	who:       whoBMX280,
	set:       func(o *options) chip { return newBMX280(o, false) },
}.driver()

var (
	bmx280Addresses = []uint16{0x76, 0x77}
	bmx280Options   = []Option{
		{"oversampling", "integer", "1",
			"conversions for each value: 1, 2, 4, 8 or 16; more is steadier and slower"},
	}
)

// bme280 talks to the chip itself: periph's bmxx80 (v3.7.4) reads H4 and H5
// without their sign, takes a value that was not measured for one, and waits for
// an idle chip without limit.
//
// A measurement takes 10 ms at oversampling 1, 115 ms at 16. A temperature
// outside of the chip's range (-40 to 85 °C) is an error, since all three values
// hang on it; a pressure outside of its range (300 to 1100 hPa) is absent.
type bme280 struct {
	osrs  byte // the field of oversampling in force for all quantities
	over  int  // conversions that it stands for
	humid bool // humidity is wanted

	id    byte
	cal   bmx280.Calibration
	chans []hal.Channel // by the chip that was found first
	note  string
}

func newBMX280(o *options, humid bool) chip {
	c := &bme280{humid: humid}
	switch n := o.whole("oversampling", 1); n {
	case 1, 2, 4, 8, 16:
		c.over, c.osrs = int(n), byte(bits.Len(uint(n))) // table 20
	default:
		o.fail("oversampling", "%d, want 1, 2, 4, 8 or 16", n)
	}
	return c
}

var (
	temperature = hal.Channel{Name: "temperature", Unit: "°C", Kind: hal.Float}
	humidity    = hal.Channel{Name: "humidity", Unit: "%RH", Kind: hal.Float}
	pressure    = hal.Channel{Name: "pressure", Unit: "Pa", Kind: hal.Float}
)

// channels: temperature to 0.01 °C, humidity to 0.001 %RH, pressure to 0.01 Pa.
// A BMP280 has no humidity.
func (c *bme280) channels() []hal.Channel { return c.chans }

// Note says what the chip is, if it is not what its driver is named after.
func (c *bme280) Note() string { return c.note }

func whoBMX280(w *wire) string {
	switch id, err := w.get(bmx280.RegID); {
	case err != nil:
		return ""
	case id == bmx280.IDBME280:
		return "BME280"
	case bmx280.IsBMP280(id):
		return "BMP280"
	}
	return ""
}

// setUp finds out which chip it is and reads its calibration.
func (c *bme280) setUp(w *wire) error {
	id, err := w.get(bmx280.RegID)
	if err != nil {
		return err
	}
	if err := knownChip(id); err != nil {
		return err
	}
	var tp [bmx280.CalibBytes]byte
	var hum [bmx280.CalibHumBytes]byte
	if err := w.read(bmx280.RegCalib, tp[:]); err != nil {
		return err
	}
	ofHum := &hum
	if !c.humid || bmx280.IsBMP280(id) {
		ofHum = nil
	} else if err := w.read(bmx280.RegCalibHum, hum[:]); err != nil {
		return err
	}
	cal := bmx280.Parse(&tp, ofHum)
	if cal.T1 == 0 || cal.P1 == 0 || cal.T2 == 0 || uniform(tp[:24]) || ofHum != nil && uniform(hum[:]) {
		return fmt.Errorf("%w: the chip's calibration is all zeros or ones: it did not start well, or is broken",
			ErrImplausible)
	}
	channels := []hal.Channel{temperature, humidity, pressure}
	if ofHum == nil {
		channels = []hal.Channel{temperature, pressure}
	}
	switch {
	case c.chans == nil:
		c.chans = channels
		if c.humid && ofHum == nil {
			c.note = "the chip is a BMP280, often sold as BME280: it has no humidity"
		} else if !c.humid && id == bmx280.IDBME280 {
			c.note = "the chip is a BME280: the driver bme280 measures its humidity too"
		}
	case len(c.chans) != len(channels):
		return fmt.Errorf("%w: another kind of chip is there than at the start", ErrWrongID)
	}
	c.id, c.cal = id, cal
	return nil
}

// knownChip returns nil for a BME280 or BMP280, else what is likely there.
func knownChip(id byte) error {
	switch {
	case id == bmx280.IDBME280 || bmx280.IsBMP280(id):
		return nil
	case id == 0 || id == 0xFF:
		return dead(id)
	}
	what := map[byte]string{0x55: " (a BMP180)", 0x61: " (a BME680)"}[id] // the datasheets' register 0xD0
	return fmt.Errorf("%w: chip id %#x%s, want 0x60 (BME280) or 0x58 (BMP280)", ErrWrongID, id, what)
}

// measure makes the chip measure once.
func (c *bme280) measure(w *wire) ([]hal.Value, error) {
	humid := len(c.chans) == 3
	if err := c.start(w); err != nil {
		return nil, err
	}
	// The longest measurement time (section 9.1).
	if err := w.pause(time.Duration(1250+3*(2300*c.over+575)) * time.Microsecond); err != nil {
		return nil, err
	}
	if err := w.await("the chip does not end its measurement", time.Millisecond, 100*time.Millisecond,
		func() (bool, error) {
			status, err := w.get(bmx280.RegStatus)
			return status&bmx280.Measuring == 0, err
		}); err != nil {
		return nil, err
	}
	var d [8]byte
	data := d[:]
	if !humid {
		data = d[:6]
	}
	if err := w.read(bmx280.RegData, data); err != nil {
		return nil, err
	}
	rawP := int(d[0])<<12 | int(d[1])<<4 | int(d[2])>>4
	rawT := int(d[3])<<12 | int(d[4])<<4 | int(d[5])>>4
	rawH := int(d[6])<<8 | int(d[7])
	if rawT == bmx280.SkippedPT {
		return nil, fmt.Errorf("%w: the chip has measured no temperature", ErrNotReady)
	}
	fine := c.cal.Fine(float64(rawT))
	temp, err := within(round(bmx280.Celsius(fine), 100), -40, 85, "°C")
	if err != nil {
		return nil, err
	}
	vals := []hal.Value{temp}
	if humid {
		v := hal.Value{}
		if rawH != bmx280.SkippedHum || c.humidityOn(w) {
			v = hal.FloatValue(round(min(max(c.cal.Humidity(float64(rawH), fine), 0), 100), 1000))
		}
		vals = append(vals, v)
	}
	v := hal.Value{}
	if p := round(c.cal.Pressure(float64(rawP), fine), 100); rawP != bmx280.SkippedPT && p >= 30000 && p <= 110000 {
		v = hal.FloatValue(p)
	}
	return append(vals, v), nil
}

// start begins a measurement with all settings: a brown-out between two readings
// loses them, and shows in no error. The chip sleeps, or else RegConfig may not
// be written.
func (c *bme280) start(w *wire) error {
	set := []byte{bmx280.RegCtrlMeas, bmx280.ModeSleep, bmx280.RegConfig, 0, bmx280.RegCtrlHum, c.osrs,
		bmx280.RegCtrlMeas, c.osrs<<5 | c.osrs<<2 | bmx280.ModeForced}
	if bmx280.IsBMP280(c.id) {
		set = append(set[:4], set[6:]...)
	}
	return w.tx(set, nil)
}

// humidityOn says whether the chip has the setting that was written, so that
// what looks left out was measured.
func (c *bme280) humidityOn(w *wire) bool {
	v, err := w.get(bmx280.RegCtrlHum)
	return err == nil && v&7 == c.osrs
}
