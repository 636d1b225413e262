package sensor_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// A twinCase is a driver on I2C against the simulated chip of its name.
type twinCase struct {
	driver string
	twin   string // "": as driver
	opts   map[string]any
	air    sim.Env // what most tests have
	// channels of the readings in air, and how far each may be off.
	want map[string][2]float64
	// range of the air that the chip measures; the twin's readings are compared
	// over all of it. Quantities that are 0 at both ends stay as in air.
	low, high sim.Env
	// silent: a bus that is held down passes for a value, which the manual says.
	silent bool
	every  time.Duration // between readings; 0: 1 s
}

// mild is air that all chips measure.
var mild = sim.Env{Temperature: 21.5, Humidity: 40, Pressure: 99000, CO2: 640, Light: 320}

var twinCases = []twinCase{
	{driver: "bme280", air: mild, opts: map[string]any{"oversampling": int64(16)},
		want: map[string][2]float64{"temperature": {21.5, 0.01}, "humidity": {40, 0.02}, "pressure": {99000, 0.2}},
		low:  sim.Env{Temperature: -40, Humidity: 5, Pressure: 30000},
		high: sim.Env{Temperature: 85, Humidity: 100, Pressure: 109999}},
	{driver: "bmp280", twin: "bme280", air: mild, opts: map[string]any{"oversampling": int64(16)},
		want: map[string][2]float64{"temperature": {21.5, 0.01}, "pressure": {99000, 0.2}},
		low:  sim.Env{Temperature: -40, Pressure: 30000},
		high: sim.Env{Temperature: 85, Pressure: 109999}},
	{driver: "bmp388", air: mild, opts: map[string]any{"oversampling": int64(32)},
		want: map[string][2]float64{"temperature": {21.5, 0.003}, "pressure": {99000, 0.1}},
		low:  sim.Env{Temperature: -39.99, Pressure: 30001},
		high: sim.Env{Temperature: 84.99, Pressure: 124999}},
	{driver: "bmp390", air: mild, opts: map[string]any{"oversampling": int64(1)},
		want: map[string][2]float64{"temperature": {21.5, 0.003}, "pressure": {99000, 2.7}},
		low:  sim.Env{Temperature: -39.99, Pressure: 30003},
		high: sim.Env{Temperature: 84.99, Pressure: 124997}},
	{driver: "dps310", air: mild, want: map[string][2]float64{"temperature": {21.5, 0.001}, "pressure": {99000, 0.3}},
		low:  sim.Env{Temperature: -39.99, Pressure: 30001},
		high: sim.Env{Temperature: 84.99, Pressure: 119999}},
	{driver: "dps310", air: mild,
		opts: map[string]any{"oversampling": int64(2), "temperature_oversampling": int64(128)},
		want: map[string][2]float64{"temperature": {21.5, 0.001}, "pressure": {99000, 0.1}},
		low:  sim.Env{Temperature: -39.99, Pressure: 30001},
		high: sim.Env{Temperature: 84.99, Pressure: 119999}},
	{driver: "lm75", air: mild, want: map[string][2]float64{"temperature": {21.5, 0.25}},
		low: sim.Env{Temperature: -55}, high: sim.Env{Temperature: 125}},
	{driver: "tmp105", air: mild, want: map[string][2]float64{"temperature": {21.5, 0.032}},
		low: sim.Env{Temperature: -55}, high: sim.Env{Temperature: 125}},
	{driver: "tmp105", air: mild, opts: map[string]any{"resolution": int64(9)},
		want: map[string][2]float64{"temperature": {21.5, 0.25}},
		low:  sim.Env{Temperature: -55}, high: sim.Env{Temperature: 125}},
	{driver: "tmp102", air: mild, want: map[string][2]float64{"temperature": {21.5, 0.032}},
		low: sim.Env{Temperature: -55}, high: sim.Env{Temperature: 127.9}},
	{driver: "tmp102", air: mild, opts: map[string]any{"extended": true},
		want: map[string][2]float64{"temperature": {21.5, 0.032}},
		low:  sim.Env{Temperature: -55}, high: sim.Env{Temperature: 150}},
	{driver: "mcp9808", air: mild, want: map[string][2]float64{"temperature": {21.5, 0.032}},
		low: sim.Env{Temperature: -40}, high: sim.Env{Temperature: 125}},
	{driver: "sht3x", air: mild,
		want: map[string][2]float64{"temperature": {21.5, 0.002}, "humidity": {40, 0.0015}},
		low:  sim.Env{Temperature: -39.99}, high: sim.Env{Temperature: 124.99, Humidity: 100}},
	{driver: "sht4x", air: mild,
		want: map[string][2]float64{"temperature": {21.5, 0.002}, "humidity": {40, 0.0015}},
		low:  sim.Env{Temperature: -39.99}, high: sim.Env{Temperature: 124.99, Humidity: 100}},
	{driver: "scd4x", air: mild, every: 6 * time.Second,
		want: map[string][2]float64{"co2": {640, 0.5}, "temperature": {21.5, 0.002}, "humidity": {40, 0.0015}},
		low:  sim.Env{Temperature: -10, CO2: 1}, high: sim.Env{Temperature: 60, Humidity: 100, CO2: 40000}},
	{driver: "bh1750", air: mild, silent: true, want: map[string][2]float64{"illuminance": {320, 0.42}},
		high: sim.Env{Light: 54000}},
	{driver: "bh1750", air: mild, silent: true, opts: map[string]any{"mode": "high2", "mtreg": int64(254)},
		want: map[string][2]float64{"illuminance": {320, 0.06}}, high: sim.Env{Light: 7000}},
	{driver: "bh1750", air: mild, silent: true, opts: map[string]any{"mode": "low", "mtreg": int64(31)},
		want: map[string][2]float64{"illuminance": {320, 7.5}}, high: sim.Env{Light: 120000}},
}

