package sensor_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

func TestSerial(t *testing.T) {
	line, err := sim.NewSerialLine()
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	say := func(s string) {
		if _, err := line.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	opts := map[string]any{"port": line.Port, "baud": 4800, "channels": []any{
		map[string]any{"name": "water", "from": "mtw.1", "unit": "°C"},
		map[string]any{"name": "depth", "from": "dpt.1", "unit": "m"},
	}}
	s := keep(t, "serial", nil, opts)
	// What was said before, and the rest of a line, is no reading.
	say("7.0,C*00\r\n$IIMTW,18.5,C*1F\r\n$IIM")
	if got := next(t, s); got != "water=18.5 °C depth absent" {
		t.Error(got)
	}
	say("TW,19.5,C*1E\r\n$IIMTW,99.9,C*00\r\n$SDDPT,3.6,0.0\n$GPVTG,1,T\n$SDDPT,3.7,0.0\n")
	for _, want := range []string{"water=19.5 °C depth absent", "water absent depth=3.6 m",
		"water absent depth=3.7 m"} {
		if got := next(t, s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	_, err = sensor.Open(t.Context(), "serial", nil, opts)
	if err == nil || !strings.Contains(err.Error(), "another sensor") {
		t.Errorf("a port with two readers: %v", err)
	}
	link := filepath.Join(t.TempDir(), "by-id")
	if err := os.Symlink(line.Port, link); err != nil {
		t.Fatal(err)
	}
	opts["port"] = link
	if _, err = sensor.Open(t.Context(), "serial", nil, opts); err == nil || !strings.Contains(err.Error(), line.Port) {
		t.Errorf("a port with two names: %v", err)
	}
	line.Close()
	if _, err := s.(hal.Pusher).Next(within(t, 30e9)); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("%v, want no device", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, err = sensor.Open(t.Context(), "serial", nil, map[string]any{"port": "/dev/serial/by-id/none"})
	if !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("%v, want no device", err)
	}
}

func TestSerialSuite(t *testing.T) {
	haltest.Sensor(t, func(t testing.TB) hal.Sensor {
		line, err := sim.NewSerialLine()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 1000 {
				if _, err := line.WriteString("t=21.5\n"); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() { line.Close(); <-done })
		return open(t, "serial", nil, map[string]any{"port": line.Port, "channels": []any{map[string]any{"name": "t"}}})
	})
}
