package sensor_test

import (
	"encoding/hex"
	"encoding/json"
	"path"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/hal/sim"
)

// sysfsRig is a kernel with the vector's device. Its files are of one device, or
// those of several with their folders.
func sysfsRig(t *testing.T, v *vector) *rig {
	b := sim.New(sim.Options{NoBus: true})
	files := b.Kernel()
	files.Remove("sys")
	r := &rig{board: b, driver: driverOf(v), opts: map[string]any{}}
	home := "sys/bus/iio/devices"
	switch v.Chip {
	case "iio":
		r.opts["channels"] = []any{v.Setup["channel"]}
		r.opts["device"] = "fake"
		if name, ok := v.Setup["device_name"].(string); ok {
			r.opts["device"] = name
		} else {
			home += "/iio:device3"
			files.Set(home+"/name", "fake\n")
		}
		if v.Setup["buffered"] == true {
			r.opts["buffered"] = true
		}
	case "hwmon":
		r.opts["chip"], r.opts["inputs"] = "fake", []any{v.Setup["input"]}
		home = "sys/class/hwmon/hwmon2"
		files.Set(home+"/name", "fake\n")
	case "w1_slave":
		return w1FilesRig(t, v)
	default:
		return nil
	}
	for name, text := range v.Files {
		var content string
		if json.Unmarshal(text, &content) == nil {
			files.Set(path.Join(home, name), content)
			continue
		}
		var fail struct{ Errno string }
		if err := json.Unmarshal(text, &fail); err != nil {
			t.Fatal(err)
		}
		no := map[string]syscall.Errno{"EAGAIN": syscall.EAGAIN, "EIO": syscall.EIO,
			"ENODATA": syscall.ENODATA}[fail.Errno]
		if no == 0 {
			t.Fatalf("errno %s is not known here", fail.Errno)
		}
		files.Fail(path.Join(home, name), no)
	}
	for _, e := range v.Exchange {
		scan, err := hex.DecodeString(e.R)
		if err != nil {
			t.Fatal(err)
		}
		files.Set("dev/iio:device3", string(scan))
	}
	return r
}
