package sensor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"periph.io/x/conn/v3/i2c"

	"github.com/tidemill/tidemill/hal"
)

// An i2cDriver is what the driver of an I2C chip is made of; all else, from the
// options bus and address to retries, is the same for all of them.
type i2cDriver struct {
	Driver             // without the options bus and address
	addresses []uint16 // that the chip can have; the first is the default
	pins      string   // which pins give which address, for the option's help
	who       whoIsIt  // nil: a look without effect can't tell
	guess     bool     // who goes by what is there after power-on: the chip has no id
	commands  bool     // who gives a command: register addresses are tried before
	set       newI2C   // reads the other options
	slow      bool     // a measurement takes seconds: Open leaves the first to Read
}

// whoIsIt names the chip if it is one of the driver's, "" if not. It only reads
// registers, or gives commands that change nothing in any chip that can be at the
// address: scans ask chips that nobody has named.
type whoIsIt func(w *wire) string

type newI2C func(o *options) chip

// A chip is what a driver knows of its chip. One goroutine at a time calls it.
type chip interface {
	// setUp makes sure that it is the right chip and sets it up. It is called
	// before the first measurement, and again after each that failed: another
	// chip may be there, or the supply was gone.
	setUp(w *wire) error
	// measure returns one value for each channel.
	measure(w *wire) ([]hal.Value, error)
	// channels is known once setUp went well, and never changes then.
	channels() []hal.Channel
}

func (d i2cDriver) driver() driver {
	help := d.pins
	if help == "" {
		help = hexList(d.addresses)
	}
	d.Options = append([]Option{
		{"bus", "string", "", "I2C bus, such as /dev/i2c-1; the board's first if left out"},
		{"address", "integer", fmt.Sprintf("%#x", d.addresses[0]), help},
	}, d.Options...)
	return driver{Driver: d.Driver, i2c: &d, set: func(o *options) opener {
		bus, addr := o.text("bus", ""), o.whole("address", int64(d.addresses[0]))
		if addr < 0 || addr > 0x7F || !slices.Contains(d.addresses, uint16(addr)) {
			o.fail("address", "%#x, want %s", addr, hexList(d.addresses))
		}
		c := d.set(o)
		return func(ctx context.Context, b hal.Board) (hal.Sensor, error) {
			return openI2C(ctx, b, &d, bus, uint16(addr), c)
		}
	}}
}

// hexList is "0x76 or 0x77", or "0x48 to 0x4f".
func hexList(addrs []uint16) string {
	if n := len(addrs); n > 2 && int(addrs[n-1]-addrs[0]) == n-1 {
		return fmt.Sprintf("%#x to %#x", addrs[0], addrs[n-1])
	}
	var s []string
	for _, a := range addrs {
		s = append(s, fmt.Sprintf("%#x", a))
	}
	return strings.Join(s, " or ")
}

// span is all addresses from first to last.
func span(first, last uint16) []uint16 {
	var all []uint16
	for a := first; a <= last; a++ {
		all = append(all, a)
	}
	return all
}

// An i2cSensor is an open chip.
//
// A transfer can hang in the bus. So each reading runs in a goroutine of its
// own; see calls.
type i2cSensor struct {
	calls
	of    *i2cDriver
	bus   string
	addr  uint16
	chip  chip
	wires i2c.BusCloser
	ready bool // the chip is set up; belongs to the goroutine that measures
}

func openI2C(ctx context.Context, b hal.Board, of *i2cDriver, bus string, addr uint16, c chip) (hal.Sensor, error) {
	if bus = busOr(bus, b); bus == "" {
		return nil, fmt.Errorf("%w: the board has no I2C bus; %s", hal.ErrNoDevice, hal.EnableI2C)
	}
	wires, err := b.I2C(bus)
	if err != nil {
		return nil, err
	}
	s := &i2cSensor{of: of, bus: bus, addr: addr, chip: c, wires: wires}
	s.release = wires.Close
	// The first reading shows that the chip is there.
	first := c.measure
	if of.slow {
		first = func(*wire) ([]hal.Value, error) { return nil, nil } // setting it up does
	}
	if _, err := s.reading(ctx, first); err != nil && !answered(err) {
		if errors.Is(err, hal.ErrNoDevice) && ctx.Err() == nil && of.who != nil {
			err = fmt.Errorf("%w; %s", err, s.elsewhere(ctx))
		}
		_ = s.Close() // the reading's error says more
		return nil, err
	}
	if a, ok := c.(settable); ok {
		return &i2cActuator{s, a}, nil
	}
	return s, nil
}

// busOr is the bus, or the board's first if it is "", "" without any.
func busOr(bus string, b hal.Board) string {
	if bus == "" {
		if buses := b.Buses(); len(buses) > 0 {
			return buses[0]
		}
	}
	return bus
}

