package sim

import (
	"time"

	"github.com/tidemill/tidemill/hal/sensor/bmp3"
)

// A bmp388 is a simulated BMP388 or BMP390 at register level: forced
// measurements; the FIFO, interrupts and the filter are left out.
type bmp388 struct {
	twin
	id  byte
	cal bmp3.Calibration

	regs    [256]byte
	pointer byte
	busy    bool      // a measurement runs
	since   time.Time // its begin
}

func bmp3Of(id byte) func(uint64, Waveform, func() time.Time) Twin {
	return func(seed uint64, air Waveform, now func() time.Time) Twin {
		c := &bmp388{twin: twin{now: now, air: air}, id: id, cal: bmp3Calibration(seed)}
		c.PowerCycle()
		return c
	}
}

// bmp3Calibration spreads coefficients as a real chip has them by a percent or
// so.
func bmp3Calibration(seed uint64) bmp3.Calibration {
	lane := uint64(200)
	spread := func(v, by float64) float64 {
		lane++
		return v + by*unit(seed, lane, 0)
	}
	return bmp3.Calibration{
		T1: uint16(spread(27500, 200)), T2: uint16(spread(18999, 150)), T3: -7,
		P1: int16(spread(-500, 100)), P2: int16(spread(-1000, 100)), P3: 10, P4: 0,
		P5: uint16(spread(25312, 100)), P6: uint16(spread(30500, 200)), P7: int8(spread(-13, 3)), P8: -10,
		P9: int16(spread(16500, 100)), P10: int8(spread(7, 3)), P11: -60,
	}
}

func (c *bmp388) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.regs = [256]byte{bmp3.RegID: c.id, bmp3.RegStatus: bmp3.CmdReady, bmp3.RegOSR: 0x02}
	c.cal.Put((*[bmp3.CalibBytes]byte)(c.regs[bmp3.RegCalib:]))
	c.busy, c.pointer = false, 0
	c.store(bmp3.NotDone, bmp3.NotDone)
}

// Tx is one I2C transfer: in a write each byte comes with its address, a read
// steps on (5.2).
func (c *bmp388) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy && c.now().Sub(c.since) >= c.takes() {
		c.finish()
	}
	if len(w) > 0 {
		c.pointer = w[0]
		for i := 1; i < len(w); i += 2 {
			c.write(c.pointer, w[i])
			if i+1 < len(w) {
				c.pointer = w[i+1]
			}
		}
	}
	for i := range r {
		r[i] = c.regs[c.pointer]
		if c.pointer >= bmp3.RegData && c.pointer < bmp3.RegData+6 {
			c.regs[bmp3.RegStatus] &^= bmp3.Ready // reading the data ends that
		}
		c.pointer++
	}
	return nil
}

func (c *bmp388) write(reg, v byte) {
	switch reg {
	case bmp3.RegOSR, bmp3.RegConfig:
		c.regs[reg] = v
	case bmp3.RegPower:
		c.regs[reg] = v
		if c.busy = v>>4&3 == 1 || v>>4&3 == 2; c.busy {
			c.since = c.now()
			c.regs[bmp3.RegStatus] &^= bmp3.Ready
		}
	}
}

// takes is the time of a measurement (section 3.9.2).
func (c *bmp388) takes() time.Duration {
	osr := c.regs[bmp3.RegOSR]
	return time.Duration(234+392+2020<<(osr&7)+163+2020<<(osr>>3&7)) * time.Microsecond
}

// finish ends a measurement: 16 bits at one conversion, one more for each
// doubling, of 24 (section 3.4.1).
func (c *bmp388) finish() {
	c.busy = false
	c.regs[bmp3.RegPower] &^= 0x30
	osr := c.regs[bmp3.RegOSR]
	cut := func(v int, over byte) int {
		step := 1 << (8 - min(over, 5))
		return min((v+step/2)&^(step-1), 1<<24-step)
	}
	air := c.air(c.since)
	t := cut(inverse(1<<24-1, air.Temperature, false, c.cal.Celsius), osr>>3&7)
	celsius := c.cal.Celsius(float64(t))
	p := cut(inverse(1<<24-1, air.Pressure, true, func(adc float64) float64 {
		return c.cal.Pressure(adc, celsius)
	}), osr&7)
	c.store(p, t)
	c.regs[bmp3.RegStatus] |= bmp3.Ready
}

func (c *bmp388) store(p, t int) {
	d := c.regs[bmp3.RegData:]
	d[0], d[1], d[2] = byte(p), byte(p>>8), byte(p>>16)
	d[3], d[4], d[5] = byte(t), byte(t>>8), byte(t>>16)
}
