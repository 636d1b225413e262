package sensor_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

const (
	iioDevices = "sys/bus/iio/devices/"
	hwmonChips = "sys/class/hwmon/"
)

// kernel is a board without chips of its own, and its files.
func kernel(files map[string]string) (*sim.Board, *sim.Files) {
	b := sim.New(sim.Options{NoBus: true})
	b.Kernel().Remove("sys")
	for name, text := range files {
		b.Kernel().Set(name, text+"\n")
	}
	return b, b.Kernel()
}

func TestKernelSensors(t *testing.T) {
	b := sim.New(sim.Options{Seed: 3})
	for _, c := range []struct {
		driver string
		opts   map[string]any
	}{
		{"iio", map[string]any{"device": "bme280"}},
		{"hwmon", map[string]any{"chip": "cpu_thermal"}},
	} {
		haltest.Sensor(t, func(t testing.TB) hal.Sensor { return open(t, c.driver, b, c.opts) })
	}
	m := reading(t, open(t, "iio", b, map[string]any{"device": "bme280"}))
	i2c := reading(t, open(t, "bme280", b, nil))
	for name, within := range map[string]float64{"temperature": 1, "humidity": 5, "pressure": 100} {
		if d := math.Abs(m[name].Float() - i2c[name].Float()); !(d < within) {
			t.Errorf("%s differs by %v between the kernel's driver and ours", name, d)
		}
	}
}

func TestSimulatedFiles(t *testing.T) {
	b := sim.New(sim.Options{})
	if err := fstest.TestFS(withoutLinks{b.Kernel()}, "sys/bus/iio/devices/iio:device0/name"); err != nil {
		t.Log(err) // sizes and contents move on, as those of /sys do; only a panic counts
	}
}

type withoutLinks struct{ *sim.Files }

// What a device's channels are called and measured in.
func TestKernelChannels(t *testing.T) {
	b, files := kernel(map[string]string{
		iioDevices + "iio:device0/name":                     "adc",
		iioDevices + "iio:device0/in_voltage0_raw":          "1000",
		iioDevices + "iio:device0/in_voltage1_raw":          "2000",
		iioDevices + "iio:device0/in_voltage1_label":        "Battery 1",
		iioDevices + "iio:device0/in_voltage0-voltage1_raw": "-500",
		iioDevices + "iio:device0/in_voltage_scale":         "2",
		iioDevices + "iio:device0/in_voltage-voltage_scale": "4",
		iioDevices + "iio:device0/in_temp_raw":              "5", // without a scale
		iioDevices + "iio:device0/in_count0_raw":            "7",
		iioDevices + "iio:device0/in_concentration_co2_raw": "415",
		iioDevices + "iio:device0/in_concentration_scale":   "0.0001",
		iioDevices + "iio:device0/in_anglvel_x_raw":         "100",
		iioDevices + "iio:device0/in_anglvel_scale":         "0.01",
		iioDevices + "iio:device0/in_rot_raw":               "1 2 3",
		hwmonChips + "hwmon4/name":                          "it87",
		hwmonChips + "hwmon4/temp1_input":                   "40500",
		hwmonChips + "hwmon4/temp1_label":                   "CPU",
		hwmonChips + "hwmon4/temp1_crit_alarm":              "1",
		hwmonChips + "hwmon4/temp2_input":                   "-128000",
		hwmonChips + "hwmon4/temp2_fault":                   "1",
		hwmonChips + "hwmon4/in0_input":                     "12050",
		hwmonChips + "hwmon4/fan1_input":                    "1350",
		hwmonChips + "hwmon4/power1_average":                "1500000",
		hwmonChips + "hwmon4/power1_input":                  "2500000",
		hwmonChips + "hwmon4/temp1_max":                     "90000",
	})
	for _, c := range []struct {
		driver string
		opts   map[string]any
		want   string
	}{
		{"iio", map[string]any{"device": "adc"}, "gyro_x=57.2958 °/s co2=415 ppm count=7 temperature absent " +
			"voltage0_voltage1=-2 V voltage0=2 V battery_1=4 V"},
		{"iio", map[string]any{"device": "iio:device0", "channels": []any{"voltage0"}}, "voltage=2 V"},
		{"hwmon", map[string]any{"chip": "it87", "alarms": true},
			"fan=1350 1/min voltage=12.05 V power=2.5 W cpu=40.5 °C cpu_alarm=1 temperature2 absent"},
		{"hwmon", map[string]any{"chip": "hwmon4", "inputs": []any{"fan1"}}, "fan=1350 1/min"},
	} {
		s := open(t, c.driver, b, c.opts)
		vals, err := s.Read(t.Context())
		if err != nil {
			t.Errorf("%v: %v", c.opts, err)
			continue
		}
		var got []string
		for i, ch := range s.Channels() {
			if vals[i].Kind() == hal.Absent {
				got = append(got, ch.Name+" absent")
				continue
			}
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s=%.6g %s", ch.Name, numberOf(vals[i]), ch.Unit)))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.opts, text, c.want)
		}
	}
	for _, c := range []struct {
		driver string
		opts   map[string]any
		kind   string
		says   string
	}{
		{"iio", map[string]any{"device": "adc", "channels": []any{"in_temp"}}, "unsupported", "no scale"},
		{"iio", map[string]any{"device": "adc", "channels": []any{"in_pressure"}}, "no_device", "there are: in_anglvel_x"},
		{"iio", map[string]any{"device": "bme280"}, "no_device", "iio:device0 adc"},
		{"iio", map[string]any{"device": "adc", "buffered": true}, "unsupported", "enabled"},
		{"hwmon", map[string]any{"chip": "it87", "device": "x"}, "no_device", "hwmon4 it87"},
		{"hwmon", map[string]any{"chip": "it87", "inputs": []any{"temp2"}}, "open_circuit", "temp2_fault"},
		{"hwmon", map[string]any{"chip": "it87", "inputs": []any{"temp9"}}, "no_device", "there are: fan1"},
	} {
		_, err := sensor.Open(t.Context(), c.driver, b, c.opts)
		if err == nil || sensor.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %s: %s", c.opts, err, c.kind, c.says)
		}
	}
	// Of two chips with one name the device tells which.
	files.Set(hwmonChips+"hwmon5/name", "it87")
	files.Set(hwmonChips+"hwmon5/temp1_input", "1000")
	files.Link(hwmonChips+"hwmon5/device", "../../../0000:01:00.0")
	if _, err := sensor.Open(t.Context(), "hwmon", b, map[string]any{"chip": "it87"}); err == nil {
		t.Error("one of two was taken")
	}
	if m := reading(t, open(t, "hwmon", b, map[string]any{"chip": "it87", "device": "0000:01:00.0"})); m["temperature"].
		Float() != 1 {
		t.Errorf("%v", m)
	}
}

