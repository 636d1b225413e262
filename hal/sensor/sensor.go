// Package sensor opens sensors by their driver's name and options, as the
// agent's configuration has them. Each driver is one file; most stand on
// periph's device drivers and add what a device in the field needs: an end to
// every read, checks of what comes back, and a fresh start after a fault.
//
// An Open that fails with hal.ErrNoDevice is worth retrying. Reads that fail
// are too: a driver sets its chip up again by itself.
package sensor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// ErrBusy means that the last Read was given up at its context's end and its
// transfer still hangs in the bus. It passes when the bus lets go.
var ErrBusy = errors.New("sensor: the last reading still hangs in the bus")

// ErrHeld means that an output reads another level than it drives.
var ErrHeld = errors.New("sensor: the line is held by something else")

// A Driver is what a configuration can name.
type Driver struct {
	Name    string
	Summary string
	Options []Option
	Tables  map[string][]Option // the members of a table, by the name of an option of type "tables"
}

// An Option is one key of a sensor's options. Of the types, strings are a list of
// strings, a table has strings by name, and tables are a list of tables.
type Option struct {
	Name    string
	Type    string // "string", "integer", "number", "bool", "duration" ("5ms"), "strings", "table" or "tables"
	Default string // as a configuration file has it; "" means required or none, Help says which
	Help    string
}

// A driver is a Driver with its code. set reads the options and returns what
// opens the sensor; it touches no hardware.
type driver struct {
	Driver
	set func(o *options) opener
	i2c *i2cDriver // of a chip on I2C
}

type opener func(ctx context.Context, b hal.Board) (hal.Sensor, error)

// drivers are in order of their names.
var drivers = []driver{
	ads1015Driver,
	ads1115Driver,
	bh1750Driver,
	bme280Driver,
	bmp280Driver,
	bmp388Driver,
	bmp390Driver,
	commandDriver,
	countDriver,
	dps310Driver,
	ds18b20Driver,
	gpioInDriver,
	gpioOutDriver,
	hostDriver,
	hwmonDriver,
	hx711Driver,
	iioDriver,
	ina219Driver,
	ina226Driver,
	lm75Driver,
	lsm303Driver,
	max31855Driver,
	max6675Driver,
	mcp9808Driver,
	modbusDriver,
	mpu6050Driver,
	mqttDriver,
	pca9685Driver,
	pwmDriver,
	scd4xDriver,
	serialDriver,
	sht3xDriver,
	sht4xDriver,
	tmp102Driver,
	tmp105Driver,
	vl53l0xDriver,
}

// Drivers lists all drivers by name. The slices are the caller's.
func Drivers() []Driver {
	list := make([]Driver, len(drivers))
	for i, d := range drivers {
		list[i] = d.Driver
		list[i].Options = append([]Option(nil), d.Options...)
		list[i].Tables = maps.Clone(d.Tables)
	}
	return list
}

// set finds the driver and reads the options.
func set(name string, opts map[string]any, certTime func() time.Time) (opener, []error) {
	for _, d := range drivers {
		if d.Name == name {
			o := newOptions(opts)
			o.certTime = certTime
			open := d.set(o)
			return open, o.done()
		}
	}
	return nil, []error{&OptionError{Key: "driver", Problem: fmt.Sprintf("%q, want one of %s", name, names())}}
}

func names() string {
	s := ""
	for i, d := range drivers {
		if i > 0 {
			s += ", "
		}
		s += d.Name
	}
	return s
}

// Check returns all that is wrong with a sensor's options, each an
// *OptionError, in order of their keys; none means that they can be opened.
// opts has the types of TOML decoding; no key but the driver's own is allowed.
// An unknown driver is an error of the key "driver". Nothing is opened.
func Check(driver string, opts map[string]any) []error {
	_, errs := set(driver, opts, time.Now)
	return errs
}

// Open opens a sensor and starts what it needs; its Close ends that. The
// options' errors come as Check has them, joined. Open returns by ctx's end.
// The sensor uses board until its Close, which must come before the board's.
func Open(ctx context.Context, driver string, board hal.Board, opts map[string]any) (hal.Sensor, error) {
	return OpenBy(ctx, driver, board, opts, time.Now)
}

// OpenBy is Open for a device whose clock may be wrong, as it is after the start of a
// Raspberry Pi without a network: certificates are judged by certTime, as by
// tls.Config.Time.
func OpenBy(ctx context.Context, driver string, board hal.Board, opts map[string]any,
	certTime func() time.Time) (hal.Sensor, error) {
	open, errs := set(driver, opts, certTime)
	if len(errs) > 0 {
		return nil, fmt.Errorf("sensor %s: %w", driver, errors.Join(errs...))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sensor %s: %w", driver, err)
	}
	s, err := open(ctx, board)
	if err != nil {
		return nil, fmt.Errorf("sensor %s: %w", driver, err)
	}
	return s, nil
}
