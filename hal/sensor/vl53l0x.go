package sensor

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Registers of the VL53L0X, as far as ST names them (API user manual UM2039, and
// the header of its API, version 1.0).
const (
	vlStart       = 0x00 // SYSRANGE_START
	vlSequence    = 0x01 // SYSTEM_SEQUENCE_CONFIG
	vlInterrupt   = 0x0A // SYSTEM_INTERRUPT_CONFIG_GPIO
	vlClear       = 0x0B // SYSTEM_INTERRUPT_CLEAR
	vlReady       = 0x13 // RESULT_INTERRUPT_STATUS
	vlResult      = 0x14 // RESULT_RANGE_STATUS: 12 bytes, the distance in the last two
	vlLimit       = 0x44 // FINAL_RANGE_CONFIG_MIN_COUNT_RATE_RTN_LIMIT: 9.7 bits, MCPS
	vlLimitOff    = 0x60 // MSRC_CONFIG_CONTROL
	vlPin         = 0x84 // GPIO_HV_MUX_ACTIVE_HIGH
	vlI2CMode     = 0x88
	vlSupply      = 0x89 // VHV_CONFIG_PAD_SCL_SDA__EXTSUP_HV
	vlStop        = 0x91
	vlSpadInfo    = 0x92
	vlStrobe      = 0x83
	vlSpads       = 0xB0 // GLOBAL_CONFIG_SPAD_ENABLES_REF_0: 6 bytes
	vlSpadsFrom   = 0xB6 // GLOBAL_CONFIG_REF_EN_START_SELECT
	vlModel       = 0xC0 // IDENTIFICATION_MODEL_ID, and MODULE_TYPE after it
	vlPage        = 0xFF
	vlPower       = 0x80
	vlResultBytes = 12

	vlReadyBits = 7
	vlSteps     = 0xE8 // sequence: target check off, final range alone
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

// vlTuning are the API's default settings (vl53l0x_tuning.h).
var vlTuning = []vlWrite{
	{0xFF, 0x01}, {0x00, 0x00}, {0xFF, 0x00}, {0x09, 0x00}, {0x10, 0x00}, {0x11, 0x00}, {0x24, 0x01}, {0x25, 0xFF},
	{0x75, 0x00}, {0xFF, 0x01}, {0x4E, 0x2C}, {0x48, 0x00}, {0x30, 0x20}, {0xFF, 0x00}, {0x30, 0x09}, {0x54, 0x00},
	{0x31, 0x04}, {0x32, 0x03}, {0x40, 0x83}, {0x46, 0x25}, {0x60, 0x00}, {0x27, 0x00}, {0x50, 0x06}, {0x51, 0x00},
	{0x52, 0x96}, {0x56, 0x08}, {0x57, 0x30}, {0x61, 0x00}, {0x62, 0x00}, {0x64, 0x00}, {0x65, 0x00}, {0x66, 0xA0},
	{0xFF, 0x01}, {0x22, 0x32}, {0x47, 0x14}, {0x49, 0xFF}, {0x4A, 0x00}, {0xFF, 0x00}, {0x7A, 0x0A}, {0x7B, 0x00},
	{0x78, 0x21}, {0xFF, 0x01}, {0x23, 0x34}, {0x42, 0x00}, {0x44, 0xFF}, {0x45, 0x26}, {0x46, 0x05}, {0x40, 0x40},
	{0x0E, 0x06}, {0x20, 0x1A}, {0x43, 0x40}, {0xFF, 0x00}, {0x34, 0x03}, {0x35, 0x44}, {0xFF, 0x01}, {0x31, 0x04},
	{0x4B, 0x09}, {0x4C, 0x05}, {0x4D, 0x04}, {0xFF, 0x00}, {0x44, 0x00}, {0x45, 0x20}, {0x47, 0x08}, {0x48, 0x28},
	{0x67, 0x00}, {0x70, 0x04}, {0x71, 0x01}, {0x72, 0xFE}, {0x76, 0x00}, {0x77, 0x00}, {0xFF, 0x01}, {0x0D, 0x01},
	{0xFF, 0x00}, {0x80, 0x01}, {0x01, 0xF8}, {0xFF, 0x01}, {0x8E, 0x01}, {0x00, 0x01}, {0xFF, 0x00}, {0x80, 0x00},
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
