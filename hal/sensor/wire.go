package sensor

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/tidemill/tidemill/hal"
)

// A wire is a chip as one reading sees it: an address on a bus. It refuses
// transfers after the reading's end.
type wire struct {
	ctx  context.Context // of the reading; a wire lives no longer
	bus  i2c.Bus
	addr uint16
}

// at is another address on the same bus, for chips that have two.
func (w *wire) at(addr uint16) *wire { return &wire{w.ctx, w.bus, addr} }

// tx writes, then reads with a repeated start; either may be nothing.
func (w *wire) tx(out, in []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.bus.Tx(w.addr, out, in)
}

// read reads registers from reg on.
func (w *wire) read(reg byte, into []byte) error { return w.tx([]byte{reg}, into) }

// get reads a register of one byte.
func (w *wire) get(reg byte) (byte, error) {
	var b [1]byte
	err := w.read(reg, b[:])
	return b[0], err
}

// put writes registers from reg on, in one transfer.
func (w *wire) put(reg byte, data ...byte) error { return w.tx(append([]byte{reg}, data...), nil) }

// word reads a register of two bytes, most significant first.
func (w *wire) word(reg byte) (uint16, error) {
	var b [2]byte
	err := w.read(reg, b[:])
	return binary.BigEndian.Uint16(b[:]), err
}

// putWord writes a register of two bytes, most significant first.
func (w *wire) putWord(reg byte, v uint16) error { return w.put(reg, byte(v>>8), byte(v)) }

// errShort is a wait that would outlast the reading.
var errShort = fmt.Errorf("%w: a reading takes longer than it may", ErrNotReady)

// pause waits; it ends with the reading. What would outlast that fails at once.
func (w *wire) pause(d time.Duration) error {
	if d >= w.left() {
		return fmt.Errorf("%w: at least %v more", errShort, d)
	}
	return pause(w.ctx, d)
}

// margin is how long before a reading's end a wait is given up, so that its
// reason can still be told.
const margin = 20 * time.Millisecond

// left is how long the reading may last.
func (w *wire) left() time.Duration {
	if end, ok := w.ctx.Deadline(); ok {
		return time.Until(end)
	}
	return math.MaxInt64
}

// await looks every so often whether done, at once the first time. After limit,
// or shortly before the reading's end, it is an ErrNotReady that says what did
// not come.
func (w *wire) await(what string, every, limit time.Duration, done func() (bool, error)) error {
	limit = min(limit, w.left()-margin)
	for began := time.Now(); ; {
		switch ok, err := done(); {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Since(began)+every > limit:
			return fmt.Errorf("%w: %s", ErrNotReady, what)
		}
		if err := w.pause(every); err != nil {
			return err
		}
	}
}

// pause waits; it ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dead says that a chip reads the same where it should not: all lines low or
// high, nothing drives them, or something holds them.
func dead(b byte) error {
	return fmt.Errorf("%w: it reads only %#02x: is the wiring right?", hal.ErrNoDevice, b)
}

// uniform says whether b is all zeros or all ones.
func uniform(b []byte) bool {
	for _, x := range b {
		if x != b[0] || x != 0 && x != 0xFF {
			return false
		}
	}
	return true
}

// round cuts to the decimals that the chip's arithmetic has, so that a record
// reads 21.5 and not 21.499999999.
func round(v, to float64) float64 { return math.Round(v*to) / to }

// within is v as a value if it lies in the chip's range, else ErrOutOfRange.
func within(v, least, most float64, unit string) (hal.Value, error) {
	if !(v >= least && v <= most) {
		return hal.Value{}, fmt.Errorf("%w: %.6g %s, want %g to %g %s", ErrOutOfRange, v, unit, least, most, unit)
	}
	return hal.FloatValue(v), nil
}
