package sensor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var ds18b20Driver = driver{
	Driver: Driver{
		Name:    "ds18b20",
		Summary: "Maxim DS18B20, DS18S20 and DS1822: temperature on the kernel's 1-Wire bus",
		Options: []Option{
			{"device", "string", "", "name, such as 28-00000a1b2c3d; the board's only thermometer if left out"},
		},
	},
	set: func(o *options) opener {
		s := &ds18b20{name: o.text("device", "")}
		return s.open
	},
}

// thermometers are the families of 1-Wire chips whose scratchpad is that of the
// DS18B20, but for familyDS18S20.
var thermometers = map[string]string{"10": "DS18S20", "22": "DS1822", "28": "DS18B20", "42": "DS28EA00"}

const familyDS18S20 = "10"

// ds18b20 is the driver of the same name. The kernel talks to the chip: reading
// its file w1_slave makes it measure, 0.75 s at 12 bits. The bytes in the file
// are judged here, as the kernel passes on what a chip says that had no power to
// measure.
type ds18b20 struct {
	calls
	name  string
	board hal.OneWire
	last  float64 // °C; NaN before the first; belongs to the goroutine that reads
}

func (s *ds18b20) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	var ok bool
	if s.board, ok = b.(hal.OneWire); !ok {
		return nil, fmt.Errorf("%w: the board has no 1-Wire", hal.ErrNoDevice)
	}
	s.release, s.last = func() error { return nil }, math.NaN()
	if s.name == "" {
		if err := s.find(); err != nil {
			return nil, err
		}
	}
	if family, _, _ := strings.Cut(s.name, "-"); thermometers[family] == "" {
		return nil, fmt.Errorf("%w: %s is of family %s, no thermometer", ErrWrongID, s.name, family)
	}
	// The first reading shows that the chip is there.
	if _, err := s.Read(ctx); err != nil && !answered(err) {
		return nil, err
	}
	return s, nil
}

