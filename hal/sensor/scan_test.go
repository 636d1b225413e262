package sensor_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// A watched chip notes what is written to it.
type watched struct {
	sim.Chip
	mu      sync.Mutex
	touched int
	written [][]byte
}

func (w *watched) Tx(out, in []byte) error {
	w.mu.Lock()
	w.touched++
	if len(out) > 0 {
		w.written = append(w.written, slices.Clone(out))
	}
	w.mu.Unlock()
	return w.Chip.Tx(out, in)
}

// mux is a TCA9548A: one register, written and read without an address.
type mux struct{ channels byte }

func (m *mux) Tx(w, r []byte) error {
	if len(w) > 0 {
		m.channels = w[len(w)-1]
	}
	for i := range r {
		r[i] = m.channels
	}
	return nil
}

// Each simulated chip is found at each address that its driver knows, by its id or
// by what it has after power-on, as the driver that reads it.
func TestScanKnowsChips(t *testing.T) {
	for _, chip := range sim.Chips() {
		t.Run(chip, func(t *testing.T) {
			p, err := sim.ParsePlace(chip)
			if err != nil {
				t.Fatal(err)
			}
			b := sim.New(sim.Options{NoBus: true})
			p.Bus = sim.DefaultBus
			if _, err := b.Put(p); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				found, err := sensor.Scan(t.Context(), b, sim.DefaultBus)
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(found, func(f sensor.Found) bool { return f.Address == p.Address })
				named := func(l sensor.Likely) bool { return l.Driver == chip }
				if i < 0 || !slices.ContainsFunc(found[i].Chips, named) {
					t.Errorf("found %+v", found)
				}
			})
		})
	}
}

// Where a byte that is written may set pins, or the kernel has a chip, nothing is
// written; a multiplexer has its channels again.
func TestScanIsHarmless(t *testing.T) {
	b := sim.New(sim.Options{NoBus: true})
	wire := b.Add(sim.NewBus(sim.DefaultBus))
	pins := map[uint16]*watched{}
	for _, a := range []uint16{0x20, 0x23, 0x27, 0x38, 0x3C, 0x3F} {
		pins[a] = &watched{Chip: filled(0x55)}
		wire.Attach(a, pins[a])
	}
	clock := &watched{Chip: filled(0x11)}
	wire.Attach(0x68, clock)
	b.Kernel().Set("sys/bus/i2c/devices/1-0068/name", "ds3231\n")
	b.Kernel().Link("sys/bus/i2c/devices/1-0068/driver", "../../../../bus/i2c/drivers/rtc-ds1307")
	m := &mux{channels: 0x04}
	wire.Attach(0x76, m)
	synctest.Test(t, func(t *testing.T) {
		found, err := sensor.Scan(t.Context(), b, sim.DefaultBus)
		if err != nil {
			t.Fatal(err)
		}
		for a, w := range pins {
			if len(w.written) > 0 {
				t.Errorf("%x was written to %#x", w.written, a)
			}
		}
		if clock.touched > 0 {
			t.Error("a chip of the kernel was touched")
		}
		if m.channels != 0x04 {
			t.Errorf("the multiplexer's channels are %#x, were 0x04", m.channels)
		}
		i := slices.IndexFunc(found, func(f sensor.Found) bool { return f.Address == 0x68 })
		if i < 0 || found[i].Kernel != "ds3231 (driver rtc-ds1307)" {
			t.Errorf("the kernel's clock: %+v", found)
		}
		for _, f := range found {
			if f.Address == 0x23 && (len(f.Chips) != 2 || f.Chips[0].Driver != "bh1750" ||
				f.Chips[0].By != sensor.ByAddress) {
				t.Errorf("0x23: %+v", f)
			}
		}
	})
}

// A scan of a bus that hangs ends with its context, one of a bus that fails with
// its error.
func TestScanFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{})
		if _, err := sensor.Scan(t.Context(), b, "nope"); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("unknown bus: %v", err)
		}
		broken := haltest.NewPlayer(nil) // each transfer fails, not for want of a chip
		if got, err := sensor.Scan(t.Context(), haltest.OneBus("x", broken), "x"); err == nil || len(got) != 0 {
			t.Errorf("broken bus: %+v, %v", got, err)
		}
		b.Bus(sim.DefaultBus).Stick()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := sensor.Scan(ctx, b, sim.DefaultBus); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("bus that hangs: %v", err)
		}
		b.Bus(sim.DefaultBus).Release()
	})
}

