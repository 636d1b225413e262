package sensor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

var iioDriver = driver{
	Driver: Driver{
		Name:    "iio",
		Summary: "a sensor that the kernel has a driver for (/sys/bus/iio)",
		Options: []Option{
			{"device", "string", "", "required: its name, such as bme280, its label, or iio:device0, which may change"},
			{"channels", "strings", "", `such as ["in_temp", "in_voltage0"]; all if left out`},
			{"buffered", "bool", "false", "takes the newest scan of the device's buffer in place of single values"},
			{"root", "string", "/", "folder that holds sys and dev; for containers and tests"},
		},
	},
	set: func(o *options) opener {
		d := &iio{device: o.required("device"), root: o.text("root", "/")}
		d.buffered, _ = o.flag("buffered")
		for _, c := range o.texts("channels") {
			c = "in_" + strings.TrimPrefix(c, "in_")
			if _, ok := iioParse(c); !ok {
				o.fail("channels", "%q, want such as in_temp, in_voltage0 or in_accel_x", c)
				break
			}
			d.wanted = append(d.wanted, c)
		}
		return d.open
	},
}

// iio is the driver of the same name.
type iio struct {
	device, root string
	wanted       []string
	buffered     bool
}

// iioTypes are the types of channels: what a channel is called, its unit, and what a
// value after offset and scale is multiplied with to get to it
// (Documentation/ABI/testing/sysfs-bus-iio). A type without a unit may lack a scale.
var iioTypes = map[string]struct {
	name, unit string
	by         float64
}{
	"accel":                  {"accel", "m/s²", 1},
	"altvoltage":             {"altvoltage", "V", 1e-3}, // mV
	"angl":                   {"angle", "rad", 1},
	"anglvel":                {"gyro", "°/s", 180 / math.Pi}, // rad/s
	"capacitance":            {"capacitance", "nF", 1},
	"concentration":          {"concentration", "%", 1},
	"count":                  {"count", "", 1},
	"current":                {"current", "A", 1e-3},  // mA
	"distance":               {"distance", "mm", 1e3}, // m
	"electricalconductivity": {"conductivity", "S/m", 1},
	"energy":                 {"energy", "J", 1},
	"gravity":                {"gravity", "m/s²", 1},
	"humidityrelative":       {"humidity", "%RH", 1e-3}, // milli percent
	"illuminance":            {"illuminance", "lx", 1},
	"incli":                  {"inclination", "°", 1},
	"intensity":              {"intensity", "", 1},
	"magn":                   {"mag", "µT", 100}, // gauss
	"massconcentration":      {"massconcentration", "µg/m³", 1},
	"ph":                     {"ph", "", 1},
	"positionrelative":       {"position", "%", 1e-3}, // milli percent
	"power":                  {"power", "W", 1e-3},    // mW
	"pressure":               {"pressure", "Pa", 1e3}, // kPa
	"proximity":              {"proximity", "", 1},
	"resistance":             {"resistance", "Ω", 1},
	"steps":                  {"steps", "", 1},
	"temp":                   {"temperature", "°C", 1e-3}, // m°C
	"uvindex":                {"uvindex", "", 1},
	"velocity":               {"velocity", "m/s", 1},
	"voltage":                {"voltage", "V", 1e-3}, // mV
}

// An iioChannel is one channel of a device.
type iioChannel struct {
	attr     string // "in_voltage0", "in_accel_x", "in_voltage0-voltage1"
	kind     string // "voltage"
	number   string // "0"
	minus    string // "-voltage1", of a differential one
	modifier string // "_x"
	unit     string
	by       float64
}

// iioParse takes a channel's name apart: in_, a kind, a number, -kind and a number for a
// difference, and _modifier.
func iioParse(name string) (iioChannel, bool) {
	c := iioChannel{attr: name}
	rest, ok := strings.CutPrefix(name, "in_")
	if c.kind, rest = form.Lower.Cut(rest); !ok || c.kind == "" {
		return iioChannel{}, false
	}
	c.number, rest = form.Digits.Cut(rest)
	if other, ok := strings.CutPrefix(rest, "-"); ok {
		kind, after := form.Lower.Cut(other)
		number, modifier := form.Digits.Cut(after)
		if kind == "" {
			return iioChannel{}, false
		}
		c.minus, rest = "-"+kind+number, modifier
	}
	if c.modifier = rest; rest != "" && (rest[0] != '_' || !form.Set("az09__").Is(rest[1:], 1, len(rest))) {
		return iioChannel{}, false
	}
	t, ok := iioTypes[c.kind]
	c.unit, c.by = t.unit, t.by
	if c.kind == "concentration" && (c.modifier == "_co2" || c.modifier == "_voc") {
		c.unit, c.by = "ppm", 1e4 // of percent: what people know of CO2
	}
	return c, ok
}

// base and index are the parts of a channel's name in a reading.
func (c iioChannel) base() (base, index string) {
	switch {
	case c.unit == "ppm":
		return strings.TrimPrefix(c.modifier, "_") + c.number, ""
	case c.minus != "":
		return payload.Name(strings.TrimPrefix(c.attr, "in_")), ""
	case c.modifier != "":
		return payload.Name(iioTypes[c.kind].name + c.number + c.modifier), ""
	}
	return iioTypes[c.kind].name, c.number
}

