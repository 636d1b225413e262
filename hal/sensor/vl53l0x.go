package sensor

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var vl53l0xDriver = i2cDriver{
	Driver: Driver{
		Name:    "vl53l0x",
		Summary: "ST VL53L0X: distance by time of flight over I2C",
	},
	addresses: []uint16{0x29},
	pins:      "0x29; what other programs changed it to is lost with the supply",
	who: func(w *wire) string {
		var id [2]byte
		if err := w.read(vlModel, id[:]); err == nil && id == [2]byte{0xEE, 0xAA} {
			return "VL53L0X"
		}
		return ""
	},
	set: func(*options) chip { return &vl53l0x{} },
}.driver()

// vl53l0x is the driver of the same name. ST documents the chip only by its API;
// the settings and their order are that API's, with the default profile: 33 ms
// for one measurement, up to 1.2 m.
type vl53l0x struct {
	stop byte // what the API calls the stop variable, different in each chip
}

// channels: whole mm.
func (*vl53l0x) channels() []hal.Channel {
	return []hal.Channel{{Name: "distance", Unit: "mm", Kind: hal.Int}}
}

// A vlWrite is one register and its value.
type vlWrite [2]byte

func (*vl53l0x) writes(w *wire, list ...vlWrite) error {
	for _, x := range list {
		if err := w.put(x[0], x[1]); err != nil {
			return err
		}
	}
	return nil
}

// change reads a register and writes it with some bits cleared and some set.
func (*vl53l0x) change(w *wire, reg, clear, set byte) error {
	v, err := w.get(reg)
	if err != nil {
		return err
	}
	return w.put(reg, v&^clear|set)
}

// setUp is the API's DataInit, StaticInit and PerformRefCalibration.
func (c *vl53l0x) setUp(w *wire) error {
	if err := c.identify(w); err != nil {
		return err
	}
	for _, step := range []func(w *wire) error{c.dataInit, c.spads, c.tune, c.calibrate} {
		if err := step(w); err != nil {
			return err
		}
	}
	return nil
}

func (c *vl53l0x) identify(w *wire) error {
	var id [2]byte
	if err := w.read(vlModel, id[:]); err != nil {
		return err
	}
	switch {
	case uniform(id[:]):
		// A VL53L1X, with its register addresses of 16 bits, also reads zeros here.
		return dead(id[0])
	case id != [2]byte{0xEE, 0xAA}:
		return fmt.Errorf("%w: ids % x, want ee aa (VL53L0X)", ErrWrongID, id)
	}
	return nil
}

func (c *vl53l0x) dataInit(w *wire) error {
	if err := c.change(w, vlSupply, 0, 1); err != nil { // lines at 2.8 V
		return err
	}
	if err := c.writes(w, vlWrite{vlI2CMode, 0}, vlWrite{vlPower, 1}, vlWrite{vlPage, 1},
		vlWrite{vlStart, 0}); err != nil {
		return err
	}
	var err error
	if c.stop, err = w.get(vlStop); err != nil {
		return err
	}
	if err := c.writes(w, vlWrite{vlStart, 1}, vlWrite{vlPage, 0}, vlWrite{vlPower, 0}); err != nil {
		return err
	}
	if err := c.change(w, vlLimitOff, 0, 0x12); err != nil { // no limits before the final range
		return err
	}
	if err := w.put(vlLimit, 0x00, 0x20); err != nil { // 0.25 MCPS
		return err
	}
	return w.put(vlSequence, 0xFF)
}

// spads switches on as many of the reference's photodiodes as the chip's maker
// noted in it.
func (c *vl53l0x) spads(w *wire) error {
	if err := c.writes(w, vlWrite{vlPower, 1}, vlWrite{vlPage, 1}, vlWrite{vlStart, 0},
		vlWrite{vlPage, 6}); err != nil {
		return err
	}
	if err := c.change(w, vlStrobe, 0, 4); err != nil {
		return err
	}
	if err := c.writes(w, vlWrite{vlPage, 7}, vlWrite{0x81, 1}, vlWrite{vlPower, 1}, vlWrite{0x94, 0x6B},
		vlWrite{vlStrobe, 0}); err != nil {
		return err
	}
	if err := w.await("the chip's notes do not come", time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		v, err := w.get(vlStrobe)
		return v != 0, err
	}); err != nil {
		return err
	}
	if err := w.put(vlStrobe, 1); err != nil {
		return err
	}
	info, err := w.get(vlSpadInfo)
	if err != nil {
		return err
	}
	if err := c.writes(w, vlWrite{0x81, 0}, vlWrite{vlPage, 6}); err != nil {
		return err
	}
	if err := c.change(w, vlStrobe, 4, 0); err != nil {
		return err
	}
	if err := c.writes(w, vlWrite{vlPage, 1}, vlWrite{vlStart, 1}, vlWrite{vlPage, 0},
		vlWrite{vlPower, 0}); err != nil {
		return err
	}
	var spads [6]byte
	if err := w.read(vlSpads, spads[:]); err != nil {
		return err
	}
	// 4F: DYNAMIC_SPAD_REF_EN_START_OFFSET, 4E: ..._NUM_REQUESTED_REF_SPAD.
	if err := c.writes(w, vlWrite{vlPage, 1}, vlWrite{0x4F, 0}, vlWrite{0x4E, 0x2C}, vlWrite{vlPage, 0},
		vlWrite{vlSpadsFrom, 0xB4}); err != nil {
		return err
	}
	chosen := chooseSpads(spads, info)
	return w.put(vlSpads, chosen[:]...)
}

