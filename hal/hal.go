// Package hal says what a board, a bus, a sensor and an actuator are, and what
// a reading is made of. It holds interfaces and values only; real boards live
// in hal/board, chips and sources in hal/sensor, simulated ones in hal/sim.
package hal

import (
	"context"
	"errors"
	"math"
	"time"

	"periph.io/x/conn/v3/i2c"
)

// ErrNoDevice means that nothing answers where the configuration says a bus,
// line or chip is. It is worth retrying: a cable can come back.
var ErrNoDevice = errors.New("hal: no such device")

// Kind is the type of a channel's values.
type Kind uint8

// The kinds; the zero Kind marks an absent Value.
const (
	Absent Kind = iota
	Float
	Int
	Bool
	Text
)

// A Channel is one quantity that a sensor measures.
type Channel struct {
	Name string // member name in the JSON record: [a-z][a-z0-9_]*, at most 32 bytes
	Unit string // "°C", "Pa", "%RH", "s", "B", "1/s", "" for none
	Kind Kind
}

// A Value is one measured value, or none (Kind Absent) where a channel has
// nothing to say this time.
type Value struct {
	kind Kind
	num  uint64
	text string
}

// FloatValue returns a Float of any float64, NaN and infinities included.
func FloatValue(f float64) Value { return Value{kind: Float, num: math.Float64bits(f)} }

// IntValue returns an Int.
func IntValue(i int64) Value { return Value{kind: Int, num: uint64(i)} }

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	v := Value{kind: Bool}
	if b {
		v.num = 1
	}
	return v
}

// TextValue returns a Text.
func TextValue(s string) Value { return Value{kind: Text, text: s} }

// Kind says which of the getters below holds.
func (v Value) Kind() Kind { return v.kind }

// Float returns a Float's number.
func (v Value) Float() float64 { return math.Float64frombits(v.num) }

// Int returns an Int's number.
func (v Value) Int() int64 { return int64(v.num) }

// Bool returns a Bool's truth.
func (v Value) Bool() bool { return v.num != 0 }

// Text returns a Text's string.
func (v Value) Text() string { return v.text }

// A Sensor reads one or more channels at once. One goroutine calls Read at a
// time.
type Sensor interface {
	// Channels never changes in a sensor's life.
	Channels() []Channel
	// Read returns one value for each channel, in their order, in a slice that
	// is the caller's. It returns by ctx's end. After an error the sensor may
	// be read again.
	Read(ctx context.Context) ([]Value, error)
	// Close ends what Open started. It may be called more than once; a Read
	// after it fails.
	Close() error
}

// An Actuator is a Sensor whose channels can also be set.
type Actuator interface {
	Sensor
	// Set drives the named channel and returns when a read-back shows it.
	Set(ctx context.Context, channel string, v Value) error
}

// A Noter is a Sensor with something to say to whoever set it up, such as that
// it is another chip than it was sold as; "" for nothing.
type Noter interface {
	Note() string
}

// A DigitalInput is one input line.
type DigitalInput interface {
	Read() (bool, error)
	// WaitForEdge blocks until the level changes (true), or until timeout or
	// Close (false). Each true stands for one change since the line was opened,
	// so changes between two calls are not lost. Lines without interrupts poll
	// and see only the changes that last from one look to the next. A negative
	// timeout waits for ever. One goroutine at a time calls it.
	WaitForEdge(timeout time.Duration) bool
	Close() error
}

// A DigitalOutput is one output line.
type DigitalOutput interface {
	Set(high bool) error
	// Get reads the line back, not a remembered value, where hardware can.
	Get() (bool, error)
	Close() error
}

// A Board hands out buses and lines by name.
type Board interface {
	Buses() []string                           // I2C bus names that can be opened, e.g. "/dev/i2c-1"
	I2C(bus string) (i2c.BusCloser, error)     // shared handles: safe for several chips on one bus
	Input(line string) (DigitalInput, error)   // line is a name, "GPIO17", or "chip:offset", "pinctrl-rp1:17"
	Output(line string) (DigitalOutput, error) // keeps the level that the line has
	Close() error
}

// Pull is what holds an input at a level while nothing drives it.
type Pull uint8

// The pulls; the zero Pull leaves the line as it is.
const (
	PullAsIs Pull = iota
	PullNone
	PullUp
	PullDown
)

// InputOptions say how an input line is set up.
type InputOptions struct {
	Pull Pull
	// Poll looks at the level this often in place of using interrupts, which
	// some controllers and QEMU's Raspberry Pi lack. 0 takes interrupts where
	// the line has them.
	Poll time.Duration
}

// An InputOpener is a Board that can set inputs up.
type InputOpener interface {
	OpenInput(line string, o InputOptions) (DigitalInput, error)
}

// An OutputOpener is a Board that can open an output at a given level, with no
// moment of the other level between.
type OutputOpener interface {
	OpenOutput(line string, high bool) (DigitalOutput, error)
}

// A LineLister is a Board that can tell which lines it has.
type LineLister interface {
	// LineChips lists what can be opened now. Chips that cannot be looked at
	// are left out, and the error names them.
	LineChips() ([]LineChip, error)
}

// A LineChip is a controller of lines.
type LineChip struct {
	Name  string // "gpiochip0"; may be another after a reboot
	Label string // "pinctrl-bcm2711": what the controller is, the same on every start
	Lines []Line // by offset
}

// A Line is one line of a LineChip.
type Line struct {
	Name string // "GPIO17", as the board's description has it; "" for none
	User string // who holds it, "" for nobody
}
