package sim

import (
	"math"
	"time"
)

// An ADS1x15 is a simulated TI ADS1115 or ADS1015 (SBAS444 and SBAS473, 8.1), in
// single-shot mode alone; the comparator is left out. Several goroutines may use
// it.
type ADS1x15 struct {
	wordRegisters
	bits  int
	volts [4]float64 // at AIN0 to AIN3
	since time.Time  // begin of the conversion
	runs  bool
}

// adsReset is the configuration after power-on (table 8-3).
const adsReset = 0x8583

// NewADS1115 returns a chip of 16 bits, NewADS1015 one of 12.
func NewADS1115() *ADS1x15 { return newADS(16) }

// NewADS1015 returns a chip of 12 bits.
func NewADS1015() *ADS1x15 { return newADS(12) }

func newADS(bits int) *ADS1x15 {
	c := &ADS1x15{bits: bits}
	c.read, c.write = c.reads, c.writes
	c.PowerCycle()
	return c
}

// Put changes the voltages at AIN0 to AIN3, in V.
func (c *ADS1x15) Put(volts [4]float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.volts = volts
}

// PowerCycle puts the chip into the state after power-on.
func (c *ADS1x15) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w, c.runs = [256]uint16{1: adsReset, 2: 0x8000, 3: 0x7FFF}, false
}

func (c *ADS1x15) reads(reg byte) uint16 {
	rates := []int64{8, 16, 32, 64, 128, 250, 475, 860}
	if c.bits == 12 {
		rates = []int64{128, 250, 490, 920, 1600, 2400, 3300, 3300}
	}
	if c.runs && time.Since(c.since) >= time.Second/time.Duration(rates[c.w[1]>>5&7]) {
		c.runs = false
		c.w[0] = c.code()
	}
	v := c.w[reg]
	if reg == 1 && c.runs {
		v &^= 1 << 15
	}
	return v
}

// code is what the inputs give.
func (c *ADS1x15) code() uint16 {
	pairs := [4][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}}
	mux := c.w[1] >> 12 & 7
	v := c.volts[mux&3]
	if mux < 4 {
		v = c.volts[pairs[mux][0]] - c.volts[pairs[mux][1]]
	}
	scale := []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}[c.w[1]>>9&7]
	low := uint(16 - c.bits)
	top := float64(int(1) << (c.bits - 1))
	return uint16(int16(min(max(math.Round(v/scale*top), -top), top-1)) << low)
}

func (c *ADS1x15) writes(reg byte, v uint16) {
	if reg == 0 || reg > 3 {
		return
	}
	if c.w[reg] = v; reg == 1 {
		c.w[1] |= 1 << 15
		if v&(1<<15) != 0 {
			c.runs, c.since = true, time.Now()
		}
	}
}

// An INA is a simulated TI INA219 (SBOS448, 8.5 and 8.6) or INA226 (SBOS547, 7.5
// and 7.6), which measures without end. Several goroutines may use it.
type INA struct {
	wordRegisters
	is226       bool
	ohms        float64
	volts, amps float64
}

// NewINA219 returns a chip with a shunt.
func NewINA219(shuntOhms float64) *INA { return newINA(shuntOhms, false) }

// NewINA226 returns a chip with a shunt.
func NewINA226(shuntOhms float64) *INA { return newINA(shuntOhms, true) }

func newINA(ohms float64, is226 bool) *INA {
	c := &INA{ohms: ohms, is226: is226}
	c.read, c.write = c.reads, c.writes
	c.PowerCycle()
	return c
}

// Put changes what the load has, in V and A.
func (c *INA) Put(volts, amps float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.volts, c.amps = volts, amps
}

// PowerCycle puts the chip into the state after power-on.
func (c *INA) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w = [256]uint16{0: 0x399F}
	if c.is226 {
		c.w = [256]uint16{0: 0x4127, 0xFE: 0x5449, 0xFF: 0x2260}
	}
}

func (c *INA) writes(reg byte, v uint16) {
	switch {
	case reg == 0 && v&(1<<15) != 0: // reset
		c.w[0], c.w[5] = map[bool]uint16{false: 0x399F, true: 0x4127}[c.is226], 0
	case reg == 0, reg == 5 && c.is226:
		c.w[reg] = v
	case reg == 5:
		c.w[5] = v &^ 1
	}
}

func (c *INA) reads(reg byte) uint16 {
	// 8.5.1 of the INA219; 7.5 of the INA226.
	shuntIn, busIn, shift, currentBy, powerBy := 100e3, 250.0, 3, 4096.0, 5000.0 // counts in 1 V
	if c.is226 {
		shuntIn, busIn, shift, currentBy, powerBy = 400e3, 800, 0, 2048, 20000
	}
	shunt := steps(c.amps*c.ohms, shuntIn, 16)
	bus := uint16(max(steps(c.volts, busIn, 16), 0))
	full := float64(shunt) * float64(c.w[5]) / currentBy
	over := math.Abs(full) > math.MaxInt16
	current := steps(full, 1, 16)
	switch {
	case reg == 1:
		return uint16(shunt)
	case reg == 2 && c.is226:
		return bus
	case reg == 2:
		v := bus<<shift | 1<<1
		if over {
			v |= 1
		}
		return v
	case reg == 3:
		return uint16(min(math.Abs(float64(current))*float64(bus)/powerBy, math.MaxUint16))
	case reg == 4:
		return uint16(current)
	case reg == 6 && c.is226:
		v := uint16(1 << 3)
		if over {
			v |= 1 << 2
		}
		return v
	}
	return c.w[reg]
}
