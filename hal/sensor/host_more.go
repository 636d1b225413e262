package sensor

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

// A hostExtra is a channel that not each machine has.
type hostExtra struct {
	hal.Channel
	read func() (hal.Value, error)
}

// hostExtras finds out what a machine has: a wireless interface, a Raspberry Pi's
// supply, and with zones each of its temperatures.
func hostExtras(root, iface string, zones bool) []hostExtra {
	files := os.DirFS(root)
	var out []hostExtra
	if _, found, err := wireless(files, iface); err == nil && found {
		out = append(out, hostExtra{hal.Channel{Name: "wifi_signal", Unit: "dBm", Kind: hal.Float},
			func() (hal.Value, error) { return signal(files, iface) }})
	}
	out = append(out, supply(files)...)
	if zones {
		out = append(out, temperatureZones(files)...)
	}
	return out
}

// throttled is where Raspberry Pi's kernel shows what vcgencmd get_throttled does, a
// hexadecimal number.
const throttled = "sys/devices/platform/soc/soc:firmware/get_throttled"

// supply tells what a Raspberry Pi's firmware says of its supply and speed: bits 0 and
// 2 are now, 16 and 18 since the start (documentation of vcgencmd). A kernel without
// that file may have the hwmon chip rpi_volt, whose alarm is bit 0.
func supply(files fs.FS) []hostExtra {
	if _, err := fs.Stat(files, throttled); err == nil {
		bit := func(name string, n int) hostExtra {
			return hostExtra{hal.Channel{Name: name, Kind: hal.Bool}, func() (hal.Value, error) {
				s, err := sysDir{files, path.Dir(throttled)}.text(path.Base(throttled))
				if err != nil {
					return hal.Value{}, err
				}
				u, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
				if err != nil {
					return hal.Value{}, fmt.Errorf("%w: get_throttled reads %.20q", ErrImplausible, s)
				}
				return hal.BoolValue(u>>n&1 == 1), nil
			}}
		}
		return []hostExtra{bit("undervoltage", 0), bit("throttled", 2), bit("undervoltage_seen", 16),
			bit("throttled_seen", 18)}
	}
	dir, err := findDevice(files, "sys/class/hwmon/hwmon*", "rpi_volt", nil)
	if err != nil {
		return nil
	}
	return []hostExtra{{hal.Channel{Name: "undervoltage", Kind: hal.Bool}, func() (hal.Value, error) {
		n, err := dir.number("in0_lcrit_alarm")
		return hal.BoolValue(n != 0), err
	}}}
}

// temperatureZones are the thermal zones, named after their types.
func temperatureZones(files fs.FS) []hostExtra {
	var out []hostExtra
	dirs, _ := fs.Glob(files, "sys/class/thermal/thermal_zone*") // the pattern is well formed
	for _, at := range dirs {
		dir := sysDir{files, at}
		kind, err := dir.text("type")
		if err != nil {
			continue
		}
		name := payload.Name(kind)
		name = strings.TrimRight(name[:min(len(name), 20)], "_") + "_temp"
		if slices.ContainsFunc(out, func(e hostExtra) bool { return e.Name == name }) || name == "cpu_temp" {
			name = payload.Name(strings.TrimPrefix(dir.name(), "thermal_")) + "_temp"
		}
		out = append(out, hostExtra{hal.Channel{Name: name, Unit: "°C", Kind: hal.Float}, func() (hal.Value, error) {
			n, err := dir.number("temp")
			return hal.FloatValue(n / 1000), err // m°C
		}})
	}
	return out
}

// signal is the level of an interface's link, absent while there is none.
func signal(files fs.FS, iface string) (hal.Value, error) {
	dbm, found, err := wireless(files, iface)
	if err != nil || !found || dbm >= 0 || math.IsNaN(dbm) { // a level that is not below 0 is in no known unit
		return hal.Value{}, err
	}
	return hal.FloatValue(dbm), nil
}

// wireless returns the level of one interface, or of the first if name is "", from
// /proc/net/wireless: "wlan0: 0000   54.  -56.  -256  0 …", the link's quality, its
// level in dBm, and noise.
func wireless(files fs.FS, name string) (level float64, found bool, err error) {
	text, err := sysDir{files, "proc/net"}.text("wireless")
	if err != nil {
		return 0, false, err
	}
	for l := range strings.Lines(text) {
		iface, rest, ok := strings.Cut(l, ":")
		iface = strings.TrimSpace(iface)
		if !ok || strings.Contains(l, "|") || name != "" && iface != name {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < 3 {
			return 0, false, fmt.Errorf("net/wireless: %.40q", l)
		}
		n, ok := payload.Scalar(strings.TrimSuffix(f[2], ".")).(float64)
		if !ok {
			return 0, false, fmt.Errorf("net/wireless: %.40q", l)
		}
		return n, true, nil
	}
	return 0, false, nil
}
