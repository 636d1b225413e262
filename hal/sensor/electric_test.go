package sensor_test

import (
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

// An electric is a driver against the simulated chip that measures no air.
type electric struct {
	driver string
	opts   map[string]any
	addr   uint16
	chip   func(b *sim.Bus) (cycle func()) // attaches it; cycle takes its supply away
	want   map[string][2]float64           // readings, and how far each may be off
}

func electrics() []electric {
	at := func(addr uint16, c interface {
		sim.Chip
		PowerCycle()
	}) func(b *sim.Bus) func() {
		return func(b *sim.Bus) func() {
			b.Attach(addr, c)
			return c.PowerCycle
		}
	}
	ads := sim.NewADS1115()
	ads.Put([4]float64{1.234, -0.5, 3.3, 0.001})
	ads2 := sim.NewADS1015()
	ads2.Put([4]float64{0, 0, 0.25, 0})
	ina := sim.NewINA219(0.1)
	ina.Put(12.04, -0.75)
	ina2 := sim.NewINA226(0.01)
	ina2.Put(24.5, 3.21)
	mpu := sim.NewMPU6050()
	mpu.Put([3]float64{1, -2, 9.5}, [3]float64{10, -200, 0.5}, 31.25)
	dlhc, agr := sim.NewLSM303(false), sim.NewLSM303(true)
	dlhc.Put([3]float64{0.5, -9.5, 3}, [3]float64{20, -40, 45})
	agr.Put([3]float64{0.5, -9.5, 3}, [3]float64{20, -40, 45})
	pca := sim.NewPCA9685()
	none := [2]float64{0, 0}
	xyz := func(name string, x, y, z, off float64, into map[string][2]float64) map[string][2]float64 {
		into[name+"_x"], into[name+"_y"], into[name+"_z"] = [2]float64{x, off}, [2]float64{y, off}, [2]float64{z, off}
		return into
	}
	return []electric{
		{"ads1115", map[string]any{"input": "AIN0,AIN2, AIN0-AIN1"}, 0x48, at(0x48, ads), map[string][2]float64{
			"voltage_ain0": {1.234, 6.3e-5}, "voltage_ain2": {3.3, 6.3e-5}, "voltage_ain0_ain1": {1.734, 6.3e-5}}},
		{"ads1015", map[string]any{"input": "AIN2", "full_scale": 0.256, "address": int64(0x49)}, 0x49, at(0x49, ads2),
			map[string][2]float64{"voltage": {0.25, 7e-5}}},
		{"ina219", nil, 0x40, at(0x40, ina), map[string][2]float64{"voltage": {12.04, 0.002},
			"shunt_voltage": {-0.075, 5e-6}, "current": {-0.75, 5e-5}, "power": {9.03, 0.005}}},
		{"ina226", map[string]any{"shunt_ohms": 0.01, "current_lsb": 0.001}, 0x40, at(0x40, ina2),
			map[string][2]float64{"voltage": {24.5, 7e-4}, "shunt_voltage": {0.0321, 2e-6}, "current": {3.21, 0.001},
				"power": {78.645, 0.05}}},
		{"mpu6050", map[string]any{"accel_range_g": int64(4), "gyro_range_dps": int64(500)}, 0x68, at(0x68, mpu),
			xyz("accel", 1, -2, 9.5, 0.0007, xyz("gyro", 10, -200, 0.5, 0.01,
				map[string][2]float64{"temperature": {31.25, 0.003}}))},
		{"lsm303", nil, 0x19, func(b *sim.Bus) func() { dlhc.Attach(b); return dlhc.PowerCycle },
			xyz("accel", 0.5, -9.5, 3, 0.006, xyz("mag", 20, -40, 45, 0.06, map[string][2]float64{}))},
		{"lsm303", map[string]any{"variant": "agr", "accel_range_g": int64(8)}, 0x19,
			func(b *sim.Bus) func() { agr.Attach(b); return agr.PowerCycle },
			xyz("accel", 0.5, -9.5, 3, 0.02, xyz("mag", 20, -40, 45, 0.08, map[string][2]float64{}))},
		{"vl53l0x", nil, 0x29, at(0x29, sim.NewVL53L0X(412)), map[string][2]float64{"distance": {412, 0}}},
		{"pca9685", map[string]any{"channels": "0,15", "frequency": 50.0}, 0x40, at(0x40, pca),
			map[string][2]float64{"ch0": none, "ch15": none}},
	}
}

func (e *electric) board() (b *sim.Board, bus *sim.Bus, cycle func()) {
	b = sim.New(sim.Options{NoBus: true})
	bus = b.Add(sim.NewBus(sim.DefaultBus))
	return b, bus, e.chip(bus)
}

func (e *electric) good(t *testing.T, s hal.Sensor, when string) {
	t.Helper()
	got := reading(t, s)
	if len(got) != len(e.want) {
		t.Errorf("%s: %v, want %v", when, got, e.want)
	}
	for name, w := range e.want {
		if v := numberOf(got[name]); !(math.Abs(v-w[0]) <= w[1]) {
			t.Errorf("%s: %s is %v, want %v ± %v", when, name, v, w[0], w[1])
		}
	}
}

// Each driver passes the suite of sensors on its twin.
func TestElectricSuite(t *testing.T) {
	for _, e := range electrics() {
		t.Run(fmt.Sprint(e.driver, e.opts), func(t *testing.T) {
			t.Parallel() // much of it is waiting for conversions
			haltest.Sensor(t, func(t testing.TB) hal.Sensor {
				b, _, _ := e.board()
				return open(t, e.driver, b, e.opts)
			})
		})
	}
}

// What goes wrong with a chip ends with it: a supply that was gone, a cable that
// was off, a bus that a chip held. What a chip never is, is told.
func TestElectricFaults(t *testing.T) {
	for _, e := range electrics() {
		t.Run(fmt.Sprint(e.driver, e.opts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, bus, cycle := e.board()
				s := open(t, e.driver, b, e.opts)
				defer s.Close()
				e.good(t, s, "at first")
				cycle()
				e.good(t, s, "after the supply was gone")
				bus.NACK(e.addr, 1000)
				var be *hal.BusError
				if _, err := s.Read(t.Context()); !errors.Is(err, hal.ErrNoDevice) || errors.As(err, &be) {
					t.Errorf("unplugged: %v", err)
				}
				bus.NACK(e.addr, 0)
				e.good(t, s, "plugged in again")
				bus.HoldSDA(9)
				if _, err := s.Read(t.Context()); !errors.As(err, &be) || be.Bus != sim.DefaultBus {
					t.Errorf("a bus that is held: %v", err)
				}
				if err := bus.Recover(t.Context()); err != nil {
					t.Error(err)
				}
				e.good(t, s, "clocked free")
				for _, b := range []byte{0, 0xFF} {
					bus.Attach(e.addr, constant(b))
					if vals, err := s.Read(t.Context()); sensor.KindOf(err) == "" {
						t.Errorf("a chip that says %02x for ever: %v, %v", b, vals, err)
					} else if errors.Is(err, hal.ErrNoDevice) && !errors.As(err, &be) {
						t.Errorf("a chip that says %02x for ever: %v, which may be a bus that is held", b, err)
					}
				}
				e.chip(bus)
				e.good(t, s, "at last")
			})
		})
	}
}

