package sensor_test

import (
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

var update = flag.Bool("update", false, "rewrite testdata")

func open(t testing.TB, driver string, b hal.Board, opts map[string]any) hal.Sensor {
	t.Helper()
	s, err := sensor.Open(context.Background(), driver, b, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBME280Suite(t *testing.T) {
	haltest.Sensor(t, func(t testing.TB) hal.Sensor {
		return open(t, "bme280", sim.New(sim.Options{Seed: 5}),
			map[string]any{"bus": sim.DefaultBus, "address": int64(0x76)})
	})
}

// What the driver returns is the air again, within the chip's resolution.
//
// At oversampling 16 that is 0.01 °C and 0.18 Pa (datasheet, section 1), at
// oversampling 1 with its 16 bits 2.62 Pa (section 3.4.2). Of humidity's 0.008
// %RH (one step is 0.0055) the driver's integer arithmetic, which is the
// datasheet's, drops the lowest bit: one step of 0.011.
func TestBME280OverAYear(t *testing.T) {
	for _, c := range []struct {
		seed          uint64
		over          int64
		every         time.Duration
		dT, dRH, dPas float64
	}{
		{1, 16, time.Hour + 7*time.Second, 0.01, 0.011, 0.18},
		{2, 1, 6 * time.Hour, 0.01, 0.011, 2.62},
		{3, 16, 31 * time.Hour, 0.01, 0.011, 0.18},
		{4, 16, 31 * time.Hour, 0.01, 0.011, 0.18},
		{5, 8, 31 * time.Hour, 0.01, 0.011, 0.36},
	} {
		synctest.Test(t, func(t *testing.T) {
			air := sim.Weather(c.seed)
			s := open(t, "bme280", sim.New(sim.Options{Seed: c.seed}), map[string]any{"oversampling": c.over})
			defer s.Close()
			var worst [3]float64
			n := 0
			for end := time.Now().AddDate(1, 0, 0); time.Now().Before(end); time.Sleep(c.every) {
				want := air(time.Now())
				v, err := s.Read(t.Context())
				if err != nil {
					t.Fatalf("seed %d: %v: %v", c.seed, time.Now(), err)
				}
				n++
				for i, w := range []float64{want.Temperature, want.Humidity, want.Pressure} {
					worst[i] = max(worst[i], math.Abs(v[i].Float()-w))
				}
			}
			t.Logf("seed %d, oversampling %d: %d readings, off by at most %.4f °C, %.4f %%RH, %.3f Pa", c.seed, c.over,
				n, worst[0], worst[1], worst[2])
			if worst[0] > c.dT || worst[1] > c.dRH || worst[2] > c.dPas {
				t.Errorf("want at most %v °C, %v %%RH, %v Pa", c.dT, c.dRH, c.dPas)
			}
		})
	}
}

func TestBME280Faults(t *testing.T) {
	const bus, addr = sim.DefaultBus, sim.DefaultAddress
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{Seed: 9, Air: sim.Constant(sim.Env{Temperature: 21.5, Humidity: 40, Pressure: 99000})})
		wire := b.Bus(bus)
		wire.Attach(addr, nil)
		if _, err := sensor.Open(t.Context(), "bme280", b, nil); !errors.Is(err, hal.ErrNoDevice) {
			t.Fatalf("absent chip: %v, want ErrNoDevice", err)
		}
		if _, err := sensor.Open(t.Context(), "bme280", sim.New(sim.Options{NoBus: true}), nil); !errors.Is(err,
			hal.ErrNoDevice) {
			t.Fatalf("no bus: %v, want ErrNoDevice", err)
		}
		wire.Attach(0x77, b.BME280())
		if _, err := sensor.Open(t.Context(), "bme280", b, nil); !errors.Is(err, hal.ErrNoDevice) ||
			!strings.Contains(err.Error(), "found by the scan: 0x77") {
			t.Fatalf("at the other address: %v", err)
		}
		wire.Attach(0x77, nil)
		wire.Attach(addr, b.BME280())
		s := open(t, "bme280", b, nil)
		good := func(when string) {
			t.Helper()
			v, err := s.Read(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if math.Abs(v[0].Float()-21.5) > 0.01 || math.Abs(v[1].Float()-40) > 0.01 ||
				math.Abs(v[2].Float()-99000) > 2.7 {
				t.Errorf("%s: %v °C, %v %%RH, %v Pa", when, v[0].Float(), v[1].Float(), v[2].Float())
			}
		}
		good("at first")
		// Each transfer of a reading fails once, alone.
		for n := range 3 {
			failing := &failAt{Chip: b.BME280(), at: n}
			wire.Attach(addr, failing)
			if _, err := s.Read(t.Context()); !errors.Is(err, hal.ErrNoDevice) {
				t.Errorf("transfer %d unacknowledged: %v", n, err)
			}
			good("after a failure")
		}
		wire.Attach(addr, b.BME280())
		good("before the brown-out")
		b.BME280().PowerCycle()
		good("after a brown-out that no error shows")

		// Another chip at the same place has another calibration; the cable
		// being off shows as an error first.
		wire.Attach(addr, nil)
		if _, err := s.Read(t.Context()); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("pulled out: %v", err)
		}
		wire.Attach(addr, sim.NewBME280(77, sim.Constant(sim.Env{Temperature: 21.5, Humidity: 40, Pressure: 99000}),
			nil))
		good("with another chip")
		wire.Attach(addr, nil)
		_, _ = s.Read(t.Context())
		wire.Attach(addr, otherID{b.BME280(), 0x58})
		if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "another kind of chip") {
			t.Errorf("a BMP280 in its place: %v", err)
		}
		wire.Attach(addr, b.BME280())
		good("with the first chip")

		for _, c := range []struct {
			air      sim.Env
			err      string
			pressure bool
		}{
			{sim.Env{Temperature: 21, Humidity: 50, Pressure: 25000}, "", false},
			{sim.Env{Temperature: 21, Humidity: 50, Pressure: 118000}, "", false},
			{sim.Env{Temperature: 21, Humidity: 250, Pressure: 99000}, "", true},
			{sim.Env{Temperature: 21, Humidity: -5, Pressure: 99000}, "", true},
			{sim.Env{Temperature: 110, Humidity: 50, Pressure: 99000}, "want -40 to 85", false},
			{sim.Env{Temperature: -273, Humidity: 50, Pressure: 99000}, "want -40 to 85", false},
		} {
			b.BME280().SetAir(sim.Constant(c.air))
			v, err := s.Read(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%+v: %v, want %s", c.air, err, c.err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%+v: %v", c.air, err)
				continue
			}
			if got := v[2].Kind() != hal.Absent; got != c.pressure {
				t.Errorf("%+v: pressure there: %v", c.air, got)
			}
			if h := v[1].Float(); h < 0 || h > 100 {
				t.Errorf("%+v: %v %%RH", c.air, h)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// failAt lets one transfer go unacknowledged.
type failAt struct {
	sim.Chip
	at int
}

func (f *failAt) Tx(w, r []byte) error {
	if f.at--; f.at == -1 {
		return hal.ErrNoDevice
	}
	return f.Chip.Tx(w, r)
}

// otherID is a chip that says it is another.
type otherID struct {
	sim.Chip
	id byte
}

func (o otherID) Tx(w, r []byte) error {
	err := o.Chip.Tx(w, r)
	if len(w) == 1 && w[0] == 0xD0 && len(r) == 1 {
		r[0] = o.id
	}
	return err
}

// never is a chip that never ends a measurement.
type never struct{ sim.Chip }

func (n never) Tx(w, r []byte) error {
	err := n.Chip.Tx(w, r)
	if len(w) == 1 && w[0] == 0xF3 {
		time.Sleep(100 * time.Microsecond) // the bus takes its time
		r[0] |= 8
	}
	return err
}

// synctest.Test fails if a goroutine is left at its end, so that these show
// what happens to the reading that hangs.
func TestBME280Stuck(t *testing.T) {
	deadline := func(s hal.Sensor) error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := s.Read(ctx)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("Read took %v with 3 s", took)
		}
		return err
	}
	t.Run("bus", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{})
			wire := b.Bus(sim.DefaultBus)
			s := open(t, "bme280", b, nil)
			wire.Stick()
			if err := deadline(s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("stuck: %v", err)
			}
			n := wire.Transfers()
			for range 5 {
				if err := deadline(s); !errors.Is(err, sensor.ErrBusy) {
					t.Errorf("still stuck: %v", err)
				}
			}
			if wire.Transfers() != n {
				t.Error("more readings went into the stuck bus")
			}
			wire.Release()
			time.Sleep(time.Second)
			if err := deadline(s); err != nil {
				t.Errorf("after release: %v", err)
			}
			wire.Stick()
			if err := deadline(s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("stuck again: %v", err)
			}
			if err := s.Close(); err != nil { // must not wait
				t.Error(err)
			}
			n = wire.Transfers()
			wire.Release()
			time.Sleep(time.Second)
			if got := wire.Transfers(); got != n {
				t.Errorf("%d transfers after the reading was given up", got-n)
			}
		})
	})
	t.Run("open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{})
			b.Bus(sim.DefaultBus).Stick()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := sensor.Open(ctx, "bme280", b, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("stuck: %v", err)
			}
			b.Bus(sim.DefaultBus).Release()
		})
	})
	t.Run("chip", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{})
			wire := b.Bus(sim.DefaultBus)
			s := open(t, "bme280", b, nil)
			wire.Attach(sim.DefaultAddress, never{b.BME280()})
			if err := deadline(s); err == nil || !strings.Contains(err.Error(), "does not end its measurement") {
				t.Errorf("a chip that measures for ever: %v", err)
			}
			wire.Attach(sim.DefaultAddress, b.BME280())
			time.Sleep(time.Second) // the reading ends by itself
			if err := deadline(s); err != nil {
				t.Errorf("after: %v", err)
			}
			s.Close()
		})
	})
}