func (c *twinCase) name() string { return strings.ReplaceAll(fmt.Sprint(c.driver, c.opts), "map", "") }

// board has the twin alone on its bus.
func (c *twinCase) board(t testing.TB) (*sim.Board, sim.Place, sim.Twin) {
	t.Helper()
	chip := c.twin
	if chip == "" {
		chip = c.driver
	}
	p, err := sim.ParsePlace(chip)
	if err != nil {
		t.Fatal(err)
	}
	b := sim.New(sim.Options{Seed: 9, Air: sim.Constant(c.air), NoBus: true})
	p.Bus = sim.DefaultBus
	twin, err := b.Put(p)
	if err != nil {
		t.Fatal(err)
	}
	return b, p, twin
}

// open opens the driver on a board of its own.
func (c *twinCase) open(t testing.TB, b *sim.Board) hal.Sensor {
	t.Helper()
	return open(t, c.driver, b, c.opts)
}

func (c *twinCase) wait() {
	if c.every > 0 {
		time.Sleep(c.every)
	} else {
		time.Sleep(time.Second)
	}
}

// read reads with time enough.
func read(t testing.TB, s hal.Sensor) ([]hal.Value, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	vals, err := s.Read(ctx)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Read took %v with 10 s", took)
	}
	return vals, err
}

// good reads and compares with want.
func (c *twinCase) good(t testing.TB, s hal.Sensor, want map[string][2]float64, when string) {
	t.Helper()
	vals, err := read(t, s)
	if err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	chs := s.Channels()
	if len(chs) != len(want) {
		t.Errorf("%s: channels %v, want %d", when, chs, len(want))
	}
	for i, ch := range chs {
		w, ok := want[ch.Name]
		if got := numberOf(vals[i]); !ok || !(math.Abs(got-w[0]) <= w[1]) {
			t.Errorf("%s: %s is %v %s, want %v ± %v", when, ch.Name, got, ch.Unit, w[0], w[1])
		}
	}
}

// Each driver passes the suite of sensors on its twin.
func TestTwinSuite(t *testing.T) {
	done := map[string]bool{}
	for _, c := range twinCases {
		if c.every > 0 || done[c.driver] {
			continue // readings that take seconds each; the tests below have them
		}
		done[c.driver] = true
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel() // most of it is waiting for conversions
			haltest.Sensor(t, func(t testing.TB) hal.Sensor {
				b, _, _ := c.board(t)
				return c.open(t, b)
			})
		})
	}
}