// A survey has all that a board shows, and its suggestions are taken.
func TestLook(t *testing.T) {
	b := sim.New(sim.Options{Seed: 1, Chips: []sim.Place{{Chip: "sht4x", Address: 0x44}, {Chip: "lm75", Address: 0x48},
		{Chip: "sht4x", Address: 0x45}}})
	k := b.Kernel()
	k.Set("sys/class/tty/ttyAMA0/device/uevent", "")
	k.Set("sys/class/tty/ttyAMA0/type", "32\n")
	k.Set("sys/class/tty/ttyUSB0/device/uevent", "")
	k.Link("dev/serial/by-id/usb-Meter-if00-port0", "../../ttyUSB0")
	k.Set("sys/class/tty/ttyS3/device/uevent", "")
	k.Set("sys/class/tty/ttyS3/type", "0\n") // a name without a port
	k.Set("sys/class/tty/tty1/dev", "4:1\n")
	k.Set("sys/class/hwmon/hwmon7/name", "nvme\n")
	k.Set("sys/class/hwmon/hwmon8/name", "nvme\n")
	k.Fail("sys/class/hwmon/hwmon9/name", errors.New("broken"))
	synctest.Test(t, func(t *testing.T) {
		s := sensor.Look(t.Context(), b)
		var have []string
		for _, g := range s.Suggestions {
			if errs := sensor.Check(g.Driver, g.Options); len(errs) > 0 {
				t.Errorf("%+v: %v", g, errs)
			}
			text := g.Name
			if g.If != "" {
				text += "?"
			}
			have = append(have, text)
		}
		for _, want := range []string{"bme280", "sht4x", "sht4x-2", "lm75?", "tmp105?", "cpu_thermal", "nvme", "nvme-2",
			"input?", "output?", "modbus?", "modbus-2?", "host"} {
			if !slices.Contains(have, want) {
				t.Errorf("no %s among %v", want, have)
			}
		}
		if len(s.Serial) != 2 || s.Serial[0].Name != "/dev/ttyAMA0" ||
			s.Serial[1].Detail != "/dev/serial/by-id/usb-Meter-if00-port0" {
			t.Errorf("serial ports %+v", s.Serial)
		}
		if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "hwmon9") {
			t.Errorf("problems %q", s.Problems)
		}
		if len(s.GPIO) != 1 || len(s.GPIO[0].Lines) != sim.DefaultPins {
			t.Errorf("lines %+v", s.GPIO)
		}
		text, err := json.Marshal(s)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%v: a list that is empty is not []: %s", err, text)
		}
		if s := sensor.Look(t.Context(), b, "nope"); len(s.I2C) != 1 || len(s.Problems) != 2 {
			t.Errorf("of one bus that is not there: %+v, %q", s.I2C, s.Problems)
		}
	})
}

// Whatever chips say, a scan ends, and what it suggests is taken.
func FuzzScan(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0xFF})
	f.Add([]byte{0x60, 0x4B, 0, 0x50, 0})
	f.Add([]byte{0xE2, 0xE4, 0xE8, 0xE0})
	f.Fuzz(func(t *testing.T, said []byte) {
		if len(said) == 0 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{NoBus: true})
			wire := b.Add(sim.NewBus(sim.DefaultBus))
			for a := uint16(0x08); a <= 0x77; a++ {
				wire.Attach(a, &noise{said: said})
			}
			s := sensor.Look(t.Context(), b)
			if len(s.Problems) > 0 || len(s.I2C) != 1 || len(s.I2C[0].Found) != 0x70 {
				t.Errorf("%q, %d addresses", s.Problems, len(s.I2C[0].Found))
			}
			for _, g := range s.Suggestions {
				if errs := sensor.Check(g.Driver, g.Options); len(errs) > 0 {
					t.Errorf("%+v: %v", g, errs)
				}
			}
		})
	})
}