// constant is a chip that acknowledges everything and says one byte.
type constant byte

func (c constant) Tx(_, r []byte) error {
	for i := range r {
		r[i] = byte(c)
	}
	return nil
}

// An input beyond the full scale is no value; of several, the others stay.
func TestADSSaturated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := sim.NewADS1115()
		e := electric{chip: func(b *sim.Bus) func() { b.Attach(0x48, chip); return nil }}
		b, _, _ := e.board()
		chip.Put([4]float64{5, 1, -5, 0})
		s := open(t, "ads1115", b, map[string]any{"input": "AIN0,AIN1,AIN2"})
		defer s.Close()
		vals, err := s.Read(t.Context())
		if err != nil || vals[0].Kind() != hal.Absent || vals[1].Float() != 1 || vals[2].Kind() != hal.Absent {
			t.Errorf("%v, %v", vals, err)
		}
		chip.Put([4]float64{5, 5, 5, 0})
		fails(t, s, sensor.ErrSaturated)
	})
}

// A second sensor at the same chip shows, and does not give its values.
func TestADSShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := sim.NewADS1115()
		chip.Put([4]float64{1, 2, 3, 4})
		b := sim.New(sim.Options{NoBus: true})
		bus := b.Add(sim.NewBus(sim.DefaultBus))
		bus.Attach(0x48, chip)
		s := open(t, "ads1115", b, nil)
		defer s.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 500 {
				time.Sleep(time.Millisecond)
				_ = chip.Tx([]byte{1, 0xD3, 0x83}, nil) // AIN1, begin
			}
		}()
		for range 10 {
			if vals, err := s.Read(t.Context()); err == nil && vals[0].Float() != 1 {
				t.Errorf("%v V, which is another input's", vals[0].Float())
			} else if err != nil && !errors.Is(err, sensor.ErrProtocol) {
				t.Error(err)
			}
		}
		<-done
	})
}

