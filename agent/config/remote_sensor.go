package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/hal/form"
)

// remoteDrivers are those of which a deviceConfiguration may make sensors: they read. All
// others are the file's alone, for who may set a configuration from afar must not thereby
// move something, run programs, or reach into the network that the device is in.
var remoteDrivers = map[string]bool{
	"ads1015": true, "ads1115": true, "bh1750": true, "bme280": true, "bmp280": true, "bmp388": true, "bmp390": true,
	"count": true, "dps310": true, "ds18b20": true, "gpio-in": true, "host": true, "hwmon": true, "iio": true,
	"ina219": true, "ina226": true, "lm75": true, "lsm303": true, "max31855": true, "max6675": true, "mcp9808": true,
	"modbus": true, "mpu6050": true, "scd4x": true, "serial": true, "sht3x": true, "sht4x": true, "tmp102": true,
	"tmp105": true, "vl53l0x": true,
}

// localDrivers are the others, each with the reason.
var localDrivers = map[string]string{
	"command":  "runs a program",
	"mqtt":     "connects to a broker",
	"gpio-out": "sets an output", "pwm": "sets an output", "pca9685": "sets outputs",
	"hx711": "drives a line",
}

// ownOnly ends each refusal of what a deviceConfiguration may never set.
const ownOnly = ", which only the device's own file may"

// localOption says why an option of a driver is the file's alone, "" for one that is not.
// A file's content could be sent somewhere.
func localOption(name string) string {
	switch {
	case name == "endpoint":
		return "says where it connects"
	case strings.HasSuffix(name, "_file") ||
		slices.Contains([]string{"root", "path", "dir", "command", "program", "args", "ca", "cert", "key"}, name):
		return "names something on the disk"
	}
	return ""
}

// hardware are the paths that may be named. Opening another can do harm by itself: a
// watchdog that is opened and closed again restarts the device.
func hardware(path string) bool {
	for _, begin := range []string{"i2c-", "spidev", "tty", "serial/by-id/", "serial/by-path/"} {
		if rest, ok := strings.CutPrefix(path, "/dev/"+begin); ok {
			return (form.Thing + "..").Is(rest, 1, len(rest))
		}
	}
	return false
}

// isHardware says whether an option may have this text. A port is a path whatever it
// looks like; others, such as the name of a line or of a chip, are none unless they have a
// slash.
func isHardware(option, text string) bool {
	return option != "port" && !strings.Contains(text, "/") || hardware(text)
}

// sensorDenied returns what of a sensor is not for the bridge to set, whatever the file
// has. at begins each key.
func sensorDenied(at string, sn map[string]any) (errs []error) {
	deny := func(key, why string) { errs = append(errs, fmt.Errorf("%s: %s", at+key, why)) }
	if driver, ok := sn["driver"].(string); ok && !remoteDrivers[driver] {
		deny("driver", strconv.Quote(driver)+" "+
			cmp.Or(localDrivers[driver], "is no driver that is known to read")+ownOnly)
	}
	options, _ := sn["options"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(options)) {
		text, isText := options[name].(string)
		if why := localOption(name); why != "" {
			deny("options."+name, why+ownOnly)
		} else if isText && !isHardware(name, text) {
			deny("options."+name, strconv.Quote(text)+" is no bus or port")
		}
	}
	return errs
}

// A placer says on which I2C bus, and at which address, a sensor is.
type placer func(driver string, opts map[string]any) (bus string, address int64, ok bool)

// overLocal returns what of the sensors of a deviceConfiguration would go around what the
// file says: it may change when an output of the file is read and nothing else of it, and
// has no sensor where the file has one, for another driver would write to the same chip.
func overLocal(given, file any, place placer) (errs []error) {
	list, _ := given.([]map[string]any)
	own, _ := file.([]map[string]any)
	for i, sn := range list {
		at := fmt.Sprintf("sensor[%d].", i)
		name, _ := sn["name"].(string)
		n := slices.IndexFunc(own, func(o map[string]any) bool { return o["name"] == any(name) })
		all := sn
		if n >= 0 {
			all = maps.Clone(sn)
			maps.Copy(all, own[n])
		}
		if driver, _ := all["driver"].(string); n >= 0 && !remoteDrivers[driver] {
			for _, key := range []string{"options", "limits", "safe"} {
				if _, ok := sn[key]; ok {
					errs = append(errs, fmt.Errorf("%s%s: of a sensor of the file with the driver %q%s",
						at, key, driver, ownOnly))
				}
			}
		}
		for j, o := range own {
			if j != n && samePlace(all, o, place) {
				errs = append(errs, fmt.Errorf("%soptions: where the file has %q", at, fmt.Sprint(o["name"])))
			}
		}
	}
	return errs
}

// samePlace says whether two sensors may be one chip or line. A bus that is not named may
// be any.
func samePlace(a, b map[string]any, place placer) bool {
	x, _ := a["options"].(map[string]any)
	y, _ := b["options"].(map[string]any)
	for _, of := range []string{"line", "data", "clock"} {
		if line, ok := x["line"].(string); ok && y[of] == any(line) {
			return true
		}
	}
	if place == nil {
		return false
	}
	driver, _ := a["driver"].(string)
	other, _ := b["driver"].(string)
	bus, at, ok := place(driver, x)
	bus2, at2, ok2 := place(other, y)
	return ok && ok2 && at == at2 && (bus == bus2 || bus == "" || bus2 == "")
}
