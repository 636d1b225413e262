package sim

import (
	"math"
	"time"
)

// A bh1750 is a simulated BH1750FVI: measurements in one of its three
// resolutions, once or one after the other.
type bh1750 struct {
	twin
	mtreg byte
	data  uint16

	command byte      // the measurement under way, 0 for none
	since   time.Time // its begin
}

func newBH1750(_ uint64, air Waveform, now func() time.Time) Twin {
	c := &bh1750{twin: twin{now: now, air: air}}
	c.PowerCycle()
	return c
}

func (c *bh1750) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mtreg, c.data, c.command = 69, 0, 0
}

// Tx is one I2C transfer: a command, or a read of the data register.
func (c *bh1750) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	if len(w) > 0 {
		c.obey(w[0])
	}
	for i := range r {
		r[i] = byte(c.data >> (8 * (1 - min(i, 1))))
	}
	return nil
}

func (c *bh1750) obey(b byte) {
	switch {
	case b == 0x00:
		c.command = 0
	case b == 0x07:
		c.data = 0
	case b&0xF8 == 0x40:
		c.mtreg = c.mtreg&0x1F | b<<5
	case b&0xE0 == 0x60:
		c.mtreg = c.mtreg&0xE0 | b&0x1F
	case b&0xF0 == 0x10, b&0xF0 == 0x20:
		c.command, c.since = b, c.now()
	}
}

// takes is the typical time of a measurement.
func (c *bh1750) takes() time.Duration {
	d := 120 * time.Millisecond
	if c.command&3 == 3 {
		d = 16 * time.Millisecond
	}
	return d * time.Duration(c.mtreg) / 69
}

// advance puts the last measurement that has ended into the data register.
func (c *bh1750) advance() {
	if c.command == 0 {
		return
	}
	takes := c.takes()
	done := c.now().Sub(c.since) / max(takes, 1)
	if done < 1 {
		return
	}
	once := c.command&0xF0 == 0x20
	if once {
		done = 1
	}
	perLux := 1.2 * float64(c.mtreg) / 69
	if c.command&3 == 1 {
		perLux *= 2
	}
	counts := math.Round(c.air(c.since.Add(done*takes)).Light * perLux)
	if c.command&3 == 3 {
		counts = math.Floor(counts/4) * 4
	}
	c.data = uint16(min(max(counts, 0), 65535))
	if once {
		c.command = 0
	}
}
