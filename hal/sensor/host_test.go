package sensor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
)

// machine writes a root as a Raspberry Pi has it.
func machine(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"proc/stat": "cpu  100 10 40 800 50 0 0 0 7 0\ncpu0 100 10 40 800 50 0 0 0 7 0\nintr 1 2 3\n",
		"proc/meminfo": "MemTotal:         439252 kB\nMemFree:           52100 kB\nMemAvailable:     301552 kB\n" +
			"Buffers: 1 kB\nCached: 2 kB\n",
		"proc/loadavg": "0.42 0.30 0.25 1/123 4567\n",
		"proc/uptime":  "3031.43 5795.33\n",
		"proc/net/dev": "Inter-|   Receive   |  Transmit\n face |bytes packets|bytes\n" +
			"    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0\n" +
			"  eth0: 120192120    6783    0    0    0     0          0         0   565178    4997    0    0    0  " +
			"   0       0          0\n" +
			"wlan0:1000 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n",
		"sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
		"sys/class/thermal/thermal_zone0/temp": "99000\n",
		"sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
		"sys/class/thermal/thermal_zone1/temp": "48312\n",
	} {
		write(t, root, name, text)
	}
	return root
}

func write(t testing.TB, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reading reads a sensor into a map by channel; absent values have no entry.
func reading(t testing.TB, s hal.Sensor) map[string]hal.Value {
	t.Helper()
	vals, err := s.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]hal.Value{}
	for i, c := range s.Channels() {
		if vals[i].Kind() != hal.Absent {
			m[c.Name] = vals[i]
		}
	}
	return m
}

func TestHostSuite(t *testing.T) {
	haltest.Sensor(t, func(t testing.TB) hal.Sensor { return open(t, "host", nil, map[string]any{"root": machine(t)}) })
}

func TestHostReal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	s := open(t, "host", nil, nil)
	defer s.Close()
	m := reading(t, s)
	for _, name := range []string{"load1", "mem_used", "mem_available", "disk_used", "disk_free", "net_rx", "net_tx",
		"uptime"} {
		if _, ok := m[name]; !ok {
			t.Errorf("no %s on this machine", name)
		}
	}
	if up := m["uptime"].Float(); up <= 0 {
		t.Errorf("uptime %v", up)
	}
	if a := m["mem_available"].Int(); a <= 0 {
		t.Errorf("mem_available %v", a)
	}
}

func TestHost(t *testing.T) {
	root := machine(t)
	s := open(t, "host", nil, map[string]any{"root": root, "path": "/proc"})
	defer s.Close()
	m := reading(t, s)
	want := map[string]hal.Value{
		"cpu_temp":      hal.FloatValue(48.312),
		"load1":         hal.FloatValue(0.42),
		"mem_used":      hal.IntValue((439252 - 301552) * 1024),
		"mem_available": hal.IntValue(301552 * 1024),
		"net_rx":        hal.IntValue(120193120),
		"net_tx":        hal.IntValue(565378),
		"uptime":        hal.FloatValue(3031.43),
	}
	for name, w := range want {
		if m[name] != w {
			t.Errorf("%s = %v/%v, want %v/%v", name, m[name].Int(), m[name].Float(), w.Int(), w.Float())
		}
	}
	if _, ok := m["cpu_used"]; ok {
		t.Error("cpu_used before any time has passed")
	}
	if m["disk_free"].Int() <= 0 {
		t.Error("no disk_free")
	}

	write(t, root, "proc/stat", "cpu  120 10 50 840 80 0 0 0 7 0\n") // 30 of 100 ticks
	if got := reading(t, s)["cpu_used"].Float(); got != 30 {
		t.Errorf("cpu_used %v, want 30", got)
	}
	if got := reading(t, s)["cpu_used"].Float(); got != 30 { // the same tick
		t.Errorf("cpu_used %v within the same tick, want 30 still", got)
	}
	write(t, root, "proc/stat", "cpu  120 10 50 830 80 0 0 0 7 0\n") // idle went back
	if v, ok := reading(t, s)["cpu_used"]; ok {
		t.Errorf("cpu_used %v of counters that went back", v.Float())
	}

	// What is gone or broken leaves its channels out and nothing else, and is
	// back when it is.
	write(t, root, "proc/meminfo", "MemTotal: lots\n")
	write(t, root, "sys/class/thermal/thermal_zone1/temp", "")
	m = reading(t, s)
	for _, name := range []string{"mem_used", "mem_available", "cpu_temp"} {
		if v, ok := m[name]; ok {
			t.Errorf("%s = %v from a broken file", name, v)
		}
	}
	if _, ok := m["load1"]; !ok {
		t.Error("one broken file took another's channel")
	}
	write(t, root, "sys/class/thermal/thermal_zone1/temp", "-7500\n")
	if got := reading(t, s)["cpu_temp"].Float(); got != -7.5 {
		t.Errorf("cpu_temp %v, want -7.5", got)
	}
}

