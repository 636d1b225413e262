package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/tidemill/tidemill/hal"
)

// A Chip is what can sit on a Bus.
type Chip interface {
	// Tx is one transfer to the chip's address; w or r may be empty. An error
	// is a transfer that was not acknowledged.
	Tx(w, r []byte) error
}

// A Bus is a simulated I2C bus with faults. One transfer runs at a time, as on
// wires; others wait. Several goroutines may use it.
type Bus struct {
	name string
	wire chan struct{} // holds one element while a transfer runs

	mu    sync.Mutex // guards all below; taken with wire held, never the other way
	chips map[uint16]Chip
	nacks map[uint16]int
	stuck chan struct{} // closed by Release; nil while the bus runs
	held  int           // clocks until the chip that holds SDA lets go
	txs   int
	freed int
}

// NewBus returns an empty bus.
func NewBus(name string) *Bus {
	return &Bus{
		name:  name,
		wire:  make(chan struct{}, 1),
		chips: map[uint16]Chip{},
		nacks: map[uint16]int{},
	}
}

// Attach puts a chip at addr in place of what is there; nil takes it away.
func (b *Bus) Attach(addr uint16, c Chip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c == nil {
		delete(b.chips, addr)
		return
	}
	b.chips[addr] = c
}

// Chip returns what is at addr, nil if nothing.
func (b *Bus) Chip(addr uint16) Chip {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.chips[addr]
}

// NACK lets the next n transfers to addr go unacknowledged; 0 ends that.
func (b *Bus) NACK(addr uint16, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nacks[addr] = n
}

// Stick makes every transfer hang until Release, as a chip does that holds SCL
// down on a controller without a time limit.
func (b *Bus) Stick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stuck == nil {
		b.stuck = make(chan struct{})
	}
}

// Release ends Stick; hanging transfers go on.
func (b *Bus) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stuck != nil {
		close(b.stuck)
		b.stuck = nil
	}
}

// HoldSDA lets a chip hold the data line low, as one does that lost a clock in
// the middle of sending a byte: every transfer fails with a hal.BusError, of all
// chips, until the bus was clocked so many times with no transfer; see Recover.
// No chip holds it for more than nine.
func (b *Bus) HoldSDA(clocks int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = clocks
}

// Recover gives the bus nine clocks and a STOP (UM10204 3.1.16) if a chip holds
// it, else it is hal.ErrBusFree. It waits for the transfer that runs.
func (b *Bus) Recover(ctx context.Context) error {
	select {
	case b.wire <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%s: a transfer does not end: %w", b.name, ctx.Err())
	}
	defer func() { <-b.wire }()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == 0 && b.stuck == nil {
		return fmt.Errorf("%s: %w", b.name, hal.ErrBusFree)
	}
	b.freed++
	if b.held = max(b.held-9, 0); b.held > 0 {
		return &hal.BusError{Bus: b.name, Err: errHeld}
	}
	return nil
}

var errHeld = errors.New("a chip holds SDA low")

// Recovered counts the calls of Recover.
func (b *Bus) Recovered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.freed
}

// Transfers counts the transfers that were begun.
func (b *Bus) Transfers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.txs
}

func (b *Bus) tx(addr uint16, w, r []byte) error {
	if addr >= 0x80 {
		return fmt.Errorf("%s: address %#x: want 7 bits", b.name, addr)
	}
	b.wire <- struct{}{}
	defer func() { <-b.wire }()

	b.mu.Lock()
	b.txs++
	for b.stuck != nil {
		wait := b.stuck
		b.mu.Unlock()
		<-wait
		b.mu.Lock()
	}
	held := b.held > 0
	chip, nack := b.chips[addr], b.nacks[addr] > 0
	if nack {
		b.nacks[addr]--
	}
	b.mu.Unlock()

	if held {
		return &hal.BusError{Bus: b.name, Err: errHeld}
	}
	if chip == nil || nack {
		return fmt.Errorf("%s: no acknowledge from %#x: %w", b.name, addr, hal.ErrNoDevice)
	}
	if len(w) == 0 && len(r) == 0 {
		return nil
	}
	return chip.Tx(w, r)
}

// A handle is one user's view of a bus.
type handle struct {
	bus    *Bus
	mu     sync.Mutex // guards closed
	closed bool
}

var _ i2c.BusCloser = (*handle)(nil)

// Open returns a handle, whose Close leaves the bus to the other handles.
func (b *Bus) Open() i2c.BusCloser { return &handle{bus: b} }

func (h *handle) String() string { return h.bus.name }

func (h *handle) Tx(addr uint16, w, r []byte) error {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return fmt.Errorf("%s: %w", h.bus.name, os.ErrClosed)
	}
	return h.bus.tx(addr, w, r)
}

func (h *handle) SetSpeed(physic.Frequency) error { return nil }

func (h *handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return nil
}
