package sensor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/bmx280"
)

var bme280Driver = driver{
	Driver: Driver{
		Name:    "bme280",
		Summary: "Bosch BME280: temperature, humidity and pressure over I2C; BMP280: without humidity",
		Options: []Option{
			{"bus", "string", "", "I2C bus, such as /dev/i2c-1; the board's first if left out"},
			{"address", "integer", "0x76", "0x76, or 0x77 with SDO high"},
			{"oversampling", "integer", "1",
				"conversions for each value: 1, 2, 4, 8 or 16; more is steadier and slower"},
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
			s.over, s.osrs = int(n), byte(bits.Len(uint(n))) // table 20
		default:
			o.fail("oversampling", "%d, want 1, 2, 4, 8 or 16", n)
		}
		return s.open
	},
}

// bme280 is the driver of the same name, for the BMP280 too, which is sold as
// one. It talks to the chip itself: periph's bmxx80 (v3.7.4) reads H4 and H5
// without their sign, takes a value that was not measured for one, and waits for
// an idle chip without limit.
//
// A transfer can hang in the bus. So each reading runs in a goroutine of its own,
// and Read leaves it behind at ctx's end. There is never more than one: until it
// ends, Read says ErrBusy.
type bme280 struct {
	bus  string
	addr uint16
	osrs byte // the field of oversampling in force for all quantities
	over int  // conversions that it stands for
	gate gate

	// id is 0 until the chip is set up, and again after each fault: another
	// chip may be there. It and cal belong to the goroutine that measures.
	id  byte
	cal bmx280.Calibration

	channels []hal.Channel // by the chip that Open found

	mu      sync.Mutex // guards all below
	running bool       // a goroutine measures
	closed  bool
}

func (s *bme280) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	if s.bus == "" {
		buses := b.Buses()
		if len(buses) == 0 {
			return nil, fmt.Errorf("%w: the board has no I2C bus; on a Raspberry Pi: sudo raspi-config nonint do_i2c 0",
				hal.ErrNoDevice)
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
		if errors.Is(err, hal.ErrNoDevice) && ctx.Err() == nil {
			err = fmt.Errorf("%w; %s", err, s.elsewhere())
		}
		_ = s.Close() // the reading's error says more
		return nil, err
	}
	return s, nil
}

// elsewhere says what to do when no chip answers: the board's SDO pin may give it
// the other address.
func (s *bme280) elsewhere() string {
	var id [1]byte
	other := s.addr ^ 1 // 0x76 and 0x77
	if s.gate.Tx(other, []byte{bmx280.RegID}, id[:]) == nil && knownChip(id[0]) == nil {
		return fmt.Sprintf("address found by the scan: %#x instead", other)
	}
	return fmt.Sprintf("nothing answers at %#x either: is the wiring right? `tidemill-agent sensors` scans the bus",
		other)
}

var (
	temperature = hal.Channel{Name: "temperature", Unit: "°C", Kind: hal.Float}
	humidity    = hal.Channel{Name: "humidity", Unit: "%RH", Kind: hal.Float}
	pressure    = hal.Channel{Name: "pressure", Unit: "Pa", Kind: hal.Float}
)

// Channels: temperature to 0.01 °C, humidity to 0.001 %RH, pressure to 0.01 Pa.
// A BMP280 has no humidity.
func (s *bme280) Channels() []hal.Channel { return s.channels }

// Note says what the chip is, if it is not what its driver is named after.
func (s *bme280) Note() string {
	if len(s.channels) == 2 {
		return "the chip is a BMP280, often sold as BME280: it has no humidity"
	}
	return ""
}

// Read makes the chip measure once, 10 ms at oversampling 1, 115 ms at 16. A
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

// A quantity that was not measured shows as one value of its register that it
// can also have. So a measurement that seems left out is done again.
const bme280Tries = 3

var errNotMeasured = errors.New("the chip has measured no temperature")

// measure reads the chip, setting it up first if need be.
func (s *bme280) measure(ctx context.Context) (vals []hal.Value, err error) {
	s.gate.begin(ctx)
	for range bme280Tries {
		if s.id == 0 {
			err = s.setUp()
		}
		if s.id != 0 {
			if vals, err = s.once(ctx); err == nil {
				return vals, nil
			}
		}
		s.id = 0
		if !errors.Is(err, errNotMeasured) {
			return nil, err
		}
	}
	return nil, err
}

// get reads registers from reg on.
func (s *bme280) get(reg byte, into []byte) error { return s.gate.Tx(s.addr, []byte{reg}, into) }

