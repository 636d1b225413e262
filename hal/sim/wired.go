package sim

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// DefaultPWMs is how many PWM outputs a Board has: "pwmchip0:0" and so on, two
// as a Raspberry Pi.
const DefaultPWMs = 2

// An SPIChip is what can sit at a chip select.
type SPIChip interface {
	// Transfer clocks r out of the chip and w in; either may be empty.
	Transfer(w, r []byte) error
}

// A OneWireChip is what can sit on a 1-Wire bus that the kernel runs: the files
// that it gives. A file that the chip has not is fs.ErrNotExist.
type OneWireChip interface {
	ReadFile(name string) ([]byte, error)
}

// wired is what a Board has beside I2C and lines; guarded by its mu.
type wired struct {
	spi     map[string]SPIChip
	oneWire map[string]OneWireChip
	pwms    map[string]*PWM
}

var (
	_ hal.SPIOpener = (*Board)(nil)
	_ hal.OneWire   = (*Board)(nil)
	_ hal.PWMOpener = (*Board)(nil)
)

// AttachSPI puts a chip at a chip select, such as /dev/spidev0.0; nil takes it
// away, after which the line in from it floats high.
func (b *Board) AttachSPI(name string, c SPIChip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spi == nil {
		b.spi = map[string]SPIChip{}
	}
	b.spi[name] = c
}

// SPIDevices lists what AttachSPI was called for.
func (b *Board) SPIDevices() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.spi))
}

// OpenSPI opens a chip select.
func (b *Board) OpenSPI(name string, _ hal.SPIOptions) (hal.SPIDevice, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.spi[name]; !ok {
		return nil, fmt.Errorf("SPI %q: %w", name, hal.ErrNoDevice)
	}
	return &spiDevice{board: b, name: name}, nil
}

type spiDevice struct {
	board *Board
	name  string

	mu     sync.Mutex // guards closed
	closed bool
}

func (d *spiDevice) Tx(w, r []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("%s: %w", d.name, os.ErrClosed)
	}
	d.board.mu.Lock()
	chip := d.board.spi[d.name]
	d.board.mu.Unlock()
	if chip != nil {
		return chip.Transfer(w, r)
	}
	for i := range r {
		r[i] = 0xFF
	}
	return nil
}

func (d *spiDevice) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// AttachOneWire lets the kernel find a chip under its name, such as
// 28-00000a1b2c3d; nil takes it away.
func (b *Board) AttachOneWire(name string, c OneWireChip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.oneWire == nil {
		b.oneWire = map[string]OneWireChip{}
	}
	if b.oneWire[name] = c; c == nil {
		delete(b.oneWire, name)
	}
}

// OneWireChips lists the chips.
func (b *Board) OneWireChips() ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.oneWire)), nil
}

// ReadOneWire reads a file of a chip.
func (b *Board) ReadOneWire(chip, file string) ([]byte, error) {
	b.mu.Lock()
	c := b.oneWire[chip]
	b.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("1-Wire %s: %w", chip, hal.ErrNoDevice)
	}
	text, err := c.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("1-Wire %s: %w", chip, err)
	}
	return text, nil
}

// PWMs lists the outputs.
func (b *Board) PWMs() []string {
	names := make([]string, DefaultPWMs)
	for i := range names {
		names[i] = fmt.Sprintf("pwmchip0:%d", i)
	}
	return names
}

// PWM returns an output, nil if there is none of the name.
func (b *Board) PWM(name string) *PWM {
	if !slices.Contains(b.PWMs(), name) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pwms == nil {
		b.pwms = map[string]*PWM{}
	}
	if b.pwms[name] == nil {
		b.pwms[name] = &PWM{name: name}
	}
	return b.pwms[name]
}

// OpenPWM opens an output; it has one user at a time.
func (b *Board) OpenPWM(name string) (hal.PWM, error) {
	p := b.PWM(name)
	if p == nil {
		return nil, fmt.Errorf("PWM %q: %w", name, hal.ErrNoDevice)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.user != nil {
		return nil, fmt.Errorf("PWM %q: in use", name)
	}
	p.user = &pwmUser{pwm: p}
	return p.user, nil
}

// A PWM is a simulated output. Several goroutines may use it.
type PWM struct {
	name string

	mu            sync.Mutex // guards all below
	user          *pwmUser
	period, width time.Duration
	fail          error
}

// Pulses returns what the output does: width every period.
func (p *PWM) Pulses() (period, width time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.period, p.width
}

// Put changes the pulses behind the user's back.
func (p *PWM) Put(period, width time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.period, p.width = period, width
}

// Fail makes each call fail with err; nil ends that.
func (p *PWM) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

type pwmUser struct{ pwm *PWM }

func (u *pwmUser) Set(period, width time.Duration) error {
	p := u.pwm
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.check(u); err != nil {
		return err
	}
	if period <= 0 || width < 0 || width > period {
		return fmt.Errorf("PWM %s: %w", p.name, fs.ErrInvalid)
	}
	p.period, p.width = period, width
	return nil
}

func (u *pwmUser) Get() (period, width time.Duration, err error) {
	p := u.pwm
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.period, p.width, p.check(u)
}

func (p *PWM) check(u *pwmUser) error {
	if p.user != u {
		return fmt.Errorf("PWM %s: %w", p.name, os.ErrClosed)
	}
	if p.fail != nil {
		return fmt.Errorf("PWM %s: %w", p.name, p.fail)
	}
	return nil
}

func (u *pwmUser) Close() error {
	u.pwm.mu.Lock()
	defer u.pwm.mu.Unlock()
	if u.pwm.user == u {
		u.pwm.user = nil
	}
	return nil
}