// chooseSpads keeps as many of the good diodes as info says: from the thirteenth
// on if they are those behind the aperture.
func chooseSpads(good [6]byte, info byte) (chosen [6]byte) {
	count, from := int(info&0x7F), 0
	if info&0x80 != 0 {
		from = 12
	}
	for i := from; i < 48 && count > 0; i++ {
		if bit := byte(1) << (i % 8); good[i/8]&bit != 0 {
			chosen[i/8] |= bit
			count--
		}
	}
	return chosen
}

func (c *vl53l0x) tune(w *wire) error {
	if err := c.writes(w, vlTuning...); err != nil {
		return err
	}
	if err := w.put(vlInterrupt, 4); err != nil { // when a measurement is there
		return err
	}
	if err := c.change(w, vlPin, 0x10, 0); err != nil { // its pin is low then
		return err
	}
	return c.writes(w, vlWrite{vlClear, 1}, vlWrite{vlSequence, vlSteps})
}

// calibrate measures the chip's own reference: voltage, then phase.
func (c *vl53l0x) calibrate(w *wire) error {
	for _, x := range [][2]byte{{0x01, 0x41}, {0x02, 0x01}} {
		if err := c.writes(w, vlWrite{vlSequence, x[0]}, vlWrite{vlStart, x[1]}); err != nil {
			return err
		}
		if err := c.await(w, "its calibration does not end"); err != nil {
			return err
		}
		if err := c.writes(w, vlWrite{vlClear, 1}, vlWrite{vlStart, 0}); err != nil {
			return err
		}
	}
	return w.put(vlSequence, vlSteps)
}

func (*vl53l0x) await(w *wire, what string) error {
	return w.await(what, 2*time.Millisecond, 500*time.Millisecond, func() (bool, error) {
		v, err := w.get(vlReady)
		return v&vlReadyBits != 0, err
	})
}

// measure makes the chip measure once. Nothing within reach is an ErrOutOfRange.
func (c *vl53l0x) measure(w *wire) ([]hal.Value, error) {
	// A brown-out loses the settings, and the chip then measures wrongly at best.
	if v, err := w.get(vlSequence); err != nil {
		return nil, err
	} else if v != vlSteps {
		return nil, fmt.Errorf("%w: the chip has lost its settings", ErrNotReady)
	}
	if err := c.writes(w, vlWrite{vlPower, 1}, vlWrite{vlPage, 1}, vlWrite{vlStart, 0}, vlWrite{vlStop, c.stop},
		vlWrite{vlStart, 1}, vlWrite{vlPage, 0}, vlWrite{vlPower, 0}, vlWrite{vlStart, 1}); err != nil {
		return nil, err
	}
	if err := w.await("the measurement does not begin", time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		v, err := w.get(vlStart)
		return v&1 == 0, err
	}); err != nil {
		return nil, err
	}
	if err := c.await(w, "the measurement does not end"); err != nil {
		return nil, err
	}
	var b [vlResultBytes]byte
	if err := w.read(vlResult, b[:]); err != nil {
		return nil, err
	}
	if err := w.put(vlClear, 1); err != nil {
		return nil, err
	}
	mm := binary.BigEndian.Uint16(b[10:])
	if err := vlJudge(b[0]>>3&0xF, mm); err != nil {
		return nil, err
	}
	return []hal.Value{hal.IntValue(int64(mm))}, nil
}

// vlFar is what the chip gives where nothing came back, in mm.
const vlFar = 8190

// vlJudge says what the status of a measurement means (API: RangeStatus of
// VL53L0X_get_pal_range_status).
func vlJudge(status byte, mm uint16) error {
	switch status {
	case 11: // good
		if mm >= vlFar {
			return fmt.Errorf("%w: nothing came back", ErrOutOfRange)
		}
		return nil
	case 1, 2, 3:
		return fmt.Errorf("%w: laser or reference, status %d", ErrFault, status)
	case 4:
		return fmt.Errorf("%w: too little came back", ErrOutOfRange)
	case 6, 9:
		return fmt.Errorf("%w: too far, or a mirror: the phase is ambiguous", ErrOutOfRange)
	case 8, 10:
		return fmt.Errorf("%w: too near", ErrOutOfRange)
	}
	return fmt.Errorf("%w: status %d", ErrNotReady, status)
}
