package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal/sensor/bmx280"
)

// A BME280 is a simulated Bosch BME280 at register level: a driver that works
// here talks to the chip as the datasheet says. Its converters see a Waveform
// through the chip's own calibration, with the resolution that the oversampling
// and filter settings give (section 3.4). Self-heating, I2C's reserved
// addresses and the 2 ms of start-up are left out.
//
// Several goroutines may use it.
type BME280 struct {
	cal bmx280.Calibration
	now func() time.Time

	mu      sync.Mutex // guards all below
	air     Waveform
	regs    [256]byte
	pointer byte
	osrsHum byte // in force; bmx280.RegCtrlHum takes effect at a write of bmx280.RegCtrlMeas
	filter  iir

	busy   bool      // a forced measurement runs
	polls  int       // looks at the status since it began
	since  time.Time // begin of the forced measurement or of normal mode
	cycles int64     // normal mode's finished measurements
}

// NewBME280 returns a chip in the state after power-on. The seed chooses its
// calibration. now is its clock; nil is time.Now.
func NewBME280(seed uint64, air Waveform, now func() time.Time) *BME280 {
	if now == nil {
		now = time.Now
	}
	c := &BME280{cal: newCalibration(seed), now: now, air: air}
	c.reset()
	return c
}

// SetAir replaces what the chip measures from now on.
func (c *BME280) SetAir(air Waveform) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.air = air
}

// PowerCycle puts the chip into the state after power-on, as a brown-out does:
// its settings are lost, and the bus shows no error.
func (c *BME280) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *BME280) reset() {
	c.regs = [256]byte{bmx280.RegID: bmx280.IDBME280}
	c.cal.Put(&c.regs)
	c.osrsHum, c.busy, c.cycles, c.filter, c.pointer = 0, false, 0, iir{}, 0
	c.store(bmx280.SkippedPT, bmx280.SkippedPT, bmx280.SkippedHum)
}

// Tx is one I2C transfer: the bytes of w, then a read of len(r) bytes with a
// repeated start (section 6.2).
func (c *BME280) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	if len(w) > 0 {
		c.pointer = w[0]
		// Writes don't step the address: each byte comes with its own.
		for i := 1; i < len(w); i += 2 {
			c.write(c.pointer, w[i])
			if i+1 < len(w) {
				c.pointer = w[i+1]
			}
		}
	}
	for i := range r {
		r[i] = c.read(c.pointer)
		c.pointer++
	}
	return nil
}

func (c *BME280) read(reg byte) byte {
	if reg == bmx280.RegStatus && c.busy {
		// A clock that stands still must not hold a driver for ever: the
		// fourth look finds the measurement done.
		if c.polls++; c.polls > 3 {
			c.finish()
		} else {
			return c.regs[bmx280.RegStatus] | bmx280.Measuring
		}
	}
	return c.regs[reg]
}

func (c *BME280) write(reg, v byte) {
	switch reg {
	case bmx280.RegReset:
		if v == bmx280.ResetWord {
			c.reset()
		}
	case bmx280.RegCtrlHum:
		c.regs[reg] = v & 7
	case bmx280.RegConfig:
		if c.regs[bmx280.RegCtrlMeas]&3 == bmx280.ModeNormal {
			return // section 5.4.6: may be ignored in normal mode; ours does
		}
		c.regs[reg] = v
	case bmx280.RegCtrlMeas:
		c.regs[reg] = v
		c.osrsHum = c.regs[bmx280.RegCtrlHum]
		c.busy, c.polls, c.since, c.cycles = v&3 == 1 || v&3 == 2, 0, c.now(), 0
	}
	// All others can't be written.
}

// advance brings the registers to the present.
func (c *BME280) advance() {
	now := c.now()
	if c.busy && now.Sub(c.since) >= c.duration() {
		c.finish()
	}
	if c.regs[bmx280.RegCtrlMeas]&3 != bmx280.ModeNormal {
		return
	}
	period := c.duration() + standby[c.regs[bmx280.RegConfig]>>5]
	done := int64((now.Sub(c.since) + standby[c.regs[bmx280.RegConfig]>>5]) / period)
	// The filter forgets what is 160 measurements back: (15/16)^160 < 2^-14.
	for i := max(c.cycles, done-160) + 1; i <= done; i++ {
		c.convert(c.since.Add(time.Duration(i)*period - standby[c.regs[bmx280.RegConfig]>>5]))
	}
	c.cycles = max(c.cycles, done)
}