// What a driver reads is the air again, over the chip's whole range.
func TestTwinRange(t *testing.T) {
	const points = 60
	for _, c := range twinCases {
		t.Run(c.name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _, twin := c.board(t)
				s := c.open(t, b)
				defer s.Close()
				for i := range points + 1 {
					f := float64(i) / points
					part := func(low, high, else_ float64) float64 {
						if low == high {
							return else_
						}
						return low + f*(high-low)
					}
					air := sim.Env{
						Temperature: part(c.low.Temperature, c.high.Temperature, c.air.Temperature),
						Humidity:    part(c.low.Humidity, c.high.Humidity, c.air.Humidity),
						Pressure:    part(c.low.Pressure, c.high.Pressure, c.air.Pressure),
						CO2:         part(c.low.CO2, c.high.CO2, c.air.CO2),
						Light:       part(c.low.Light, c.high.Light, c.air.Light),
					}
					twin.SetAir(sim.Constant(air))
					c.wait()
					if c.every > 0 {
						_, _ = read(t, s) // may have been measured before
					}
					want := map[string][2]float64{}
					for name, w := range c.want {
						is := map[string]float64{"temperature": air.Temperature, "humidity": air.Humidity,
							"pressure": air.Pressure, "co2": air.CO2, "illuminance": air.Light}[name]
						want[name] = [2]float64{is, w[1] + 1e-9}
						if extreme := air.Temperature < -5 || air.Temperature > 60; extreme && name == "humidity" &&
							c.driver == "bme280" {
							want[name] = [2]float64{is, 0.05} // a step is wider at the ends
						}
						if name == "pressure" {
							want[name] = [2]float64{is, max(0.4, 1.5*w[1])} // and of pressure at its low end
						}
					}
					c.good(t, s, want, fmt.Sprintf("%+v", air))
				}
			})
		})
	}
}

// A chip that vanishes, whose bus hangs, that is replaced by lines that read 0xFF
// or 0 for ever, or loses its settings, gives an error that says so, and values
// again after.
func TestTwinFaults(t *testing.T) {
	for _, c := range twinCases {
		t.Run(c.name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, p, twin := c.board(t)
				wire := b.Bus(p.Bus)
				s := c.open(t, b)
				defer s.Close()
				good := func(when string) {
					t.Helper()
					c.wait()
					c.good(t, s, c.want, when)
				}
				good("at first")

				// Each transfer of a reading fails once, alone.
				for n := range 20 {
					failing := &failAt{Chip: twin, at: n}
					wire.Attach(p.Address, failing)
					c.wait()
					if _, err := read(t, s); err != nil && sensor.KindOf(err) == "" {
						t.Errorf("transfer %d unacknowledged: %v is of no kind", n, err)
					}
					wire.Attach(p.Address, twin)
					good(fmt.Sprintf("after transfer %d was not acknowledged", n))
				}

				wire.Attach(p.Address, nil)
				c.wait()
				if _, err := read(t, s); !errors.Is(err, hal.ErrNoDevice) {
					t.Errorf("pulled out: %v", err)
				}
				twin.PowerCycle()
				wire.Attach(p.Address, twin)
				good("plugged in again")
				twin.PowerCycle()
				good("after a brown-out that no error shows")
				twin.PowerCycle()
				if vals, err := read(t, s); err == nil && numberOf(vals[0]) == 0 {
					t.Error("0 is read right after a brown-out")
				}

				for _, fill := range []byte{0xFF, 0x00} {
					wire.Attach(p.Address, filled(fill))
					c.wait()
					_, err := read(t, s)
					switch kind := sensor.KindOf(err); {
					case fill == 0 && c.silent:
					case err == nil, kind != "no_device" && kind != "wrong_id" && kind != "implausible" && kind != "crc" &&
						kind != "out_of_range" && kind != "not_ready":
						t.Errorf("lines that read %#02x: %q, %v", fill, kind, err)
					}
					wire.Attach(p.Address, twin)
					good(fmt.Sprintf("after %#02x", fill))
				}

				wire.Stick()
				c.wait()
				if _, err := read(t, s); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the bus hangs: %v", err)
				}
				if _, err := read(t, s); !errors.Is(err, sensor.ErrBusy) {
					t.Errorf("the bus hangs still: %v", err)
				}
				wire.Release()
				time.Sleep(10 * time.Second)
				good("after the bus hung")
			})
		})
	}
}

// An Open without a chip, or on lines that nothing drives, says so.
func TestTwinAbsent(t *testing.T) {
	for _, c := range twinCases {
		t.Run(c.name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, p, _ := c.board(t)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				b.Bus(p.Bus).Attach(p.Address, nil)
				if _, err := sensor.Open(ctx, c.driver, b, c.opts); !errors.Is(err, hal.ErrNoDevice) {
					t.Errorf("absent: %v", err)
				}
				b.Bus(p.Bus).Attach(p.Address, filled(0xFF))
				if _, err := sensor.Open(ctx, c.driver, b, c.opts); !errors.Is(err, hal.ErrNoDevice) {
					t.Errorf("lines that read 0xff: %v", err)
				}
			})
		})
	}
}

