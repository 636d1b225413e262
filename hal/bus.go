package hal

import (
	"context"
	"errors"
	"time"
)

// ErrBusFree means that there is nothing to free a bus of: no chip holds it.
var ErrBusFree = errors.New("hal: the bus is not held")

// A BusError is a transfer that a bus could not carry: another driver of its
// lines, a clock that does not rise, a transfer that does not end. A missing
// acknowledge is none, since the other chips go on. Drivers also wrap what looks
// like a line that is held: an acknowledge and then zeros alone, which a low data
// line gives without any chip.
// Where several come in a row on one Bus, a chip may hold it; see Recoverer.
type BusError struct {
	Bus string // as in Board.Buses
	Err error  // what the kernel, or the driver that saw it, says
}

func (e *BusError) Error() string { return "bus " + e.Bus + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *BusError) Unwrap() error { return e.Err }

// A Recoverer is a Board that can free an I2C bus which a chip holds, as one
// does that lost a clock in the middle of sending a zero.
type Recoverer interface {
	// RecoverBus clocks the bus nine times and ends with a STOP, or what else
	// the board can do (UM10204 3.1.16), and says in a word or two what it did.
	// Handles on the bus stay good; their transfers wait meanwhile. An error
	// says why nothing could be done, or that the bus is still held; ErrBusFree
	// that it never was. It returns by ctx's end; what still hangs in the kernel
	// then keeps transfers and other calls away until it ends. Calls run one
	// after another.
	RecoverBus(ctx context.Context, bus string) (did string, err error)
}

// What makes a kernel show the buses that a board has, for messages where there are
// none.
const (
	EnableI2C = "on a Raspberry Pi: sudo raspi-config nonint do_i2c 0; elsewhere: sudo modprobe i2c-dev"
	EnableSPI = "on a Raspberry Pi: sudo raspi-config nonint do_spi 0"
)

// A Range is what values a channel of an actuator takes, both ends included.
type Range struct{ Min, Max float64 }

// A Ranger is an Actuator with numeric channels: Float or Int.
type Ranger interface {
	// Range returns ok false for a channel that cannot be set, or is not
	// numeric.
	Range(channel string) (r Range, ok bool)
}

// An Edge is one change of an input's level.
type Edge struct {
	High bool
	At   time.Duration // on the input's clock, see EdgeInput.Now
	Lost int           // changes before this one that nobody had room to keep
}

// An EdgeInput is a DigitalInput that knows when its level changed: by the
// kernel's stamp, taken in the interrupt, or by the look that found it where
// the line is polled.
type EdgeInput interface {
	DigitalInput
	// NextEdge waits as WaitForEdge does; ok is false where that is. One
	// goroutine at a time calls either of them.
	NextEdge(timeout time.Duration) (e Edge, ok bool)
	// Now is the present on the clock of the stamps, which never goes back.
	Now() time.Duration
}

// An SPIMode is polarity and phase of an SPI clock, 0 to 3.
type SPIMode uint8

// SPIOptions say how a chip is clocked. Words are 8 bits, most significant bit
// first.
type SPIOptions struct {
	Hz   int64 // highest clock rate that the chip takes
	Mode SPIMode
}

// An SPIDevice is one chip select of an SPI bus.
type SPIDevice interface {
	// Tx clocks w out and as many bytes in to r, chip select low all the while.
	// Either may be nil, else they have one length.
	Tx(w, r []byte) error
	Close() error
}

// An SPIOpener is a Board with SPI buses.
type SPIOpener interface {
	SPIDevices() []string // what can be opened, "/dev/spidev0.0"
	OpenSPI(name string, o SPIOptions) (SPIDevice, error)
}

// A OneWire is a Board whose 1-Wire buses the kernel runs: it finds the chips
// and puts what they say into files.
type OneWire interface {
	// OneWireChips lists the chips that were found, by family and serial
	// number: "28-00000a1b2c3d".
	OneWireChips() ([]string, error)
	// ReadOneWire reads one file of a chip, such as w1_slave. That may make the
	// chip measure, for up to a second, and waits for its bus before. It wraps
	// ErrNoDevice if there is no such chip, fs.ErrNotExist if the chip has no
	// such file.
	ReadOneWire(chip, file string) ([]byte, error)
}

// A PWM is one output with pulses of a given length.
type PWM interface {
	// Set changes period and length of the pulses and starts them; width 0 is
	// off, width = period always on.
	Set(period, width time.Duration) error
	// Get reads both back; width is 0 while the output is off.
	Get() (period, width time.Duration, err error)
	// Close lets go of the output, which goes on.
	Close() error
}

// A PWMOpener is a Board with pulse-width outputs.
type PWMOpener interface {
	PWMs() []string // what can be opened, "pwmchip0:0"
	OpenPWM(name string) (PWM, error)
}