func (c *BME280) finish() {
	c.busy = false
	c.regs[bmx280.RegCtrlMeas] &^= 3
	c.convert(c.since)
}

// standby is normal mode's pause by config's t_sb (table 27).
var standby = [8]time.Duration{
	500 * time.Microsecond, 62500 * time.Microsecond, 125 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 10 * time.Millisecond, 20 * time.Millisecond,
}

// samples is the number of conversions for an osrs field (table 20).
func samples(osrs byte) int {
	if osrs == 0 {
		return 0
	}
	return 1 << (min(osrs, 5) - 1)
}

// duration is the typical measurement time (section 9.1).
func (c *BME280) duration() time.Duration {
	us := 1000 + 2000*samples(c.regs[bmx280.RegCtrlMeas]>>5)
	if n := samples(c.regs[bmx280.RegCtrlMeas] >> 2 & 7); n > 0 {
		us += 2000*n + 500
	}
	if n := samples(c.osrsHum); n > 0 {
		us += 2000*n + 500
	}
	return time.Duration(us) * time.Microsecond
}

// convert measures the air of a time into the data registers.
func (c *BME280) convert(at time.Time) {
	air := c.air(at)
	osrsT, osrsP := c.regs[bmx280.RegCtrlMeas]>>5, c.regs[bmx280.RegCtrlMeas]>>2&7
	coef := c.regs[bmx280.RegConfig] >> 2 & 7

	t := c.filter.next(0, coef, inverse(1<<20-1, air.Temperature*5120, false, c.cal.Fine))
	t = quantize(t, osrsT, coef)
	fine := c.cal.Fine(float64(t))
	p := c.filter.next(1, coef, inverse(1<<20-1, air.Pressure, true, func(adc float64) float64 {
		return c.cal.Pressure(adc, fine)
	}))
	p = quantize(p, osrsP, coef)
	h := inverse(1<<16-1, air.Humidity, false, func(adc float64) float64 {
		return c.cal.Humidity(adc, fine)
	})
	if osrsT == 0 {
		t = bmx280.SkippedPT
	}
	if osrsP == 0 {
		p = bmx280.SkippedPT
	}
	if c.osrsHum == 0 {
		h = bmx280.SkippedHum
	}
	c.store(p, t, h)
}

// quantize cuts a 20-bit value to the resolution in force: 16 bits at one
// conversion, one more for each doubling, all 20 with the filter (section 3.4).
func quantize(v int, osrs, coef byte) int {
	if osrs == 0 || coef != 0 {
		return v
	}
	step := 1 << (5 - min(osrs, 5))
	return min((v+step/2)&^(step-1), 1<<20-step)
}

func (c *BME280) store(p, t, h int) {
	d := c.regs[bmx280.RegData:]
	d[0], d[1], d[2] = byte(p>>12), byte(p>>4), byte(p<<4)
	d[3], d[4], d[5] = byte(t>>12), byte(t>>4), byte(t<<4)
	d[6], d[7] = byte(h>>8), byte(h)
}

// String names the chip and its serial-like part: its first calibration value.
func (c *BME280) String() string { return fmt.Sprintf("BME280(t1=%d)", c.cal.T1) }

// iir is the chip's low-pass filter of temperature [0] and pressure [1]
// (section 3.4.4); the zero iir takes its first value as it is.
type iir struct {
	held [2]float64
	full [2]bool
}

func (f *iir) next(i int, coef byte, v int) int {
	if coef == 0 || !f.full[i] {
		f.held[i], f.full[i] = float64(v), true
		return v
	}
	n := float64(int(1) << min(coef, 4))
	f.held[i] = (f.held[i]*(n-1) + float64(v)) / n
	return int(f.held[i] + 0.5)
}
