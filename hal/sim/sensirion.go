package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/sensirion"
)

// answers is what a chip of commands has to say: bytes that can be read from a
// time on.
type answers struct {
	bytes []byte
	at    time.Time
}

// give reads the answer once. Without one, or before its time, the chip refuses.
func (a *answers) give(now time.Time, r []byte) error {
	if len(a.bytes) == 0 || now.Before(a.at) {
		return fmt.Errorf("read refused: %w", hal.ErrNoDevice)
	}
	for i := range r {
		r[i] = 0xFF
	}
	copy(r, a.bytes)
	a.bytes = nil
	return nil
}

// fraction is v in 65535ths of the way from low to high, held within both.
func fraction(v, low, high float64) uint16 {
	return uint16(math.Round(min(max((v-low)/(high-low), 0), 1) * 65535))
}

// rawTemperature is a temperature as all three chips have it.
func rawTemperature(celsius float64) uint16 { return fraction(celsius, -45, 130) }

// An sht is a simulated SHT3x or SHT4x: single measurements, without clock
// stretching; the SHT3x's alert limits and both chips' heaters are left out.
type sht struct {
	twin
	obey   func(c *sht, command []byte)
	serial [2]uint16
	status uint16
	out    answers
}

func (c *sht) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = answers{}
	c.status = 0x8010 // SHT3x: an alert and a reset are pending (table 18)
}

// Tx is one I2C transfer: a command, then a read of its answer.
func (c *sht) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(w) > 0 {
		c.out = answers{}
		c.obey(c, w)
	}
	if len(r) == 0 {
		return nil
	}
	return c.out.give(c.now(), r)
}

func (c *sht) answer(after time.Duration, words ...uint16) {
	c.out = answers{sensirion.Append(nil, words...), c.now().Add(after)}
}

func newSHT3x(_ uint64, air Waveform, now func() time.Time) Twin {
	c := &sht{twin: twin{now: now, air: air}, obey: (*sht).obey3}
	c.PowerCycle()
	return c
}

func (c *sht) obey3(command []byte) {
	if len(command) != 2 {
		return
	}
	took := time.Duration(0) // table 4, typical
	switch uint16(command[0])<<8 | uint16(command[1]) {
	case sensirion.SHT3xStatus:
		c.answer(0, c.status)
		return
	case sensirion.SHT3xReset:
		c.status = 0x8010
		return
	case sensirion.SHT3xHigh:
		took = 12500 * time.Microsecond
	case sensirion.SHT3xMedium:
		took = 4500 * time.Microsecond
	case sensirion.SHT3xLow:
		took = 2500 * time.Microsecond
	default:
		return
	}
	air := c.air(c.now())
	c.answer(took, rawTemperature(air.Temperature), fraction(air.Humidity, 0, 100))
}

func newSHT4x(seed uint64, air Waveform, now func() time.Time) Twin {
	c := &sht{twin: twin{now: now, air: air}, obey: (*sht).obey4,
		serial: [2]uint16{uint16(mix(seed)), uint16(mix(seed) >> 16)}}
	c.PowerCycle()
	return c
}

func (c *sht) obey4(command []byte) {
	if len(command) != 1 {
		return
	}
	took := time.Duration(0) // table 5, typical
	switch command[0] {
	case sensirion.SHT4xSerial:
		c.answer(0, c.serial[:]...)
		return
	case sensirion.SHT4xHigh:
		took = 6900 * time.Microsecond
	case sensirion.SHT4xMedium:
		took = 3700 * time.Microsecond
	case sensirion.SHT4xLow:
		took = 1300 * time.Microsecond
	default:
		return
	}
	air := c.air(c.now())
	c.answer(took, rawTemperature(air.Temperature), fraction(air.Humidity, -6, 119))
}

// An scd4x is a simulated SCD41: periodic measurement, and the settings of
// altitude and self-calibration, which change no value.
type scd4x struct {
	twin
	serial   [3]uint16
	settings map[uint16]uint16 // by the command that reads them
	started  time.Time         // zero while idle
	stopped  time.Time         // other commands only 500 ms later
	read     int64             // measurements that were read, or are gone
	out      answers
}

const (
	scd4xPeriod = 5 * time.Second
	scd4xStop   = 500 * time.Millisecond
)

func newSCD4x(seed uint64, air Waveform, now func() time.Time) Twin {
	s := mix(seed)
	c := &scd4x{twin: twin{now: now, air: air}, serial: [3]uint16{uint16(s), uint16(s >> 16), uint16(s >> 32)}}
	c.PowerCycle()
	return c
}

func (c *scd4x) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings = map[uint16]uint16{sensirion.SCD4xGetAltitude: 0, sensirion.SCD4xGetSelfCalib: 1}
	c.started, c.stopped, c.read, c.out = time.Time{}, time.Time{}, 0, answers{}
}

// Tx is one I2C transfer: a command, with a word or none, then a read.
func (c *scd4x) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(w) >= 2 {
		c.out = answers{}
		c.obey(uint16(w[0])<<8|uint16(w[1]), w[2:])
	}
	if len(r) == 0 {
		return nil
	}
	return c.out.give(c.now(), r)
}

// measured is the number of the last measurement.
func (c *scd4x) measured() int64 {
	if c.started.IsZero() {
		return 0
	}
	return int64(c.now().Sub(c.started) / scd4xPeriod)
}

func (c *scd4x) answer(words ...uint16) {
	c.out = answers{sensirion.Append(nil, words...), c.now().Add(time.Millisecond)}
}

// obey does what a command says; while it measures the chip knows but three.
func (c *scd4x) obey(command uint16, data []byte) {
	idle := c.started.IsZero() && c.now().Sub(c.stopped) >= scd4xStop
	switch n := c.measured(); {
	case command == sensirion.SCD4xReady:
		ready := uint16(0x8000)
		if n > c.read {
			ready |= 6
		}
		c.answer(ready)
	case command == sensirion.SCD4xRead && n > c.read:
		c.read = n
		air := c.air(c.started.Add(time.Duration(n) * scd4xPeriod))
		c.answer(uint16(min(max(math.Round(air.CO2), 0), 40000)), rawTemperature(air.Temperature),
			fraction(air.Humidity, 0, 100))
	case command == sensirion.SCD4xStop:
		c.started, c.stopped, c.read = time.Time{}, c.now(), 0
	case !idle:
	case command == sensirion.SCD4xStart:
		c.started = c.now()
	case command == sensirion.SCD4xSerial:
		c.answer(c.serial[:]...)
	case command == sensirion.SCD4xGetAltitude, command == sensirion.SCD4xGetSelfCalib:
		c.answer(c.settings[command])
	case command == sensirion.SCD4xSetAltitude:
		c.set(sensirion.SCD4xGetAltitude, data)
	case command == sensirion.SCD4xSetSelfCalib:
		c.set(sensirion.SCD4xGetSelfCalib, data)
	}
}

func (c *scd4x) set(setting uint16, data []byte) {
	var v [1]uint16
	if sensirion.Parse(data, v[:]) {
		c.settings[setting] = v[0]
	}
}