// BusOf names the I2C bus of a sensor with these options, as Open would take it; "" for
// a driver of nothing on I2C, and where the board has no bus.
func BusOf(driver string, b hal.Board, opts map[string]any) string {
	for _, d := range drivers {
		if d.Name == driver && d.i2c != nil {
			bus, _ := opts["bus"].(string) // else Check refuses it
			return busOr(bus, b)
		}
	}
	return ""
}

// elsewhere says what to do when no chip answers: a pin may give it another of
// its addresses.
func (s *i2cSensor) elsewhere(ctx context.Context) string {
	others := slices.DeleteFunc(slices.Clone(s.of.addresses), func(a uint16) bool { return a == s.addr })
	if len(others) > 8 {
		others = nil // too many chips of other kinds
	}
	var found uint16
	if err := s.do(ctx, func() error {
		for _, a := range others {
			if s.of.who(&wire{ctx, s.wires, a}) != "" {
				found = a
				return nil
			}
		}
		return hal.ErrNoDevice
	}); err == nil {
		return fmt.Sprintf("address found by the scan: %#x instead", found)
	}
	const scan = "is the wiring right? `tidemill-agent sensors scan` shows what is there"
	if len(others) == 0 {
		return scan
	}
	return fmt.Sprintf("nothing answers at %s either: %s", hexList(others), scan)
}

func (s *i2cSensor) Channels() []hal.Channel { return s.chip.channels() }

// Note is what the chip has to say, if it can speak.
func (s *i2cSensor) Note() string {
	if n, ok := s.chip.(hal.Noter); ok {
		return n.Note()
	}
	return ""
}

// Read measures once.
func (s *i2cSensor) Read(ctx context.Context) ([]hal.Value, error) {
	return s.reading(ctx, s.chip.measure)
}

func (s *i2cSensor) reading(ctx context.Context, measure func(w *wire) ([]hal.Value, error)) ([]hal.Value, error) {
	var vals []hal.Value
	err := s.with(ctx, func(w *wire) (err error) {
		vals, err = measure(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	return vals, nil
}

// with runs f on the chip, setting it up first if need be.
func (s *i2cSensor) with(ctx context.Context, f func(w *wire) error) error {
	if err := s.do(ctx, func() error {
		acks := &acks{Bus: s.wires}
		err := s.again(&wire{ctx, acks, s.addr}, f)
		if errors.Is(err, hal.ErrNoDevice) && !acks.missed {
			err = &hal.BusError{Bus: s.bus, Err: err}
		}
		return err
	}); err != nil {
		return fmt.Errorf("%s %s %#x: %w", s.of.Name, s.bus, s.addr, err)
	}
	return nil
}

// acks is a bus that notes whether an acknowledge was missing. Where none was and
// there is still no chip, the line may be held: a controller that does not look at
// it before it begins takes a low one for an acknowledge, and for zeros.
type acks struct {
	i2c.Bus
	missed bool
}

func (a *acks) Tx(addr uint16, w, r []byte) error {
	err := a.Bus.Tx(addr, w, r)
	a.missed = a.missed || errors.Is(err, hal.ErrNoDevice)
	return err
}

// How often a measurement is tried in one reading. What was not measured may
// come after a fresh start; a value that looks left out can also be a real one.
// A damaged answer is asked for once more.
const (
	triesNotReady = 3
	triesDamaged  = 2
)

// again is f on a chip that is set up, tried anew while that may help and ctx
// leaves time.
func (s *i2cSensor) again(w *wire, f func(w *wire) error) error {
	var before error
	for try := 1; ; try++ {
		err := error(nil)
		if !s.ready {
			err = s.chip.setUp(w)
		}
		if err == nil {
			err = f(w)
		}
		if s.ready = err == nil || answered(err); errors.Is(err, errShort) {
			return cmp.Or(before, err)
		}
		before = err
		tries := 1
		switch {
		case errors.Is(err, ErrNotReady):
			tries = triesNotReady
		case errors.Is(err, ErrCRC), errors.Is(err, ErrProtocol):
			tries = triesDamaged
		}
		if err == nil || try >= tries || w.left() < 2*margin {
			return err
		}
	}
}

// Close gives the bus back, or leaves that to a reading that still hangs in it.
// It never waits.
func (s *i2cSensor) Close() error { return s.close() }

// A settable chip has channels that can be set.
type settable interface {
	chip
	// set drives a channel and returns when a read-back shows it. The chip is set
	// up.
	setChannel(w *wire, channel string, v hal.Value) error
}

// An i2cActuator is an open chip that is settable.
type i2cActuator struct {
	*i2cSensor
	settable settable
}

var _ hal.Actuator = (*i2cActuator)(nil)

// Set drives the named channel and returns when a read-back shows it.
func (a *i2cActuator) Set(ctx context.Context, channel string, v hal.Value) error {
	return a.with(ctx, func(w *wire) error { return a.settable.setChannel(w, channel, v) })
}

// Range is what the channel takes, where the chip says so.
func (a *i2cActuator) Range(channel string) (hal.Range, bool) {
	if r, ok := a.settable.(hal.Ranger); ok {
		return r.Range(channel)
	}
	return hal.Range{}, false
}
