package sim

import (
	"math"
	"time"

	"github.com/tidemill/tidemill/hal/sensor/dps3"
)

// A dps310 is a simulated DPS310 at register level: single measurements; the
// FIFO, interrupts and continuous measurement are left out.
type dps310 struct {
	twin
	coefs dps3.Coefs

	regs    [256]byte
	pointer byte
	born    time.Time // power-on
	what    byte      // the measurement under way, 0 for none
	since   time.Time // its begin
	t       float64   // the last temperature, scaled: the pressure's converter sees it
}

func newDPS310(seed uint64, air Waveform, now func() time.Time) Twin {
	c := &dps310{twin: twin{now: now, air: air}, coefs: dps310Coefs(seed)}
	c.PowerCycle()
	return c
}

// dps310Coefs spreads coefficients as a real chip has them by a percent or so.
func dps310Coefs(seed uint64) dps3.Coefs {
	lane := uint64(300)
	spread := func(v, by float64) int32 {
		lane++
		return int32(math.Round(v + by*unit(seed, lane, 0)))
	}
	return dps3.Coefs{
		C0: spread(208, 4), C1: spread(-263, 4), C00: spread(79671, 300), C10: spread(-69896, 400),
		C01: spread(-2600, 50), C11: spread(1300, 50), C20: spread(-9500, 100), C21: spread(70, 20), C30: -1600,
	}
}

func (c *dps310) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.regs = [256]byte{dps3.RegID: dps3.ID, dps3.RegSource: dps3.External}
	c.coefs.Put((*[dps3.CoefBytes]byte)(c.regs[dps3.RegCoef:]))
	c.born, c.what, c.pointer, c.t = c.now(), 0, 0, 0
}

// Tx is one I2C transfer. The address steps on in writes and reads.
func (c *dps310) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	if len(w) > 0 {
		c.pointer = w[0]
		for _, v := range w[1:] {
			c.write(c.pointer, v)
			c.pointer++
		}
	}
	for i := range r {
		r[i] = c.regs[c.pointer]
		switch c.pointer { // reading a result clears its flag
		case dps3.RegData + 2:
			c.regs[dps3.RegMeasure] &^= dps3.ReadyP
		case dps3.RegData + 5:
			c.regs[dps3.RegMeasure] &^= dps3.ReadyT
		}
		c.pointer++
	}
	return nil
}

func (c *dps310) write(reg, v byte) {
	switch reg {
	case dps3.RegPressure, dps3.RegTemp, dps3.RegConfig:
		c.regs[reg] = v
	case dps3.RegMeasure:
		c.regs[reg] = c.regs[reg]&^7 | v&7
		c.what, c.since = v&7, c.now()
	}
}

// advance brings the registers to the present: 12 ms after power-on the chip is
// ready, after 40 ms its coefficients (table 6).
func (c *dps310) advance() {
	now := c.now()
	if now.Sub(c.born) >= 12*time.Millisecond {
		c.regs[dps3.RegMeasure] |= dps3.ReadyChip
	}
	if now.Sub(c.born) >= 40*time.Millisecond {
		c.regs[dps3.RegMeasure] |= dps3.ReadyCoefs
	}
	took := [8]time.Duration{3600, 5200, 8400, 14800, 27600, 53200, 104400, 206800} // table 16, µs
	switch c.what {
	case dps3.MeasureT:
		over := c.regs[dps3.RegTemp] & 7
		if now.Sub(c.since) < took[over]*time.Microsecond {
			return
		}
		// One thermometer is hotter by nothing, but the other's coefficients.
		scaled := (c.air(c.since).Temperature - float64(c.coefs.C0)/2) / float64(c.coefs.C1)
		if c.regs[dps3.RegTemp]&dps3.External == 0 {
			scaled += 0.1
		}
		c.t = c.result(dps3.RegData+3, scaled, over, dps3.ShiftT)
		c.done(dps3.ReadyT)
	case dps3.MeasureP:
		over := c.regs[dps3.RegPressure] & 7
		if now.Sub(c.since) < took[over]*time.Microsecond {
			return
		}
		const top = 1 << 24
		p := inverse(top, c.air(c.since).Pressure, true, func(adc float64) float64 {
			return c.coefs.Pressure(adc/top*4-2, c.t)
		})
		c.result(dps3.RegData, float64(p)/top*4-2, over, dps3.ShiftP)
		c.done(dps3.ReadyP)
	}
}

func (c *dps310) done(flag byte) {
	c.what = 0
	c.regs[dps3.RegMeasure] = c.regs[dps3.RegMeasure]&^7 | flag
}

// result stores a scaled result as the chip has it, and returns what it is then.
// Above 8 conversions without the shift it does not fit its 24 bits.
func (c *dps310) result(reg int, scaled float64, over, shift byte) float64 {
	raw := math.Round(scaled * dps3.Scale[over])
	if over > 3 && c.regs[dps3.RegConfig]&shift == 0 {
		raw *= 16
	}
	v := int32(math.Mod(raw, 1<<31))
	c.regs[reg], c.regs[reg+1], c.regs[reg+2] = byte(v>>16), byte(v>>8), byte(v)
	return raw / dps3.Scale[over]
}