func TestHostInterface(t *testing.T) {
	s := open(t, "host", nil, map[string]any{"root": machine(t), "interface": "wlan0"})
	defer s.Close()
	if m := reading(t, s); m["net_rx"].Int() != 1000 || m["net_tx"].Int() != 200 {
		t.Errorf("wlan0: %v, %v", m["net_rx"].Int(), m["net_tx"].Int())
	}
	none := open(t, "host", nil, map[string]any{"root": machine(t), "interface": "ppp0"})
	defer none.Close()
	if _, ok := reading(t, none)["net_rx"]; ok {
		t.Error("net_rx of an interface that isn't there")
	}
}

func TestHostHwmon(t *testing.T) {
	root := machine(t)
	if err := os.RemoveAll(filepath.Join(root, "sys/class/thermal")); err != nil {
		t.Fatal(err)
	}
	write(t, root, "sys/class/hwmon/hwmon0/name", "nvme\n")
	write(t, root, "sys/class/hwmon/hwmon0/temp1_input", "31000\n")
	write(t, root, "sys/class/hwmon/hwmon1/name", "coretemp\n")
	write(t, root, "sys/class/hwmon/hwmon1/temp1_input", "55000\n")
	s := open(t, "host", nil, map[string]any{"root": root})
	defer s.Close()
	if got := reading(t, s)["cpu_temp"].Float(); got != 55 {
		t.Errorf("cpu_temp %v, want 55", got)
	}
}

func TestHostNothing(t *testing.T) {
	if _, err := sensor.Open(t.Context(), "host", nil, map[string]any{"root": t.TempDir()}); !errors.Is(err,
		os.ErrNotExist) {
		t.Errorf("no /proc at all: %v", err)
	}
}

func BenchmarkHostRead(b *testing.B) {
	s, err := sensor.Open(b.Context(), "host", nil, nil)
	if err != nil {
		b.Skip(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestHostAllocs(t *testing.T) {
	s := open(t, "host", nil, map[string]any{"root": machine(t)})
	defer s.Close()
	n := testing.AllocsPerRun(20, func() {
		if _, err := s.Read(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%v allocations a reading", n)
	// The reading itself, and the goroutine and path of statfs.
	if n > 5 {
		t.Errorf("%v allocations a reading, want at most 5", n)
	}
}

// What only some machines have.
func TestHostMore(t *testing.T) {
	root := machine(t)
	write(t, root, "proc/net/wireless", "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"+
		" face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"+
		" wlan0: 0000   54.  -56.  -256        0      0      0      0     44        0\n")
	write(t, root, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
	s := open(t, "host", nil, map[string]any{"root": root, "zones": true})
	defer s.Close()
	m := reading(t, s)
	if m["wifi_signal"].Float() != -56 || m["gpu_thermal_temp"].Float() != 99 ||
		m["cpu_thermal_temp"].Float() != 48.312 {
		t.Errorf("%v", m)
	}
	for _, name := range []string{"undervoltage", "throttled", "undervoltage_seen", "throttled_seen"} {
		if !m[name].Bool() {
			t.Errorf("%s is not told", name)
		}
	}
	write(t, root, "sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")
	write(t, root, "proc/net/wireless", "no link\n")
	m = reading(t, s)
	if _, there := m["wifi_signal"]; there || m["undervoltage"].Bool() || !m["undervoltage_seen"].Bool() {
		t.Errorf("%v", m)
	}
	write(t, root, "sys/devices/platform/soc/soc:firmware/get_throttled", "junk\n")
	if m = reading(t, s); m["undervoltage"].Kind() != hal.Absent {
		t.Errorf("%v", m)
	}
	volt := machine(t)
	write(t, volt, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
	write(t, volt, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
	v := open(t, "host", nil, map[string]any{"root": volt})
	defer v.Close()
	if m := reading(t, v); !m["undervoltage"].Bool() {
		t.Errorf("%v", m)
	}
}
