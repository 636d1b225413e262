package board

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// The pins' registers of a Raspberry Pi 0 to 4, as /dev/gpiomem maps them, which
// Raspberry Pi's kernel has and Debian's has not: for each pin three bits of
// function, and one bit to set it, to clear it and of its level (BCM2835 ARM
// Peripherals, 6.1; BCM2711 ARM Peripherals, 5.2, alike).
const (
	memFunction = 0x00
	memClear    = 0x28
	memLevel    = 0x34
	memSize     = 0x1000

	pinInput  = 0
	pinOutput = 1
	pinALT0   = 4 // of GPIO2 and GPIO3: SDA1 and SCL1
)

// memory is registers of 32 bits, by their offset in bytes.
type memory interface {
	load(at int) uint32
	store(at int, v uint32)
	Close() error
}

// A pinPair is two pins of a controller as lines without a pull: low is an output,
// which is cleared, let go is an input.
type pinPair struct {
	m        memory
	scl, sda uint32
}

func (p *pinPair) function(pin uint32) uint32 {
	return p.m.load(memFunction+int(pin/10)*4) >> (pin % 10 * 3) & 7
}

// become changes a pin's function. The kernel changes others in the same register
// under a lock that is not ours; at a start it has done so, and later seldom does.
func (p *pinPair) become(pin, function uint32) {
	at, shift := memFunction+int(pin/10)*4, pin%10*3
	p.m.store(at, p.m.load(at)&^(7<<shift)|function<<shift)
}

func (p *pinPair) drive(scl, sda bool) error {
	for _, x := range []struct {
		pin  uint32
		high bool
	}{{p.scl, scl}, {p.sda, sda}} {
		to := uint32(pinOutput)
		if x.high {
			to = pinInput
		}
		p.m.store(memClear+int(x.pin/32)*4, 1<<(x.pin%32))
		p.become(x.pin, to)
	}
	return nil
}

func (p *pinPair) read() (scl, sda bool, err error) {
	high := func(pin uint32) bool { return p.m.load(memLevel+int(pin/32)*4)>>(pin%32)&1 != 0 }
	return high(p.scl), high(p.sda), nil
}

// memChips are the controllers with these registers.
var memChips = []string{"pinctrl-bcm2835", "pinctrl-bcm2711"}

// byRegisters clocks by the pins' registers, and gives the pins back to the bus's
// controller. It says "" where there are none.
func (b *Board) byRegisters(o BusRecovery) (what string, err error) {
	sclChip, scl, err := lineOf(b.dev, o.SCL)
	if err != nil || !slices.Contains(memChips, sclChip) {
		return "", nil
	}
	sdaChip, sda, err := lineOf(b.dev, o.SDA)
	if err != nil || sdaChip != sclChip || sda == scl {
		return "", nil
	}
	m, err := b.mem(b.dev)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		return "", nil
	}
	what = "nine clocks by the pins' registers"
	if err != nil {
		return what, err
	}
	defer m.Close()
	p := &pinPair{m, scl, sda}
	sclWas, sdaWas := p.function(scl), p.function(sda)
	if o == (BusRecovery{SCL: "GPIO3", SDA: "GPIO2"}) && (sclWas != pinALT0 || sdaWas != pinALT0) {
		return "", nil // the bus has other pins, or nobody named these
	}
	if sclWas <= pinOutput || sdaWas <= pinOutput {
		return what, fmt.Errorf("%s and %s do not belong to a controller: spare lines?", o.SCL, o.SDA)
	}
	defer func() {
		p.become(scl, sclWas)
		p.become(sda, sdaWas)
	}()
	return what, clockFree(p)
}
