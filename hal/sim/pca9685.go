package sim

import "math"

// A PCA9685 is a simulated NXP PCA9685 (rev. 4, 7.3): 16 outputs. Several
// goroutines may use it.
type PCA9685 struct {
	byteRegisters
	stiff int // output that does not take what is written, -1 for none
}

// NewPCA9685 returns a chip after power-on: asleep, all outputs off.
func NewPCA9685() *PCA9685 {
	c := &PCA9685{stiff: -1}
	c.write = c.writes
	// Without MODE1.AI the address stays.
	c.step = func(p byte) (reg, by byte) { return p, c.b[0] >> 5 & 1 }
	c.PowerCycle()
	return c
}

// PowerCycle puts the chip into the state after power-on.
func (c *PCA9685) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b = [256]byte{0x00: 0x11, 0x01: 0x04, 0x02: 0xE2, 0x03: 0xE4, 0x04: 0xE8, 0x05: 0xE0, 0xFE: 0x1E}
	for n := range 16 {
		c.b[0x06+4*n+3] = 0x10
	}
}

// Stick lets an output not take what is written; -1 ends that.
func (c *PCA9685) Stick(output int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stiff = output
}

// Output is what an output does: the part of the time that it is on, 0 while the
// chip sleeps.
func (c *PCA9685) Output(n int) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.b[0x06+4*n:]
	on, off := int(r[1]&0xF)<<8|int(r[0]), int(r[3]&0xF)<<8|int(r[2])
	switch {
	case c.b[0]&0x10 != 0, r[3]&0x10 != 0:
		return 0
	case r[1]&0x10 != 0:
		return 1
	}
	return math.Mod(float64(off-on+4096), 4096) / 4096
}

// Frequency is that of the outputs, in Hz.
func (c *PCA9685) Frequency() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return 25e6 / 4096 / (float64(c.b[0xFE]) + 1)
}

func (c *PCA9685) writes(reg, v byte) {
	const sleep, restart = 0x10, 0x80
	switch {
	case reg == 0x00:
		was := c.b[0]
		// RESTART is set by going to sleep with outputs on, cleared by writing 1.
		c.b[0] = v&^restart | was&restart&^v
		if v&sleep != 0 && was&sleep == 0 && c.running() {
			c.b[0] |= restart
		}
	case reg == 0xFE:
		if c.b[0]&sleep != 0 {
			c.b[0xFE] = max(v, 3)
		}
	case c.stiff >= 0 && int(reg) >= 0x06+4*c.stiff && int(reg) < 0x0A+4*c.stiff:
	default:
		c.b[reg] = v
	}
}

func (c *PCA9685) running() bool {
	for n := range 16 {
		if c.b[0x06+4*n+3]&0x10 == 0 {
			return true
		}
	}
	return false
}
