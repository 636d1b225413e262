package sim

import (
	"math"
	"time"
)

// A thermometer is a simulated LM75, TMP102, TMP105 or MCP9808 at register level.
// It converts by itself, one value after the other; shutdown and one-shot are
// left out, as are the thermostat and its pin.
type thermometer struct {
	twin
	kind    *thermometerKind
	regs    map[byte]uint16 // upper byte first; of one-byte registers the upper
	pointer byte
	since   time.Time // the conversions' begin: power-on, or the last new setting
}

// A thermometerKind is what makes one chip differ from the others.
type thermometerKind struct {
	temp     byte            // register of the temperature
	initial  map[byte]uint16 // after power-on
	writable map[byte]uint16 // bits that can be written
	narrow   []byte          // registers of one byte
	last     byte            // highest register
	// period is the time of a conversion, by the registers.
	period func(regs map[byte]uint16) time.Duration
	// encode is the register of the temperature.
	encode func(celsius float64, regs map[byte]uint16) uint16
}

// steps is v in counts of one n-th, held within bits of two's complement.
func steps(v float64, n float64, bits uint) int16 {
	top := float64(int(1) << (bits - 1))
	return int16(min(max(math.Round(v*n), -top), top-1))
}

// LM75 with 9 bits (LM75A's have 11; TI's datasheet SNOS808P, 7.4).
var lm75Kind = thermometerKind{
	initial:  map[byte]uint16{1: 0, 2: 0x4B00, 3: 0x5000},
	writable: map[byte]uint16{1: 0x1F00, 2: 0xFF80, 3: 0xFF80},
	narrow:   []byte{1},
	last:     3,
	period:   func(map[byte]uint16) time.Duration { return 100 * time.Millisecond },
	encode:   func(c float64, _ map[byte]uint16) uint16 { return uint16(steps(c, 2, 9)) << 7 },
}

// TMP105 (SBOS296, tables 4 to 8).
var tmp105Kind = thermometerKind{
	initial:  map[byte]uint16{1: 0, 2: 0x4B00, 3: 0x5000},
	writable: map[byte]uint16{1: 0x7F00, 2: 0xFFF0, 3: 0xFFF0},
	narrow:   []byte{1},
	last:     3,
	period: func(regs map[byte]uint16) time.Duration {
		return 27500 * time.Microsecond << (regs[1] >> 13 & 3)
	},
	encode: func(c float64, regs map[byte]uint16) uint16 {
		bits := uint(9 + regs[1]>>13&3)
		return uint16(steps(c, float64(int(1)<<(bits-8)), bits)) << (16 - bits)
	},
}

// TMP102 (SLOS397, tables 7-2 to 7-11). R1, R0 and AL can't be written.
var tmp102Kind = thermometerKind{
	initial:  map[byte]uint16{1: 0x60A0, 2: 0x4B00, 3: 0x5000},
	writable: map[byte]uint16{1: 0x1FD0, 2: 0xFFF0, 3: 0xFFF0},
	last:     3,
	period: func(regs map[byte]uint16) time.Duration {
		return []time.Duration{4 * time.Second, time.Second, 250 * time.Millisecond,
			125 * time.Millisecond}[regs[1]>>6&3]
	},
	encode: func(c float64, regs map[byte]uint16) uint16 {
		if regs[1]&(1<<4) != 0 {
			return uint16(steps(c, 16, 13))<<3 | 1
		}
		return uint16(steps(c, 16, 12)) << 4
	},
}

// MCP9808 (DS25095A, 5.1 to 5.2).
var mcp9808Kind = thermometerKind{
	temp:     5,
	initial:  map[byte]uint16{6: 0x0054, 7: 0x0400, 8: 0x0300},
	writable: map[byte]uint16{1: 0x07FF, 2: 0x1FFC, 3: 0x1FFC, 4: 0x1FFC, 8: 0x0300},
	narrow:   []byte{8},
	last:     8,
	period: func(regs map[byte]uint16) time.Duration {
		return []time.Duration{30, 65, 130, 250}[regs[8]>>8&3] * time.Millisecond
	},
	encode: func(c float64, regs map[byte]uint16) uint16 {
		cut := uint(3 - regs[8]>>8&3)
		return uint16(steps(c, 16, 13)>>cut<<cut) & 0x1FFF // no flags: the limits are 0 and off
	},
}

func thermometerOf(k *thermometerKind) func(uint64, Waveform, func() time.Time) Twin {
	return func(_ uint64, air Waveform, now func() time.Time) Twin {
		t := &thermometer{twin: twin{now: now, air: air}, kind: k}
		t.PowerCycle()
		return t
	}
}

func (t *thermometer) PowerCycle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.regs = map[byte]uint16{}
	for reg, v := range t.kind.initial {
		t.regs[reg] = v
	}
	t.pointer, t.since = 0, t.now()
}

// Tx is one I2C transfer: pointer and data, then a read.
func (t *thermometer) Tx(w, r []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(w) > 0 {
		t.pointer = w[0] & 0xF
	}
	if len(w) > 1 {
		v := uint16(w[1]) << 8
		if len(w) > 2 {
			v |= uint16(w[2])
		}
		t.write(v)
	}
	v := t.read()
	for i := range r {
		switch {
		case i == 0:
			r[i] = byte(v >> 8)
		case i == 1 && !t.isNarrow(t.pointer):
			r[i] = byte(v)
		default:
			r[i] = 0xFF
		}
	}
	return nil
}

func (t *thermometer) isNarrow(reg byte) bool {
	for _, n := range t.kind.narrow {
		if reg == n {
			return true
		}
	}
	return false
}

func (t *thermometer) write(v uint16) {
	can := t.kind.writable[t.pointer]
	now := t.regs[t.pointer]
	if now&can == v&can {
		return
	}
	t.regs[t.pointer] = now&^can | v&can
	if t.pointer == 1 || t.isNarrow(t.pointer) {
		t.since = t.now() // the conversion under way is given up
	}
}

// read is the register of the pointer; that of the temperature is 0 until the
// first conversion has ended, and then the last one's.
func (t *thermometer) read() uint16 {
	if t.pointer > t.kind.last {
		return 0xFFFF
	}
	if t.pointer != t.kind.temp {
		return t.regs[t.pointer]
	}
	period := t.kind.period(t.regs)
	done := t.now().Sub(t.since) / period
	if done < 1 {
		return 0
	}
	return t.kind.encode(t.air(t.since.Add(done*period)).Temperature, t.regs)
}