// A sensor's bus is named before it is open, since a bus that is held opens nothing.
func TestBusOf(t *testing.T) {
	b := sim.New(sim.Options{NoBus: true})
	if got := sensor.BusOf("bme280", b, nil); got != "" {
		t.Errorf("a board without buses: %q", got)
	}
	b.Add(sim.NewBus(sim.DefaultBus))
	for _, c := range []struct{ driver, bus, want string }{{"bme280", "", sim.DefaultBus}, {"ina219", "/dev/i2c-7",
		"/dev/i2c-7"}, {"host", "", ""}, {"max6675", "", ""}, {"none", "/dev/i2c-1", ""}} {
		opts := map[string]any{}
		if c.bus != "" {
			opts["bus"] = c.bus
		}
		if got := sensor.BusOf(c.driver, b, opts); got != c.want {
			t.Errorf("%s: %q, want %q", c.driver, got, c.want)
		}
	}
}

// A current beyond what the calibration reaches leaves voltage alone.
func TestINAOverflow(t *testing.T) {
	for driver, chip := range map[string]*sim.INA{"ina219": sim.NewINA219(0.1), "ina226": sim.NewINA226(0.1)} {
		b := sim.New(sim.Options{NoBus: true})
		b.Add(sim.NewBus(sim.DefaultBus)).Attach(0x40, chip)
		s := open(t, driver, b, map[string]any{"current_lsb": 1e-5})
		chip.Put(5, 0.5)
		got := reading(t, s)
		if got["current"].Kind() != hal.Absent || got["power"].Kind() != hal.Absent || got["voltage"].Float() != 5 {
			t.Errorf("%s: %v", driver, got)
		}
		s.Close()
	}
	for _, bad := range []map[string]any{{"current_lsb": 1e-7, "shunt_ohms": 0.001}, {"shunt_ohms": 0.0},
		{"current_lsb": 1.0, "shunt_ohms": 100.0}} {
		if len(sensor.Check("ina226", bad)) == 0 {
			t.Errorf("%v was taken", bad)
		}
	}
}

// Where the calibration, a whole number, is not what current_lsb asks for, a step of
// the current is another: 2 A are 2 A.
func TestINACalibration(t *testing.T) {
	for driver, chip := range map[string]*sim.INA{"ina219": sim.NewINA219(0.15), "ina226": sim.NewINA226(0.01)} {
		b := sim.New(sim.Options{NoBus: true})
		b.Add(sim.NewBus(sim.DefaultBus)).Attach(0x40, chip)
		opts := map[string]any{"shunt_ohms": 0.15, "current_lsb": 0.1} // 2.7, taken as 2
		if driver == "ina226" {
			opts = map[string]any{"shunt_ohms": 0.01, "current_lsb": 0.15} // 3.4, taken as 3
		}
		s := open(t, driver, b, opts)
		chip.Put(5, 2)
		step := map[string]float64{"ina219": 0.1366, "ina226": 0.1707}[driver]
		got := reading(t, s)
		if a := got["current"].Float(); math.Abs(a-2) > step {
			t.Errorf("%s: %g A, want 2 within a step of %g", driver, a, step)
		}
		s.Close()
	}
	err := errors.Join(sensor.Check("ina219", map[string]any{"current_lsb": 1e-6, "shunt_ohms": 0.1})...)
	if err == nil || !strings.Contains(err.Error(), "want 2 to 65534") {
		t.Errorf("%v", err)
	}
}

// Axes beyond their range are absent, each alone.
func TestMotionSaturated(t *testing.T) {
	b := sim.New(sim.Options{NoBus: true})
	bus := b.Add(sim.NewBus(sim.DefaultBus))
	mpu, lsm := sim.NewMPU6050(), sim.NewLSM303(false)
	bus.Attach(0x68, mpu)
	lsm.Attach(bus)
	s := open(t, "mpu6050", b, nil)
	defer s.Close()
	mpu.Put([3]float64{25, 0, -25}, [3]float64{0, 300, 1}, 99)
	for name, v := range reading(t, s) {
		absent := name == "accel_x" || name == "accel_z" || name == "gyro_y" || name == "temperature"
		if (v.Kind() == hal.Absent) != absent {
			t.Errorf("%s is %v", name, numberOf(v))
		}
	}
	m := open(t, "lsm303", b, map[string]any{"mag_range_gauss": int64(4)})
	defer m.Close()
	lsm.Put([3]float64{-25, 0, 5}, [3]float64{500, 0, -600})
	for name, v := range reading(t, m) {
		absent := name == "accel_x" || name == "mag_x" || name == "mag_z"
		if (v.Kind() == hal.Absent) != absent {
			t.Errorf("%s is %v", name, numberOf(v))
		}
	}
}