// filled is an address where every read gives one byte.
type filled byte

func (f filled) Tx(_, r []byte) error {
	for i := range r {
		r[i] = byte(f)
	}
	return nil
}

// noise is a chip that says what it is given, around and around.
type noise struct {
	said []byte
	at   int
}

func (n *noise) Tx(_, r []byte) error {
	for i := range r {
		r[i] = n.said[n.at%len(n.said)]
		n.at++
	}
	return nil
}

// Whatever a chip says, a driver of I2C ends in time, and its values are numbers
// or absent, of the kinds that its channels have.
func FuzzI2C(f *testing.F) {
	for i := range sensor.Drivers() {
		f.Add(uint8(i), []byte{0})
		f.Add(uint8(i), []byte{0xFF})
		f.Add(uint8(i), []byte{0x60, 0x80, 0, 0x12, 0x34})
		f.Add(uint8(i), []byte{0xBE, 0xEF, 0x92})
	}
	all := sensor.Drivers()
	f.Fuzz(func(t *testing.T, which uint8, said []byte) {
		d := all[int(which)%len(all)]
		if len(said) == 0 || !hasOption(d, "address") {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{NoBus: true})
			wire := b.Add(sim.NewBus("bus"))
			for a := uint16(0x08); a <= 0x77; a++ {
				wire.Attach(a, &noise{said: said})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := sensor.Open(ctx, d.Name, b, nil)
			if err != nil {
				if strings.Contains(err.Error(), "panicked") {
					t.Fatal(err)
				}
				return
			}
			defer s.Close()
			vals, err := s.Read(ctx)
			if err != nil {
				if strings.Contains(err.Error(), "panicked") {
					t.Fatal(err)
				}
				return
			}
			chs := s.Channels()
			if len(vals) != len(chs) {
				t.Fatalf("%d values for %d channels", len(vals), len(chs))
			}
			for i, v := range vals {
				if v.Kind() == hal.Absent {
					continue
				}
				if v.Kind() != chs[i].Kind || math.IsNaN(numberOf(v)) || math.IsInf(numberOf(v), 0) {
					t.Errorf("%s is %v", chs[i].Name, numberOf(v))
				}
			}
		})
	})
}

func hasOption(d sensor.Driver, name string) bool {
	for _, o := range d.Options {
		if o.Name == name {
			return true
		}
	}
	return false
}

// A relative of the LM75 that has no resolution to choose, or has one that the
// driver does not know, is told as another chip.
func TestLM75Relatives(t *testing.T) {
	for _, c := range []struct{ chip, driver string }{{"lm75", "tmp105"}, {"lm75", "tmp102"}, {"tmp102", "lm75"}} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{NoBus: true, Chips: []sim.Place{{Chip: c.chip, Address: 0x48}}})
			if _, err := sensor.Open(t.Context(), c.driver, b, nil); !errors.Is(err, sensor.ErrWrongID) ||
				!strings.Contains(err.Error(), "drivers for relatives") {
				t.Errorf("%s as %s: %v", c.chip, c.driver, err)
			}
		})
	}
}

// A meddler asks an SHT4x for its serial number after each of the next commands.
type meddler struct {
	sim.Chip
	times int
}

func (m *meddler) Tx(w, r []byte) error {
	err := m.Chip.Tx(w, r)
	if len(w) == 1 && w[0] != 0x89 && m.times > 0 {
		m.times--
		return m.Chip.Tx([]byte{0x89}, nil)
	}
	return err
}

// A serial number that a scan asked for meanwhile is not taken for a measurement.
func TestSHT4xBesideAScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true, Air: sim.Constant(mild)})
		chip, err := b.Put(sim.Place{Chip: "sht4x", Address: 0x44})
		if err != nil {
			t.Fatal(err)
		}
		m := &meddler{Chip: chip}
		b.Bus(sim.DefaultBus).Attach(0x44, m)
		s := open(t, "sht4x", b, nil)
		defer s.Close()
		m.times = 1
		if vals, err := read(t, s); err != nil || math.Abs(vals[0].Float()-mild.Temperature) > 0.01 {
			t.Errorf("asked once: %v, %v", vals, err)
		}
		m.times = 10
		if vals, err := read(t, s); !errors.Is(err, sensor.ErrProtocol) {
			t.Errorf("asked each time: %v, %v", vals, err)
		}
	})
}
