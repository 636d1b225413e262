package device

import (
	"testing"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/hal/sim"
)

// A chip that holds a bus stops the chips of that bus alone, and these until the
// bus was clocked free; a chip that is not there is no reason to clock it.
func TestHeldBusComesBack(t *testing.T) {
	c := newCloud(t, `{}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	bus, other := b.Bus(sim.DefaultBus), b.Add(sim.NewBus("/dev/i2c-3"))
	ina, ads := sim.NewINA219(0.1), sim.NewADS1115()
	bus.Attach(0x40, ina)
	other.Attach(0x48, ads)
	every := cfg.Sensors[0].Every
	add := func(name, driver, on string) {
		cfg.Sensors = append(cfg.Sensors, config.Sensor{Name: name, Driver: driver, Every: every,
			Timeout: cfg.Sensors[0].Timeout, Options: map[string]any{"bus": on}})
	}
	add("meter", "ina219", sim.DefaultBus)
	add("volts", "ads1115", "/dev/i2c-3")
	add("gone", "mpu6050", sim.DefaultBus)
	cfg.Sensors[0].Options = map[string]any{"bus": sim.DefaultBus}
	a, stop := startOn(t, c, cfg, b)
	defer stop()
	readings := func(names ...string) func() bool {
		from := map[string]uint64{}
		for _, n := range names {
			from[n] = a.named(n).Readings
		}
		return func() bool {
			for _, n := range names {
				if a.named(n).Readings < from[n]+3 {
					return false
				}
			}
			return true
		}
	}
	c.until("all read", readings("hall", "meter", "volts", "lamp"))
	c.until("a chip that is not there to fail", func() bool { return a.named("gone").Errors > 0 })
	if n := bus.Recovered(); n != 0 {
		t.Errorf("the bus was clocked %d times, and no chip held it", n)
	}
	bus.HoldSDA(9)
	c.until("an error of the bus", func() bool { return a.named("hall").Errors+a.named("meter").Errors > 0 })
	c.until("the others to go on", readings("volts", "lamp"))
	c.until("the bus to come back", readings("hall", "meter"))
	if n := bus.Recovered(); n != 1 {
		t.Errorf("the bus was clocked %d times, want once", n)
	}
	if n := a.named("hall").Recovered + a.named("meter").Recovered; n != 1 || a.named("volts").Recovered != 0 {
		t.Errorf("counted %d times, want once", n)
	}
	if n := other.Recovered(); n != 0 {
		t.Errorf("another bus was clocked %d times", n)
	}
}

// A bus that is held when the device boots is freed too.
func TestHeldBusAtStart(t *testing.T) {
	c := newCloud(t, `{}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	bus := b.Bus(sim.DefaultBus)
	bus.HoldSDA(9)
	a, stop := startOn(t, c, cfg, b)
	defer stop()
	c.until("the bus to come back", func() bool { return a.named("hall").Readings > 0 })
	if n := bus.Recovered(); n != 1 || a.named("hall").Recovered != 1 {
		t.Errorf("the bus was clocked %d times, counted %d", n, a.named("hall").Recovered)
	}
}

// A bus that is not there when the device boots, as before a driver is loaded, is said to
// be missing; the other sensors work, and it is taken when it comes.
func TestMissingBusAtStart(t *testing.T) {
	c := newCloud(t, `{}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	const late = "/dev/i2c-9"
	cfg.Sensors = append(cfg.Sensors, config.Sensor{Name: "late", Driver: "ads1115", Every: cfg.Sensors[0].Every,
		Timeout: cfg.Sensors[0].Timeout, Options: map[string]any{"bus": late}})
	a, stop := startOn(t, c, cfg, b)
	defer stop()
	c.until("the bus to be missed", func() bool { return a.named("late").Error != "" })
	c.until("the others to be read", func() bool { return a.named("hall").Readings > 2 })
	if st := a.named("late"); st.Readings != 0 || st.State == "ok" {
		t.Errorf("%+v", st)
	}
	bus := sim.NewBus(late)
	bus.Attach(0x48, sim.NewADS1115())
	b.Add(bus)
	c.until("the bus to be taken", func() bool {
		st := a.named("late")
		return st.Readings > 2 && st.State == "ok" && st.Error == ""
	})
}
