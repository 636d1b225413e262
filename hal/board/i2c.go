package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/tidemill/tidemill/hal"
)

const busPrefix = "i2c-"

// Buses lists the I2C device files that are there now, by number.
func (b *Board) Buses() []string {
	found, _ := filepath.Glob(filepath.Join(b.dev, busPrefix+"*")) // the pattern is well formed
	var numbers []int
	for _, f := range found {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(f), busPrefix)); err == nil && n >= 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = b.busName(n)
	}
	return names
}

func (b *Board) busName(n int) string { return filepath.Join(b.dev, busPrefix+strconv.Itoa(n)) }

// busNumber reads a name such as /dev/i2c-1.
func (b *Board) busNumber(name string) (int, error) {
	digits, ok := strings.CutPrefix(name, filepath.Join(b.dev, busPrefix))
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0, fmt.Errorf("bus %q: %w: want a name such as %s", name, hal.ErrNoDevice, b.busName(1))
	}
	return n, nil
}

// I2C returns a handle on a bus, named as in Buses. All handles on a bus share
// one open file, which closes with the last of them. A transfer that nothing
// acknowledges fails with hal.ErrNoDevice, and so does I2C if there is no such
// bus.
func (b *Board) I2C(name string) (i2c.BusCloser, error) {
	n, err := b.busNumber(name)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	shared := b.buses[n]
	if shared == nil {
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			have := "no bus at all"
			if buses := b.Buses(); len(buses) > 0 {
				have = strings.Join(buses, ", ")
			}
			return nil, fmt.Errorf("bus %q: %w: there is %s; is I2C enabled? %s", name, hal.ErrNoDevice, have,
				hal.EnableI2C)
		}
		opened, err := b.open(n)
		if errors.Is(err, os.ErrPermission) || err != nil && strings.HasSuffix(err.Error(), syscall.EACCES.Error()) {
			return nil, fmt.Errorf("bus %q: %w: add the user to the group of the file (i2c on Debian)", name, err)
		} else if err != nil {
			return nil, fmt.Errorf("bus %q: %w", name, err)
		}
		shared = &bus{board: b, number: n, name: name, bus: opened, wire: make(chan struct{}, 1)}
		b.buses[n] = shared
	}
	shared.users++
	return &handle{shared: shared}, nil
}

// A bus is one device file for all its handles.
type bus struct {
	board  *Board
	number int
	name   string
	users  int           // handles; guarded by board.mu
	wire   chan struct{} // holds one element while a transfer runs, or the bus is freed

	mu   sync.Mutex    // guards all below; never held during a transfer
	bus  i2c.BusCloser // nil after drop
	gone bool          // it is not opened again
}

// transfer is one transfer; the caller holds the wire. It opens the file again
// after a drop.
func (s *bus) transfer(addr uint16, w, r []byte) error {
	s.mu.Lock()
	if s.bus == nil && !s.gone {
		opened, err := s.board.open(s.number)
		if err != nil {
			s.mu.Unlock()
			return &hal.BusError{Bus: s.name, Err: err}
		}
		s.bus = opened
	}
	open := s.bus
	s.mu.Unlock()
	if open == nil {
		return fmt.Errorf("%s: %w", s.name, os.ErrClosed)
	}
	return explain(s.name, open.Tx(addr, w, r))
}

// drop closes the file; the next transfer opens it again, unless it is for good.
func (s *bus) drop(forGood bool) error {
	s.mu.Lock()
	open := s.bus
	s.bus, s.gone = nil, s.gone || forGood
	s.mu.Unlock()
	if open == nil {
		return nil
	}
	return open.Close() // waits for a transfer
}

// A handle is one user's view of a bus.
type handle struct {
	shared *bus
	mu     sync.Mutex // guards closed; never held during a transfer
	closed bool
}

func (h *handle) String() string { return h.shared.name }

func (h *handle) Tx(addr uint16, w, r []byte) error {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return fmt.Errorf("%s: %w", h.shared.name, os.ErrClosed)
	}
	h.shared.wire <- struct{}{}
	defer func() { <-h.shared.wire }()
	return h.shared.transfer(addr, w, r)
}

// explain finds a missing acknowledge in an error whose cause periph turned
// into text. Controllers say ENXIO or EREMOTEIO (i2c/fault-codes in the
// kernel's documentation names the first; i2c-bcm2835 uses the second). All
// else is the bus's: EAGAIN (arbitration lost), EBUSY, EIO, ETIMEDOUT.
func explain(bus string, err error) error {
	if err == nil {
		return nil
	}
	for _, no := range []syscall.Errno{syscall.ENXIO, eremoteio} {
		if errors.Is(err, no) || strings.HasSuffix(err.Error(), no.Error()) {
			return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
		}
	}
	return &hal.BusError{Bus: bus, Err: err}
}

// SetSpeed is none of Linux's: the device tree sets the clock.
func (h *handle) SetSpeed(physic.Frequency) error { return errors.ErrUnsupported }

func (h *handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	b := h.shared.board
	b.mu.Lock()
	defer b.mu.Unlock()
	h.shared.users--
	if h.shared.users > 0 || b.buses[h.shared.number] != h.shared {
		return nil
	}
	delete(b.buses, h.shared.number)
	return h.shared.drop(true)
}
