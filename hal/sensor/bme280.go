package sensor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"github.com/tidemill/tidemill/hal"
)

var bme280Driver = driver{
	Driver: Driver{
		Name:    "bme280",
		Summary: "Bosch BME280: temperature, humidity and pressure over I2C",
		Options: []Option{
			{"bus", "string", "", "I2C bus, such as /dev/i2c-1; the board's first if left out"},
			{"address", "integer", "0x76", "0x76, or 0x77 with SDO high"},
			{"oversampling", "integer", "1", "conversions for each value: 1, 2, 4, 8 or 16; more is steadier and slower"},
		},
	},
	set: func(o *options) opener {
		s := &bme280{bus: o.text("bus", "")}
		switch n := o.whole("address", 0x76); n {
		case 0x76, 0x77:
			s.addr = uint16(n)
		default:
			o.fail("address", "%#x, want 0x76 or 0x77", n)
		}
		switch n := o.whole("oversampling", 1); n {
		case 1, 2, 4, 8, 16:
			s.over = map[int64]bmxx80.Oversampling{
				1: bmxx80.O1x, 2: bmxx80.O2x, 4: bmxx80.O4x, 8: bmxx80.O8x, 16: bmxx80.O16x,
			}[n]
		default:
			o.fail("oversampling", "%d, want 1, 2, 4, 8 or 16", n)
		}
		return s.open
	},
}

// bme280 is the driver of the same name over periph's bmxx80, whose Sense can
// hang with the bus. So each reading runs in a goroutine of its own, and Read
// leaves it behind at ctx's end. There is never more than one: until it ends,
// Read says ErrBusy.
type bme280 struct {
	bus  string
	addr uint16
	over bmxx80.Oversampling
	gate gate

	// dev is nil until the chip is set up, and again after each fault: a chip
	// that lost its power came back with other settings. It belongs to the
	// goroutine that measures.
	dev *bmxx80.Dev

	mu      sync.Mutex // guards all below
	running bool       // a goroutine measures
	closed  bool
}

func (s *bme280) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	if s.bus == "" {
		buses := b.Buses()
		if len(buses) == 0 {
			return nil, fmt.Errorf("%w: the board has no I2C bus", hal.ErrNoDevice)
		}
		s.bus = buses[0]
	}
	bus, err := b.I2C(s.bus)
	if err != nil {
		return nil, err
	}
	s.gate.bus = bus
	// The first reading shows that the chip is there.
	if _, err := s.Read(ctx); err != nil {
		_ = s.Close() // the reading's error says more
		return nil, err
	}
	return s, nil
}

// Channels: temperature to 0.01 °C, humidity to 0.001 %RH, pressure to 0.01 Pa.
func (s *bme280) Channels() []hal.Channel {
	return []hal.Channel{
		{Name: "temperature", Unit: "°C", Kind: hal.Float},
		{Name: "humidity", Unit: "%RH", Kind: hal.Float},
		{Name: "pressure", Unit: "Pa", Kind: hal.Float},
	}
}

// Read makes the chip measure once, 8 ms at oversampling 1, 100 ms at 16. A
// temperature outside of the chip's range (-40 to 85 °C) is an error, since all
// three values hang on it; a pressure outside of its range (300 to 1100 hPa) is
// absent.
func (s *bme280) Read(ctx context.Context) ([]hal.Value, error) {
	vals, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("bme280 %s %#x: %w", s.bus, s.addr, err)
	}
	return vals, nil
}

func (s *bme280) read(ctx context.Context) ([]hal.Value, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	closed, running := s.closed, s.running
	s.running = s.running || !s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, os.ErrClosed
	case running:
		return nil, ErrBusy
	}

	type result struct {
		vals []hal.Value
		err  error
	}
	done := make(chan result, 1)
	go func() {
		vals, err := s.measure(ctx)
		s.mu.Lock()
		s.running = false
		if s.closed {
			_ = s.gate.bus.Close() // Close left it to us; nobody is there to tell
		}
		s.mu.Unlock()
		done <- result{vals, err}
	}()
	select {
	case r := <-done:
		return r.vals, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// measure reads the chip, setting it up first if need be.
func (s *bme280) measure(ctx context.Context) ([]hal.Value, error) {
	s.gate.begin(ctx)
	for try := 0; ; try++ {
		var e physic.Env
		fresh := s.dev == nil
		err := s.sense(&e)
		if err == nil && fresh || err == nil && s.configured() {
			return bme280Values(&e)
		}
		s.dev = nil
		if cause := s.gate.err; cause != nil {
			return nil, cause // periph keeps only its text
		}
		if err != nil {
			return nil, err
		}
		if try > 0 {
			return nil, errors.New("the chip loses its settings")
		}
	}
}

func (s *bme280) sense(e *physic.Env) error {
	if s.dev == nil {
		dev, err := bmxx80.NewI2C(&s.gate, s.addr, &bmxx80.Opts{Temperature: s.over, Pressure: s.over, Humidity: s.over})
		if err != nil {
			return err
		}
		// periph takes a BMP280 or BMP180 too; those have no humidity.
		var id [1]byte
		if err := s.gate.Tx(s.addr, []byte{0xD0}, id[:]); err != nil {
			return err
		}
		if id[0] != 0x60 {
			return fmt.Errorf("chip id %#x, want 0x60", id[0])
		}
		s.dev = dev
	}
	return s.dev.Sense(e)
}

// configured says whether the chip still has the humidity setting, which
// periph writes only once. After a brown-out between two readings it would be
// off, and the data register's 0x8000 would pass for a measurement.
func (s *bme280) configured() bool {
	var v [1]byte
	return s.gate.Tx(s.addr, []byte{0xF2}, v[:]) == nil && v[0]&7 == byte(s.over)
}

func bme280Values(e *physic.Env) ([]hal.Value, error) {
	// periph counts in nK, 10^-5 %RH and nPa. We cut to the decimals that the
	// chip's arithmetic has, so that a record reads 21.5 and not 21.499999999.
	temp := math.Round(float64(e.Temperature-physic.ZeroCelsius)/1e7) / 100
	hum := math.Round(float64(e.Humidity)/100) / 1000
	pres := math.Round(float64(e.Pressure)/1e7) / 100
	if temp < -40 || temp > 85 {
		return nil, fmt.Errorf("%.2f °C, want -40 to 85 °C", temp)
	}
	vals := []hal.Value{hal.FloatValue(temp), hal.FloatValue(hum), {}}
	if pres >= 30000 && pres <= 110000 {
		vals[2] = hal.FloatValue(pres)
	}
	return vals, nil
}

// Close gives the bus back, or leaves that to a reading that still hangs in it.
// It never waits.
func (s *bme280) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.running {
		return nil
	}
	return s.gate.bus.Close()
}

// gate is the bus as one reading sees it. It refuses transfers after the
// reading's end, so that a driver that loops over the bus (bmxx80 waits for an
// idle chip without limit) ends too, and it keeps the first error as it was.
type gate struct {
	bus i2c.BusCloser
	ctx context.Context // of the reading that runs; set by begin
	err error
}

func (g *gate) begin(ctx context.Context) { g.ctx, g.err = ctx, nil }

func (g *gate) String() string { return g.bus.String() }

func (g *gate) Tx(addr uint16, w, r []byte) error {
	err := g.ctx.Err()
	if err == nil {
		err = g.bus.Tx(addr, w, r)
	}
	if g.err == nil {
		g.err = err
	}
	return err
}

func (g *gate) SetSpeed(f physic.Frequency) error { return g.bus.SetSpeed(f) }