func TestVL53L0X(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := sim.NewVL53L0X(300)
		b := sim.New(sim.Options{NoBus: true})
		b.Add(sim.NewBus(sim.DefaultBus)).Attach(0x29, chip)
		s := open(t, "vl53l0x", b, nil)
		defer s.Close()
		for status, kind := range map[byte]error{1: sensor.ErrFault, 4: sensor.ErrOutOfRange, 6: sensor.ErrOutOfRange,
			8: sensor.ErrOutOfRange, 15: sensor.ErrNotReady} {
			chip.Put(300, status)
			fails(t, s, kind)
		}
		chip.Put(8190, 11)
		fails(t, s, sensor.ErrOutOfRange)
		// Nothing in reach is no reason to set the chip up anew, which takes 50 ms.
		began := time.Now()
		fails(t, s, sensor.ErrOutOfRange)
		if took := time.Since(began); took > 40*time.Millisecond {
			t.Errorf("a reading of nothing took %v", took)
		}
		// Nor is it a reason not to open it.
		s.Close()
		if s = open(t, "vl53l0x", b, nil); s == nil {
			return
		}
		defer s.Close()
		fails(t, s, sensor.ErrOutOfRange)
		chip.Put(1200, 11)
		chip.Kill(true)
		fails(t, s, sensor.ErrNotReady)
		chip.Kill(false)
		if got := reading(t, s)["distance"].Int(); got != 1200 {
			t.Errorf("%d mm", got)
		}
	})
}

// Outputs are what was set, go on over a start of the agent, and are off after the
// chip's supply was gone.
func TestPCA9685(t *testing.T) {
	chip := sim.NewPCA9685()
	b := sim.New(sim.Options{NoBus: true})
	bus := b.Add(sim.NewBus(sim.DefaultBus))
	bus.Attach(0x40, chip)
	opts := map[string]any{"frequency": 50.0, "channels": "0-3, 7"}
	s := open(t, "pca9685", b, opts)
	if f := chip.Frequency(); math.Abs(f-50) > 0.1 {
		t.Errorf("%v Hz", f)
	}
	set := func(channel string, d float64) {
		t.Helper()
		if err := s.(hal.Actuator).Set(t.Context(), channel, hal.FloatValue(d)); err != nil {
			t.Error(err)
		}
	}
	set("ch0", 1)
	set("ch7", 0.075)
	set("ch3", 0.5)
	set("ch3", 0)
	check := func(when string, want ...float64) {
		t.Helper()
		got := reading(t, s)
		for i, n := range []int{0, 3, 7} {
			if out := chip.Output(n); math.Abs(out-want[i]) > 1e-4 || math.Abs(got[fmt.Sprintf("ch%d", n)].Float()-
				out) > 1e-6 {
				t.Errorf("%s: output %d is on %v, read %v, want %v", when, n, out, got, want[i])
			}
		}
	}
	check("set", 1, 0, 0.075)
	s.Close()
	s = open(t, "pca9685", b, opts)
	check("opened again", 1, 0, 0.075)
	s.Close()
	opts["frequency"] = 100.0
	s = open(t, "pca9685", b, opts)
	defer s.Close()
	check("at another frequency", 1, 0, 0.075)
	chip.PowerCycle()
	check("after the supply was gone", 0, 0, 0)
	set("ch7", 0.25)
	check("set again", 0, 0, 0.25)
	chip.Stick(1)
	a := s.(hal.Actuator)
	if err := a.Set(t.Context(), "ch1", hal.FloatValue(1)); !errors.Is(err, sensor.ErrHeld) {
		t.Errorf("an output that takes nothing: %v", err)
	}
	for channel, v := range map[string]hal.Value{"ch4": hal.FloatValue(1), "": hal.FloatValue(1),
		"ch0": hal.FloatValue(1.5), "ch2": hal.BoolValue(true), "ch3": hal.FloatValue(math.Inf(1))} {
		if a.Set(t.Context(), channel, v) == nil {
			t.Errorf("%q took a value of kind %d", channel, v.Kind())
		}
	}
	r := s.(hal.Ranger)
	if at, ok := r.Range("ch7"); !ok || at != (hal.Range{Min: 0, Max: 1}) {
		t.Errorf("range %v, %v", at, ok)
	}
	if _, ok := r.Range("ch4"); ok {
		t.Error("a channel that is not there has a range")
	}
	for _, bad := range []string{"16", "1-", "-1", "3-1", "1,1", "0-15,3", "a", ","} {
		if len(sensor.Check("pca9685", map[string]any{"channels": bad})) == 0 {
			t.Errorf("channels %q were taken", bad)
		}
	}
}