// shared returns the files where an attribute of the channel may stand: its own, or
// that of all channels of the type or the device.
func (c iioChannel) shared(what string) []string {
	bare := func(s string) string { return strings.TrimRight(s, "0123456789") }
	names := []string{c.attr, "in_" + c.kind + bare(c.minus) + c.modifier, "in_" + c.kind + c.number,
		"in_" + c.kind + bare(c.minus), "in_" + c.kind, "in"}
	for i := range names {
		names[i] += "_" + what
	}
	return slices.Compact(names)
}

// iioFile is the channel whose value a file has, "" if it has none.
func iioFile(name string) string {
	for _, end := range []string{"_input", "_raw"} {
		if attr, ok := strings.CutSuffix(name, end); ok && strings.HasPrefix(attr, "in_") && attr != "in_" {
			return attr
		}
	}
	return ""
}

// list returns the channels wanted, by name.
func (d *iio) list(dir sysDir) ([]iioChannel, error) {
	entries, err := fs.ReadDir(dir.fs, dir.path)
	if err != nil {
		return nil, attrError(err)
	}
	var all []string
	for _, e := range entries {
		if attr := iioFile(e.Name()); attr != "" && !slices.Contains(all, attr) {
			all = append(all, attr)
		}
	}
	return d.choose(all)
}

// choose returns those of all that are wanted and have a type we know.
func (d *iio) choose(all []string) ([]iioChannel, error) {
	var found []iioChannel
	for _, name := range all {
		if c, ok := iioParse(name); ok && (d.wanted == nil || slices.Contains(d.wanted, name)) {
			found = append(found, c)
		}
	}
	for _, w := range d.wanted {
		if !slices.ContainsFunc(found, func(c iioChannel) bool { return c.attr == w }) {
			return nil, fmt.Errorf("%w: no channel %s, there are: %s", hal.ErrNoDevice, w, strings.Join(all, " "))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: it has no channels that are known, there are: %s", hal.ErrNoDevice,
			strings.Join(all, " "))
	}
	return found, nil
}

func (d *iio) find(files fs.FS) (sysDir, error) {
	return findDevice(files, "sys/bus/iio/devices/iio:device*", d.device, nil)
}

func (d *iio) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	files := filesOf(b, d.root)
	dir, err := d.find(files)
	if err != nil {
		return nil, err
	}
	if d.buffered {
		return d.openBuffer(ctx, dir)
	}
	found, err := d.list(dir)
	if err != nil {
		return nil, err
	}
	s := &sysfs{name: "iio " + d.device, find: func() (sysDir, error) { return d.find(files) }, dir: dir,
		calls: calls{release: func() error { return nil }}}
	for i, name := range iioNames(dir, found) {
		s.add(hal.Channel{Name: name, Unit: found[i].unit, Kind: hal.Float}, found[i].value)
	}
	if _, err := s.Read(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// iioNames are the channels' names in a reading.
func iioNames(dir sysDir, found []iioChannel) []string {
	var bases, numbers, labels []string
	for _, c := range found {
		base, number := c.base()
		label, _ := dir.text(c.attr + "_label") // most have none
		bases, numbers, labels = append(bases, base), append(numbers, number), append(labels, label)
	}
	return distinct(numbered(bases, numbers), labels)
}

// value reads the channel: a processed value where the kernel has one, else a raw
// one.
func (c iioChannel) value(dir sysDir) (hal.Value, error) {
	n, err := dir.number(c.attr + "_input")
	if err == nil {
		return c.converted(n)
	}
	if !errors.Is(err, hal.ErrNoDevice) {
		return hal.Value{}, err
	}
	if n, err = dir.number(c.attr + "_raw"); err != nil {
		return hal.Value{}, err
	}
	return c.scaled(dir, n)
}

// scaled makes a value of a raw number: (raw + offset) * scale.
func (c iioChannel) scaled(dir sysDir, raw float64) (hal.Value, error) {
	offset, _, err := c.first(dir, "offset")
	if err != nil {
		return hal.Value{}, err
	}
	scale, found, err := c.first(dir, "scale")
	if err != nil {
		return hal.Value{}, err
	}
	if !found {
		if c.unit != "" {
			return hal.Value{}, fmt.Errorf("%w: %s has no scale", ErrUnsupported, c.attr)
		}
		scale = 1 // counts
	}
	return c.converted((raw + offset) * scale)
}

// converted makes a value of one in the kernel's unit.
func (c iioChannel) converted(n float64) (hal.Value, error) {
	if n *= c.by; math.IsInf(n, 0) || math.IsNaN(n) {
		return hal.Value{}, fmt.Errorf("%w: %s is %v", ErrImplausible, c.attr, n)
	}
	return hal.FloatValue(n), nil
}

// first reads an attribute where it stands.
func (c iioChannel) first(dir sysDir, what string) (n float64, found bool, err error) {
	for _, name := range c.shared(what) {
		if !dir.has(name) {
			continue
		}
		n, err := dir.number(name)
		return n, err == nil, err
	}
	return 0, false, nil
}
