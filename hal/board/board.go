// Package board is the real Linux board: I2C buses by their device files, such
// as /dev/i2c-1, lines by their names, such as GPIO17, or by chip and offset,
// such as pinctrl-bcm2711:17 or gpiochip0:17, SPI chips by theirs, /dev/spidev0.0,
// and the kernel's 1-Wire chips and PWM outputs by their names below /sys.
//
// I2C goes through periph's sysfs driver. periph's registries and host.Init
// stay out of it, as does its gpioioctl: on a Raspberry Pi ioctl-gpio and
// bcm283x-gpio take each other's names, and ByName hands out a memory-mapped
// pin; GPIOLine.Read turns an output into an input with a pull-up, so nothing
// could be read back, and reports a failed read as low; and where two device
// files name one chip, as on Raspberry Pi OS, GPIOChip.Close closes the
// program's standard input (host v3.8.5). Lines therefore use the kernel's
// character devices directly (GPIO uAPI v2, Linux 5.10 or later).
package board

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"

	"github.com/tidemill/tidemill/hal"
)

// A Board is the machine it runs on. Several goroutines may use it.
type Board struct {
	log     *slog.Logger
	options Options

	dev  string                                     // "/dev"
	sys  string                                     // "/sys"
	open func(number int) (i2c.BusCloser, error)    // opens a bus
	spi  func(bus, cs int) (spi.PortCloser, error)  // opens a chip select
	line func(dev string, r request) (*line, error) // opens a line
	put  func(path, text string) error              // writes a file below sys
	mem  func(dev string) (memory, error)           // opens the registers of a Raspberry Pi's pins

	freeing chan struct{} // holds one element while a bus is freed; taken before mu

	mu    sync.Mutex // guards all below
	buses map[int]*bus
	pwms  map[string]bool // folders of the outputs that are open
}

var (
	_ hal.Board        = (*Board)(nil)
	_ hal.InputOpener  = (*Board)(nil)
	_ hal.OutputOpener = (*Board)(nil)
	_ hal.LineLister   = (*Board)(nil)
	_ hal.SPIOpener    = (*Board)(nil)
	_ hal.OneWire      = (*Board)(nil)
	_ hal.PWMOpener    = (*Board)(nil)
	_ hal.Recoverer    = (*Board)(nil)
)

// Options of a Board.
type Options struct {
	Recover map[string]BusRecovery // by bus, as in Buses
}

// Open returns the board of this machine. It opens nothing yet and never fails
// because there are no buses or lines; a machine may get them later, as a USB
// adapter. log takes a line at Info that says what is there.
func Open(log *slog.Logger, o Options) (hal.Board, error) {
	b := &Board{
		log:     log,
		options: o,

		dev:   "/dev",
		sys:   "/sys",
		open:  func(n int) (i2c.BusCloser, error) { return sysfs.NewI2C(n) },
		spi:   func(bus, cs int) (spi.PortCloser, error) { return sysfs.NewSPI(bus, cs) },
		line:  openLine,
		put:   writeFile,
		mem:   openMemory,
		buses: map[int]*bus{},
		pwms:  map[string]bool{},

		freeing: make(chan struct{}, 1),
	}
	chips, _ := filepath.Glob(b.dev + "/gpiochip*") // the pattern is well formed
	log.Info("board", "buses", b.Buses(), "gpio_chips", len(chips))
	return b, nil
}

// Input opens a line with the pull it has, by interrupts if it has them.
func (b *Board) Input(name string) (hal.DigitalInput, error) {
	return b.OpenInput(name, hal.InputOptions{})
}

// OpenInput opens a line as o says. A line that another program or another
// part of this one holds is an error.
func (b *Board) OpenInput(name string, o hal.InputOptions) (hal.DigitalInput, error) {
	r, err := parseLine(name)
	if err != nil {
		return nil, err
	}
	r.in = o
	l, err := b.openLine(r)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Output opens a line at the level it has; a line that was an input is driven
// to the level that it read.
func (b *Board) Output(name string) (hal.DigitalOutput, error) {
	r, err := parseLine(name)
	if err != nil {
		return nil, err
	}
	r.output, r.keep = true, true
	return b.openOutput(r)
}

// OpenOutput opens a line at the given level; the kernel sets direction and
// level in one step.
func (b *Board) OpenOutput(name string, high bool) (hal.DigitalOutput, error) {
	r, err := parseLine(name)
	if err != nil {
		return nil, err
	}
	r.output, r.high = true, high
	return b.openOutput(r)
}

func (b *Board) openOutput(r request) (hal.DigitalOutput, error) {
	l, err := b.openLine(r)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (b *Board) openLine(r request) (*line, error) {
	l, err := b.line(b.dev, r)
	if err != nil {
		return nil, fmt.Errorf("line %q: %w", r.name, err)
	}
	if !r.output && r.in.Poll == 0 && l.poll > 0 {
		b.log.Info("line has no interrupts, polling", "line", r.name, "every", l.poll)
	}
	return l, nil
}

// closeWait is how long Close waits for a recovery that hangs in the kernel.
const closeWait = 5 * time.Second

// Close closes the buses, also those that handles still use; it waits for the
// transfers that run, and for a recovery up to closeWait. Lines are closed by
// whoever opened them.
func (b *Board) Close() error {
	var errs []error
	select {
	case b.freeing <- struct{}{}:
		defer func() { <-b.freeing }()
	case <-time.After(closeWait):
		errs = append(errs, errors.New("a bus is still being freed: the kernel does not let go of it"))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, shared := range b.buses {
		errs = append(errs, shared.drop(true))
		delete(b.buses, n)
	}
	return errors.Join(errs...)
}

// A request is a line to be opened.
type request struct {
	name   string // as configured
	line   string // its name, or "":
	chip   string // label or name
	offset uint32
	in     hal.InputOptions
	output bool
	keep   bool // output: at the level it has
	high   bool // output, not keep
	drain  bool // output: never driven high
}

// parseLine reads "chip:offset" or a line's name. Labels may hold colons; the
// last one counts.
func parseLine(name string) (request, error) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 && name != "" {
		return request{name: name, line: name}, nil
	}
	if i > 0 {
		if n, err := strconv.ParseUint(name[i+1:], 10, 16); err == nil && name[i+1] != '+' {
			return request{name: name, chip: name[:i], offset: uint32(n)}, nil
		}
	}
	return request{}, fmt.Errorf("line %q: %w: want a name such as GPIO17, or chip:offset such as pinctrl-bcm2711:17",
		name, hal.ErrNoDevice)
}