// find takes the only thermometer.
func (s *ds18b20) find() error {
	chips, err := s.board.OneWireChips()
	if err != nil {
		return err
	}
	var found []string
	for _, c := range chips {
		if family, _, _ := strings.Cut(c, "-"); thermometers[family] != "" {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("%w: no thermometer on 1-Wire; on a Raspberry Pi: dtoverlay=w1-gpio in config.txt",
			hal.ErrNoDevice)
	case 1:
		s.name = found[0]
		return nil
	}
	return &OptionError{Key: "device", Problem: "there are several, want one of " + strings.Join(found, ", ")}
}

// Channels: to 0.0625 °C at 12 bits, to 0.5 °C at 9.
func (*ds18b20) Channels() []hal.Channel { return []hal.Channel{temperature} }

// oneWireConvert is how long a reading takes, with the bus: what a second try
// needs.
const oneWireConvert = time.Second

// Read makes the chip measure once, -55 to 125 °C. An answer that is damaged, or
// is no measurement, is asked for once more if there is time.
func (s *ds18b20) Read(ctx context.Context) ([]hal.Value, error) {
	var celsius float64
	err := s.do(ctx, func() (err error) {
		for range triesDamaged {
			celsius, err = s.once()
			if end, ok := ctx.Deadline(); err == nil || !errors.Is(err, ErrCRC) && !errors.Is(err, ErrNotReady) ||
				ctx.Err() != nil || ok && time.Until(end) < oneWireConvert {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ds18b20 %s: %w", s.name, err)
	}
	return []hal.Value{hal.FloatValue(celsius)}, nil
}

func (s *ds18b20) once() (float64, error) {
	text, err := s.board.ReadOneWire(s.name, "w1_slave")
	var celsius float64
	switch {
	case err == nil:
		celsius, err = parseW1Slave(s.name[:2], string(text))
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, hal.ErrNoDevice):
		celsius, err = s.thousandths()
	case !errors.Is(err, hal.ErrNoDevice):
		err = fmt.Errorf("%w: the chip does not answer: %w", hal.ErrNoDevice, err)
	}
	if err != nil {
		return 0, err
	}
	v, err := within(celsius, -55, 125, "°C")
	if err != nil {
		return 0, err
	}
	s.last = v.Float()
	return s.last, nil
}

// thousandths reads the file temperature, in thousandths of °C, of drivers that give
// no bytes. 85 °C there can also be a chip that has not measured, so that counts only
// near the reading before.
func (s *ds18b20) thousandths() (float64, error) {
	text, err := s.board.ReadOneWire(s.name, "temperature")
	if err != nil {
		return 0, fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
	}
	milli, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	switch {
	case len(text) == 0:
		return 0, fmt.Errorf("%w: the kernel has no answer of the chip", ErrNotReady)
	case err != nil:
		return 0, fmt.Errorf("%w: %s of the file temperature", ErrImplausible, show(string(text)))
	case milli == 85000 && !(math.Abs(s.last-85) <= near):
		return 0, fmt.Errorf("%w: 85 °C, as after power-on", ErrNotReady)
	}
	return float64(milli) / 1000, nil
}

// Close leaves a reading behind that still waits for the bus.
func (s *ds18b20) Close() error { return s.close() }

// parseW1Slave reads the kernel's text of two lines (w1_therm.c): the chip's nine
// bytes, the sum that the kernel worked out with its verdict, the bytes again
// with the temperature in m°C. The kernel's temperature must be there, but that
// of the bytes counts. family is that of the chip.
func parseW1Slave(family, text string) (celsius float64, err error) {
	first, second, ok := strings.Cut(strings.TrimSuffix(text, "\n"), "\n")
	if text == "" {
		return 0, fmt.Errorf("%w: the kernel has no answer of the chip", ErrNotReady)
	}
	bytes, verdict, colon := strings.Cut(first, " : crc=")
	var pad [9]byte
	words := strings.Split(bytes, " ")
	for i, w := range words {
		n, bad := strconv.ParseUint(w, 16, 8)
		if bad != nil || len(w) != 2 || len(words) != len(pad) {
			return 0, fmt.Errorf("%w: %s of the file w1_slave", ErrImplausible, show(first))
		}
		pad[i] = byte(n)
	}
	if !ok || !colon || len(verdict) < 4 {
		return 0, fmt.Errorf("%w: %s of the file w1_slave", ErrImplausible, show(text))
	}
	if verdict[2:] != " YES" {
		if uniform(pad[:]) && pad[0] == 0xFF {
			return 0, dead(0xFF) // nobody drives the bus
		}
		return 0, fmt.Errorf("%w: % x", ErrCRC, pad)
	}
	_, kernel, _ := strings.Cut(second, " t=")
	if _, err := strconv.ParseInt(kernel, 10, 32); err != nil {
		return 0, fmt.Errorf("%w: the file w1_slave has no temperature", ErrImplausible)
	}
	return scratchpad(family, &pad)
}

// Bytes of the scratchpad (DS18B20 figure 4, DS18S20 figure 4).
const (
	padConfig  = 4
	padFresh   = 6 // 0C after power-on, while the temperature is 85 °C
	padRemain  = 6 // of the DS18S20: COUNT_REMAIN of 16
	padCRC     = 8
	powerOnPad = 0x0C
)

// scratchpad is the temperature in a chip's bytes. What is not one says why.
func scratchpad(family string, pad *[9]byte) (celsius float64, err error) {
	if uniform(pad[:]) {
		if pad[0] == 0xFF {
			return 0, dead(0xFF)
		}
		return 0, fmt.Errorf("%w: all bytes are 0", ErrImplausible)
	}
	if got := oneWireCRC(pad[:padCRC]); got != pad[padCRC] {
		return 0, fmt.Errorf("%w: % x, want %02x at the end", ErrCRC, pad, got)
	}
	raw := int16(uint16(pad[0]) | uint16(pad[1])<<8)
	if family == familyDS18S20 {
		if raw == 85*2 && pad[padFresh] == powerOnPad {
			return 0, fmt.Errorf("%w: 85 °C, as after power-on", ErrNotReady)
		}
		if pad[padRemain] > 16 {
			return 0, fmt.Errorf("%w: COUNT_REMAIN %d of 16", ErrImplausible, pad[padRemain])
		}
		// DS18S20 "operation": the half degree is cut off, COUNT_REMAIN has it.
		return float64(raw>>1) - 0.25 + float64(16-int(pad[padRemain]))/16, nil
	}
	if pad[padConfig]&0x9F != 0x1F {
		return 0, fmt.Errorf("%w: configuration %02x", ErrImplausible, pad[padConfig])
	}
	if raw == 85*16 && pad[padFresh] == powerOnPad {
		return 0, fmt.Errorf("%w: 85 °C, as after power-on: is the supply, or the pull-up of 4.7 kΩ, too weak?",
			ErrNotReady)
	}
	// At 9 to 11 bits the lowest 3 to 1 are not defined (table 1).
	unused := 3 - int16(pad[padConfig]>>5&3)
	return float64(raw&^(1<<unused-1)) / 16, nil
}

// oneWireCRC is Maxim's check of 1-Wire: x^8 + x^5 + x^4 + 1, from the lowest bit on.
func oneWireCRC(data []byte) byte {
	var crc byte
	for _, b := range data {
		crc ^= b
		for range 8 {
			low := crc & 1
			if crc >>= 1; low != 0 {
				crc ^= 0x8C
			}
		}
	}
	return crc
}
