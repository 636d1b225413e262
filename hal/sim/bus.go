package sim

import (
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
	txs   int
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
	chip, nack := b.chips[addr], b.nacks[addr] > 0
	if nack {
		b.nacks[addr]--
	}
	b.mu.Unlock()

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