// A device that vanishes is absent, and comes back under another number.
func TestKernelDeviceMoves(t *testing.T) {
	b, files := kernel(map[string]string{
		iioDevices + "iio:device0/name":          "bme280",
		iioDevices + "iio:device0/in_temp_input": "21000",
	})
	s := open(t, "iio", b, map[string]any{"device": "bme280"})
	files.Remove(iioDevices + "iio:device0")
	for range 2 {
		if _, err := s.Read(t.Context()); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("%v, want no device", err)
		}
	}
	files.Set(iioDevices+"iio:device1/name", "bme280")
	files.Set(iioDevices+"iio:device1/in_temp_input", "22000")
	if m := reading(t, s); m["temperature"].Float() != 22 {
		t.Errorf("%v", m)
	}
	files.Fail(iioDevices+"iio:device1/in_temp_input", syscall.ENXIO)
	if _, err := s.Read(t.Context()); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("%v, want no device", err)
	}
	files.Set(iioDevices+"iio:device1/in_temp_input", "nan")
	if _, err := s.Read(t.Context()); sensor.KindOf(err) != "implausible" {
		t.Errorf("%v, want implausible", err)
	}
}

// Whatever the kernel says of a buffer and of a channel, a value is a number.
func FuzzIIO(f *testing.F) {
	f.Add("be:s12/16>>4", "0.5", "-3", []byte{1, 2})
	f.Add("le:u64/64>>0", "1e300", "1", []byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Add("le:s16/16X4>>0", "1", "1", []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, kind, scale, offset string, scan []byte) {
		b, files := kernel(map[string]string{
			iioDevices + "iio:device0/name":                        "x",
			iioDevices + "iio:device0/in_temp_scale":               scale,
			iioDevices + "iio:device0/in_temp_offset":              offset,
			iioDevices + "iio:device0/in_temp_raw":                 string(scan),
			iioDevices + "iio:device0/scan_elements/in_temp_type":  kind,
			iioDevices + "iio:device0/scan_elements/in_temp_en":    "1",
			iioDevices + "iio:device0/scan_elements/in_temp_index": "0",
		})
		files.Set("dev/iio:device0", string(scan))
		for _, buffered := range []bool{false, true} {
			s, err := sensor.Open(t.Context(), "iio", b, map[string]any{"device": "x", "buffered": buffered})
			if err != nil {
				if sensor.KindOf(err) == "" || strings.Contains(err.Error(), "panicked") {
					t.Errorf("of no kind: %v", err)
				}
				continue
			}
			vals, err := s.Read(t.Context())
			if err != nil || len(vals) != 1 || math.IsNaN(vals[0].Float()) || math.IsInf(vals[0].Float(), 0) {
				t.Errorf("%v, %v", vals, err)
			}
			s.Close()
		}
	})
}

func fromTOML(t *testing.T, text string) map[string]any {
	t.Helper()
	var opts map[string]any
	if _, err := toml.Decode(text, &opts); err != nil {
		t.Fatal(err)
	}
	return opts
}