// setUp finds out which chip it is and reads its calibration.
func (s *bme280) setUp() error {
	var id [1]byte
	if err := s.get(bmx280.RegID, id[:]); err != nil {
		return err
	}
	if err := knownChip(id[0]); err != nil {
		return err
	}
	var tp [bmx280.CalibBytes]byte
	var hum [bmx280.CalibHumBytes]byte
	if err := s.get(bmx280.RegCalib, tp[:]); err != nil {
		return err
	}
	ofHum := &hum
	if bmx280.IsBMP280(id[0]) {
		ofHum = nil
	} else if err := s.get(bmx280.RegCalibHum, hum[:]); err != nil {
		return err
	}
	cal := bmx280.Parse(&tp, ofHum)
	if cal.T1 == 0 || cal.P1 == 0 || cal.T2 == 0 || uniform(tp[:24]) || ofHum != nil && uniform(hum[:]) {
		return errors.New("the chip's calibration is all zeros or ones: it did not start well, or is broken")
	}
	channels := []hal.Channel{temperature, humidity, pressure}
	if ofHum == nil {
		channels = []hal.Channel{temperature, pressure}
	}
	if s.channels == nil {
		s.channels = channels
	} else if len(s.channels) != len(channels) {
		return errors.New("another kind of chip is there than at the start")
	}
	s.id, s.cal = id[0], cal
	return nil
}

func uniform(b []byte) bool {
	return (b[0] == 0 || b[0] == 0xFF) && !slices.ContainsFunc(b, func(x byte) bool { return x != b[0] })
}

// knownChip returns nil for a BME280 or BMP280, else what is likely there.
func knownChip(id byte) error {
	switch {
	case id == bmx280.IDBME280 || bmx280.IsBMP280(id):
		return nil
	case id == 0 || id == 0xFF:
		// All lines low or high: nothing drives them, or something holds them.
		return fmt.Errorf("%w: it reads only %#02x: is the wiring right?", hal.ErrNoDevice, id)
	}
	what := map[byte]string{0x55: " (a BMP180)", 0x61: " (a BME680)"}[id] // the datasheets' register 0xD0
	return fmt.Errorf("chip id %#x%s, want 0x60 (BME280) or 0x58 (BMP280)", id, what)
}

// once makes the chip, which is set up, measure once.
func (s *bme280) once(ctx context.Context) ([]hal.Value, error) {
	isBMP := bmx280.IsBMP280(s.id)
	// All settings each time: a brown-out between two readings loses them, and
	// shows in no error. The chip sleeps, or else RegConfig may not be written.
	set := []byte{bmx280.RegCtrlMeas, bmx280.ModeSleep, bmx280.RegConfig, 0, bmx280.RegCtrlHum, s.osrs,
		bmx280.RegCtrlMeas, s.osrs<<5 | s.osrs<<2 | bmx280.ModeForced}
	if isBMP {
		set = append(set[:4], set[6:]...)
	}
	if err := s.gate.Tx(s.addr, set, nil); err != nil {
		return nil, err
	}
	// The longest measurement time (section 9.1).
	if err := pause(ctx, time.Duration(1250+3*(2300*s.over+575))*time.Microsecond); err != nil {
		return nil, err
	}
	var status [1]byte
	for tries := 0; ; tries++ {
		if err := s.get(bmx280.RegStatus, status[:]); err != nil {
			return nil, err
		}
		if status[0]&bmx280.Measuring == 0 {
			break
		}
		if tries == 100 {
			return nil, errors.New("the chip does not end its measurement")
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	var d [8]byte
	data := d[:]
	if isBMP {
		data = d[:6]
	}
	if err := s.get(bmx280.RegData, data); err != nil {
		return nil, err
	}
	rawP := int(d[0])<<12 | int(d[1])<<4 | int(d[2])>>4
	rawT := int(d[3])<<12 | int(d[4])<<4 | int(d[5])>>4
	rawH := int(d[6])<<8 | int(d[7])
	if rawT == bmx280.SkippedPT {
		return nil, errNotMeasured
	}
	fine := s.cal.Fine(float64(rawT))
	temp := round(bmx280.Celsius(fine), 100)
	if !(temp >= -40 && temp <= 85) {
		return nil, fmt.Errorf("%.2f °C, want -40 to 85 °C", temp)
	}
	vals := []hal.Value{hal.FloatValue(temp)}
	if !isBMP {
		v := hal.Value{}
		if rawH != bmx280.SkippedHum || s.humidityOn() {
			v = hal.FloatValue(round(min(max(s.cal.Humidity(float64(rawH), fine), 0), 100), 1000))
		}
		vals = append(vals, v)
	}
	v := hal.Value{}
	if p := round(s.cal.Pressure(float64(rawP), fine), 100); rawP != bmx280.SkippedPT && p >= 30000 && p <= 110000 {
		v = hal.FloatValue(p)
	}
	return append(vals, v), nil
}

// humidityOn says whether the chip has the setting that was written, so that
// what looks left out was measured.
func (s *bme280) humidityOn() bool {
	var v [1]byte
	return s.get(bmx280.RegCtrlHum, v[:]) == nil && v[0]&7 == s.osrs
}

// round cuts to the decimals that the chip's arithmetic has, so that a record
// reads 21.5 and not 21.499999999.
func round(v, to float64) float64 { return math.Round(v*to) / to }

// pause waits; it ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
// reading's end.
type gate struct {
	bus i2c.BusCloser
	ctx context.Context // of the reading that runs; set by begin
}

func (g *gate) begin(ctx context.Context) { g.ctx = ctx }

func (g *gate) Tx(addr uint16, w, r []byte) error {
	if err := g.ctx.Err(); err != nil {
		return err
	}
	return g.bus.Tx(addr, w, r)
}