// The traffic is the same as recorded: a change in it is a change on real
// buses, and read in review. Times are the bubble's, so the record is exact.
func TestBME280Traffic(t *testing.T) {
	const file = "testdata/bme280.trace"
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{Seed: 42})
		wire, err := b.I2C(sim.DefaultBus)
		if err != nil {
			t.Fatal(err)
		}
		rec := haltest.NewRecorder(wire)
		s := open(t, "bme280", haltest.OneBus("i2c", rec), nil)
		want, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.Bus(sim.DefaultBus).Attach(sim.DefaultAddress, nil)
		if _, err := s.Read(t.Context()); err == nil {
			t.Fatal("no error without a chip")
		}
		s.Close()
		var text strings.Builder
		if _, err := rec.Trace().WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(golden) != text.String() {
			t.Errorf("traffic:\n%s\nwant:\n%s", text.String(), golden)
		}

		tr, err := haltest.ReadTrace(strings.NewReader(string(golden)))
		if err != nil {
			t.Fatal(err)
		}
		play := haltest.NewPlayer(tr)
		s = open(t, "bme280", haltest.OneBus("i2c", play), nil)
		got, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("channel %d plays as %v, was %v", i, got[i].Float(), want[i].Float())
			}
		}
		if _, err := s.Read(t.Context()); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("the recorded failure plays as %v", err)
		}
		if play.Left() != 0 {
			t.Errorf("%d transfers left", play.Left())
		}
		s.Close()
	})
}

