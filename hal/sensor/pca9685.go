package sensor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers of the PCA9685 (NXP datasheet, rev. 4, 7.3).
const (
	pcaMode1        = 0x00
	pcaSubAddresses = 0x02 // and 0x03, 0x04; then that of all
	pcaFirst        = 0x06 // ON and OFF of output 0, lower byte first; 4 bytes for each
	pcaPrescale     = 0xFE

	pcaRestart = 1 << 7
	pcaSteps   = 1 << 5 // the register's address steps on
	pcaSleep   = 1 << 4
	pcaFull    = 1 << 4 // of the upper bytes: always on, always off

	pcaOutputs = 16
	pcaSteps12 = 4096
	pcaClock   = 25e6 // Hz, of the inner oscillator
)

var pca9685Driver = i2cDriver{
	Driver: Driver{
		Name:    "pca9685",
		Summary: "NXP PCA9685: 16 PWM outputs over I2C, that can be set, with read-back",
		Options: []Option{
			{"frequency", "number", "200", "of all outputs, 24 to 1526 Hz; servos want 50"},
			{"channels", "string", "0-15", "outputs to read and set, such as 0-3,7"},
		},
	},
	addresses: span(0x40, 0x77),
	pins:      "0x40 to 0x77, by A0 to A5",
	who: func(w *wire) string {
		// The addresses that several chips answer at, after power-on (7.3.6).
		// The register's address does not step on by itself.
		for i, want := range []byte{0xE2, 0xE4, 0xE8, 0xE0} {
			if got, err := w.get(pcaSubAddresses + byte(i)); err != nil || got != want {
				return ""
			}
		}
		return "PCA9685"
	},
	guess: true,
	set: func(o *options) chip {
		c := &pca9685{}
		// 7.3.5, with the 1 that is taken off after rounding.
		c.prescale = byte(math.Round(pcaClock/(pcaSteps12*o.number("frequency", 200, 24, 1526))) - 1)
		text := o.text("channels", "0-15")
		var ok bool
		if c.outputs, ok = outputList(text, pcaOutputs); !ok {
			o.fail("channels", "%q, want outputs such as 0-3,7, each once, 0 to 15", text)
		}
		return c
	},
}.driver()

// outputList reads "0-3,7".
func outputList(text string, below int) (outputs []int, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 8)
		to, err2 := strconv.ParseUint(last, 10, 8)
		if err != nil || err2 != nil || from > to || int(to) >= below {
			return nil, false
		}
		for n := int(from); n <= int(to); n++ {
			if slices.Contains(outputs, n) {
				return nil, false
			}
			outputs = append(outputs, n)
		}
	}
	return outputs, true
}

// pca9685 is the driver of the same name. It talks to the chip itself: periph's
// pca9685 (v3.7.4) writes a prescale that is one too high.
//
// A chip that already runs at the frequency is left as it is, so that a start of
// the agent moves no servo. One that had no power has all outputs off.
type pca9685 struct {
	prescale byte
	outputs  []int
}

var (
	_ settable   = (*pca9685)(nil)
	_ hal.Ranger = (*pca9685)(nil)
)

// channels: ch0 and so on are the part of the time, 0 to 1, that an output is on.
func (c *pca9685) channels() []hal.Channel {
	chs := make([]hal.Channel, len(c.outputs))
	for i, n := range c.outputs {
		chs[i] = hal.Channel{Name: fmt.Sprintf("ch%d", n), Kind: hal.Float}
	}
	return chs
}

// output is the number of a channel, -1 for none.
func (c *pca9685) output(channel string) int {
	for i, ch := range c.channels() {
		if ch.Name == channel {
			return c.outputs[i]
		}
	}
	return -1
}

// Range is that of each output.
func (c *pca9685) Range(channel string) (hal.Range, bool) {
	return hal.Range{Min: 0, Max: 1}, c.output(channel) >= 0
}

// isSet says whether the chip runs as it was set up.
func (c *pca9685) isSet(w *wire) (bool, error) {
	mode, err := w.get(pcaMode1)
	if err != nil || mode&(pcaSteps|pcaSleep) != pcaSteps || mode == 0xFF {
		return false, err
	}
	scale, err := w.get(pcaPrescale)
	return scale == c.prescale, err
}

// setUp sets the frequency, for which the chip must sleep (7.3.5), and wakes it
// again: outputs that ran go on.
func (c *pca9685) setUp(w *wire) error {
	if ok, err := c.isSet(w); ok || err != nil {
		return err
	}
	if err := settle(w, [][2]byte{{pcaMode1, pcaSleep | pcaSteps}}); err != nil {
		// RESTART shows that outputs ran; else the chip does not take the mode.
		if mode, again := w.get(pcaMode1); again != nil || mode != pcaRestart|pcaSleep|pcaSteps {
			return err
		}
	}
	mode, err := w.get(pcaMode1)
	if err != nil {
		return err
	}
	if err := settle(w, [][2]byte{{pcaPrescale, c.prescale}}); err != nil {
		return err
	}
	if err := w.put(pcaMode1, pcaSteps); err != nil {
		return err
	}
	if err := w.pause(time.Millisecond); err != nil { // the oscillator needs 500 µs (7.3.1)
		return err
	}
	if mode&pcaRestart != 0 {
		if err := w.put(pcaMode1, pcaRestart|pcaSteps); err != nil {
			return err
		}
	}
	if ok, err := c.isSet(w); err != nil || ok {
		return err
	}
	return fmt.Errorf("%w: its settings do not read back", hal.ErrNoDevice)
}

// measure reads all outputs back.
func (c *pca9685) measure(w *wire) ([]hal.Value, error) {
	if ok, err := c.isSet(w); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%w: the chip has lost its settings", ErrNotReady)
	}
	var b [4 * pcaOutputs]byte
	if err := w.read(pcaFirst, b[:]); err != nil {
		return nil, err
	}
	vals := make([]hal.Value, len(c.outputs))
	for i, n := range c.outputs {
		vals[i] = hal.FloatValue(round(pcaDuty([4]byte(b[4*n:])), 1e6))
	}
	return vals, nil
}

// pcaDuty is the part of the time that an output with these registers is on
// (7.3.3): off wins over on.
func pcaDuty(r [4]byte) float64 {
	on, off := int(r[1]&0xF)<<8|int(r[0]), int(r[3]&0xF)<<8|int(r[2])
	switch {
	case r[3]&pcaFull != 0:
		return 0
	case r[1]&pcaFull != 0:
		return 1
	}
	return float64((off-on+pcaSteps12)%pcaSteps12) / pcaSteps12
}

// pcaRegisters is the opposite. Equal counts of ON and OFF must not be written:
// the ends have bits of their own.
func pcaRegisters(duty float64) [4]byte {
	switch off := int(math.Round(duty * pcaSteps12)); off {
	case 0:
		return [4]byte{0, 0, 0, pcaFull}
	case pcaSteps12:
		return [4]byte{0, pcaFull, 0, 0}
	default:
		return [4]byte{0, 0, byte(off), byte(off >> 8)}
	}
}

func (c *pca9685) setChannel(w *wire, channel string, v hal.Value) error {
	d, err := numberIn(c, channel, v)
	if err != nil {
		return err
	}
	if ok, err := c.isSet(w); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%w: the chip has lost its settings", ErrNotReady)
	}
	reg, want := byte(pcaFirst+4*c.output(channel)), pcaRegisters(d)
	if err := w.put(reg, want[:]...); err != nil {
		return err
	}
	var got [4]byte
	if err := w.read(reg, got[:]); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: wrote % x, reads % x: %w", channel, want, got, ErrHeld)
	}
	return nil
}
