package sensor

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/sensirion"
)

// unrefused is err, but for a refused question: a chip that does not know it is
// shown by its measurement, whose answer has checks too.
func unrefused(err error) error {
	if errors.Is(err, ErrNotReady) {
		return nil
	}
	return err
}

// command is a command of two bytes.
func command(c uint16) []byte { return []byte{byte(c >> 8), byte(c)} }

// lateBy is how much later than its datasheet says a chip of Sensirion may have an
// answer.
const lateBy = 20 * time.Millisecond

// ask gives a command and reads words with their checks, at first after the time
// that the chip takes. Until it has them it does not acknowledge a read.
func (w *wire) ask(command []byte, takes time.Duration, words []uint16) error {
	if err := w.tx(command, nil); err != nil {
		return err
	}
	if err := w.pause(takes); err != nil {
		return err
	}
	buf := make([]byte, 3*len(words))
	var refused error
	err := w.await("the chip refuses to be read", 2*time.Millisecond, lateBy, func() (bool, error) {
		refused = w.tx(nil, buf)
		if errors.Is(refused, hal.ErrNoDevice) {
			return false, nil
		}
		return true, refused
	})
	switch {
	case err != nil:
		return err
	case sensirion.Parse(buf, words):
		return nil
	case uniform(buf):
		return dead(buf[0])
	}
	return fmt.Errorf("%w: %x", ErrCRC, buf)
}