func BenchmarkBME280Traffic(b *testing.B) {
	board := sim.New(sim.Options{Seed: 1})
	wire, err := board.I2C(sim.DefaultBus)
	if err != nil {
		b.Fatal(err)
	}
	var data [8]byte
	b.ReportAllocs()
	for b.Loop() {
		if err := wire.Tx(0x76, []byte{0xF7}, data[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// A BMP280 sold as a BME280 measures what it can, and says what it is.
func TestBMP280(t *testing.T) {
	b := sim.New(sim.Options{Seed: 4, Air: sim.Constant(sim.Env{Temperature: 21.5, Humidity: 40, Pressure: 99000})})
	for id, what := range map[byte]string{0x58: "", 0x56: "", 0x57: "", 0x55: "BMP180", 0x61: "BME680", 0x00: "wiring",
		0x40: "0x40"} {
		b.Bus(sim.DefaultBus).Attach(sim.DefaultAddress, otherID{b.BME280(), id})
		s, err := sensor.Open(t.Context(), "bme280", b, nil)
		if what != "" {
			if err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("id %#x: %v", id, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		vals, err := s.Read(t.Context())
		if err != nil || len(vals) != 2 || len(s.Channels()) != 2 || math.Abs(vals[0].Float()-21.5) > 0.01 ||
			math.Abs(vals[1].Float()-99000) > 3 {
			t.Errorf("id %#x: %v, %v", id, vals, err)
		}
		if n, ok := s.(hal.Noter); !ok || !strings.Contains(n.Note(), "no humidity") {
			t.Errorf("id %#x says nothing", id)
		}
		s.Close()
	}
}
