// Package sim holds simulated hardware: a Board with an I2C bus, chips and
// lines that behave as their datasheets say and fail when told to. Whole fleets
// of agents run on it, each with its own seed, and drivers are tested on it.
//
// Everything is a function of the seed and the clock. What can be changed at
// run time is changed through the Bus, the chips and the Pins, which any
// goroutine may do while drivers use them. No goroutines are started.
package sim

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/tidemill/tidemill/hal"
)

// What a Board is made of unless Options say otherwise.
const (
	DefaultBus     = "/dev/i2c-1" // as on a Raspberry Pi, so that a configuration serves both
	DefaultAddress = 0x76         // of the BME280, its SDO pin low
	DefaultPins    = 32           // "sim:0" to "sim:31"
)

// Options say what a Board has; the zero Options are a board with the defaults
// above, in the weather of seed 0.
type Options struct {
	Seed    uint64           // of calibration and weather
	Now     func() time.Time // the hardware's clock; nil: time.Now
	Air     Waveform         // nil: Weather(Seed)
	NoEdges bool             // pins have no interrupts, as in QEMU's Raspberry Pi
	NoBus   bool             // neither bus nor chip
	// Chips are there beside the BME280, or in its place, whose bus is made if
	// need be. A chip that is none of Chips() is left out; see ParsePlace.
	Chips []Place
}

// A Board is simulated hardware behind hal's interfaces.
type Board struct {
	o     Options
	chip  *BME280
	files *Files

	mu    sync.Mutex // guards all below
	buses map[string]*Bus
	pins  map[string]*Pin
	wired
}

var (
	_ hal.Board        = (*Board)(nil)
	_ hal.InputOpener  = (*Board)(nil)
	_ hal.OutputOpener = (*Board)(nil)
	_ hal.LineLister   = (*Board)(nil)
	_ hal.Recoverer    = (*Board)(nil)
	_ hal.FileSource   = (*Board)(nil)
)

// New returns a board with a BME280 at DefaultAddress of DefaultBus.
func New(o Options) *Board {
	if o.Air == nil {
		o.Air = Weather(o.Seed)
	}
	b := &Board{
		o:     o,
		chip:  NewBME280(o.Seed, o.Air, o.Now),
		buses: map[string]*Bus{},
		pins:  map[string]*Pin{},
	}
	b.kernelChips(o.Air, o.Now)
	if !o.NoBus {
		b.Add(NewBus(DefaultBus)).Attach(DefaultAddress, b.chip)
	}
	for _, p := range o.Chips {
		_, _ = b.Put(p) // unknown ones are left out
	}
	return b
}

// Add puts a bus on the board and returns it.
func (b *Board) Add(bus *Bus) *Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buses[bus.name] = bus
	return bus
}

// Bus returns the named bus, nil if there is none.
func (b *Board) Bus(name string) *Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buses[name]
}

// BME280 returns the chip that New made, also while it is not attached.
func (b *Board) BME280() *BME280 { return b.chip }

// Buses lists the buses in order of their names.
func (b *Board) Buses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.buses))
	for n := range b.buses {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// I2C opens a handle on a bus.
func (b *Board) I2C(bus string) (i2c.BusCloser, error) {
	if found := b.Bus(bus); found != nil {
		return found.Open(), nil
	}
	return nil, fmt.Errorf("bus %q: %w: the simulated board has: %s", bus, hal.ErrNoDevice,
		strings.Join(b.Buses(), ", "))
}

// RecoverBus clocks a bus free.
func (b *Board) RecoverBus(ctx context.Context, bus string) (did string, err error) {
	found := b.Bus(bus)
	if found == nil {
		return "", fmt.Errorf("bus %q: %w", bus, hal.ErrNoDevice)
	}
	return "nine clocks and a STOP", found.Recover(ctx)
}

// LineChips lists the one chip.
func (b *Board) LineChips() ([]hal.LineChip, error) {
	c := hal.LineChip{Name: "gpiochip0", Label: "sim", Lines: make([]hal.Line, DefaultPins)}
	for i := range c.Lines {
		c.Lines[i].Name = fmt.Sprintf("GPIO%d", i)
	}
	return []hal.LineChip{c}, nil
}

// Pin returns the line "sim:N" or "GPION", N in 0..31; an error wraps
// hal.ErrNoDevice.
func (b *Board) Pin(line string) (*Pin, error) {
	n, ok := strings.CutPrefix(line, "sim:")
	if !ok {
		if n, ok = strings.CutPrefix(line, "GPIO"); ok {
			line = "sim:" + n
		}
	}
	if i, err := strconv.Atoi(n); !ok || err != nil || i < 0 || i >= DefaultPins || strconv.Itoa(i) != n {
		return nil, fmt.Errorf("line %q: %w: want GPIO0 to GPIO%d, or sim:0 to sim:%d", line, hal.ErrNoDevice,
			DefaultPins-1, DefaultPins-1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pins[line]
	if p == nil {
		p = &Pin{name: line, edges: !b.o.NoEdges, born: time.Now(), inputs: map[*input]struct{}{}}
		b.pins[line] = p
	}
	return p, nil
}

// Input opens a line with the pull it has, by edges unless Options.NoEdges.
func (b *Board) Input(line string) (hal.DigitalInput, error) {
	return b.OpenInput(line, hal.InputOptions{})
}

// OpenInput opens a line as o says. Several inputs may share a line.
func (b *Board) OpenInput(line string, o hal.InputOptions) (hal.DigitalInput, error) {
	p, err := b.Pin(line)
	if err != nil {
		return nil, err
	}
	return p.openInput(o)
}

// Output opens a line at the level it has. A line has one output at a time.
func (b *Board) Output(line string) (hal.DigitalOutput, error) {
	p, err := b.Pin(line)
	if err != nil {
		return nil, err
	}
	return p.openOutput(nil)
}

// OpenOutput opens a line at the given level.
func (b *Board) OpenOutput(line string, high bool) (hal.DigitalOutput, error) {
	p, err := b.Pin(line)
	if err != nil {
		return nil, err
	}
	return p.openOutput(&high)
}

// Close does nothing: what was opened is closed by whoever opened it.
func (b *Board) Close() error { return nil }
