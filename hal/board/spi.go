package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"github.com/tidemill/tidemill/hal"
)

const spiPrefix = "spidev"

// SPIDevices lists the chip selects that are there now.
func (b *Board) SPIDevices() []string {
	found, _ := filepath.Glob(filepath.Join(b.dev, spiPrefix+"*.*")) // the pattern is well formed
	slices.Sort(found)
	return found
}

// spiNumbers reads a name such as /dev/spidev0.1.
func (b *Board) spiNumbers(name string) (bus, cs int, ok bool) {
	if _, err := fmt.Sscanf(filepath.Base(name), spiPrefix+"%d.%d", &bus, &cs); err != nil {
		return 0, 0, false
	}
	return bus, cs, name == filepath.Join(b.dev, fmt.Sprintf("%s%d.%d", spiPrefix, bus, cs))
}

// OpenSPI opens a chip select, named as in SPIDevices. It goes through
// periph's sysfs driver, words of 8 bits.
func (b *Board) OpenSPI(name string, o hal.SPIOptions) (hal.SPIDevice, error) {
	bus, cs, ok := b.spiNumbers(name)
	if !ok {
		return nil, fmt.Errorf("SPI %q: %w: want a name such as %s", name, hal.ErrNoDevice,
			filepath.Join(b.dev, spiPrefix+"0.0"))
	}
	if o.Mode > 3 || o.Hz < 1000 || o.Hz > 125_000_000 {
		return nil, fmt.Errorf("SPI %q: mode %d at %d Hz, want mode 0 to 3 at 1 kHz to 125 MHz", name, o.Mode, o.Hz)
	}
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		have := "none at all"
		if all := b.SPIDevices(); len(all) > 0 {
			have = strings.Join(all, ", ")
		}
		return nil, fmt.Errorf("SPI %q: %w: there is %s; is SPI enabled? %s", name, hal.ErrNoDevice, have,
			hal.EnableSPI)
	}
	port, err := b.spi(bus, cs)
	if err != nil {
		if strings.HasSuffix(err.Error(), syscall.EACCES.Error()) {
			err = fmt.Errorf("%w: add the user to the group of the file (spi on Debian)", err)
		}
		return nil, fmt.Errorf("SPI %q: %w", name, err)
	}
	conn, err := port.Connect(physic.Frequency(o.Hz)*physic.Hertz, spi.Mode(o.Mode), 8)
	if err != nil {
		_ = port.Close() // Connect's error says more
		return nil, fmt.Errorf("SPI %q: %w", name, err)
	}
	return &spiDevice{name: name, port: port, conn: conn}, nil
}

// An spiDevice is an open chip select. The kernel bounds each transfer's time,
// so Close may wait for one.
type spiDevice struct {
	name string
	port spi.PortCloser
	conn spi.Conn

	mu     sync.Mutex // guards closed, and is held over a transfer
	closed bool
}

func (d *spiDevice) Tx(w, r []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("%s: %w", d.name, os.ErrClosed)
	}
	if err := d.conn.Tx(w, r); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

func (d *spiDevice) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.port.Close()
}
