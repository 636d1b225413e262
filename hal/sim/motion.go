package sim

import (
	"encoding/binary"
)

// gravity is standard gravity, in m/s².
const gravity = 9.80665

// An MPU6050 is a simulated InvenSense MPU-6050 (register map RM-MPU-6000A). After
// power-on it sleeps, and its data stand still. Several goroutines may use it.
type MPU6050 struct {
	byteRegisters
	accel, gyro [3]float64
	celsius     float64
}

// NewMPU6050 returns a chip that lies flat, at 25 °C.
func NewMPU6050() *MPU6050 {
	c := &MPU6050{accel: [3]float64{0, 0, gravity}, celsius: 25}
	c.read, c.write = c.reads, c.writes
	c.PowerCycle()
	return c
}

// Put changes acceleration in m/s², rate of turn in °/s and temperature in °C.
func (c *MPU6050) Put(accel, gyro [3]float64, celsius float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accel, c.gyro, c.celsius = accel, gyro, celsius
}

// PowerCycle puts the chip into the state after power-on.
func (c *MPU6050) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *MPU6050) reset() { c.b = [256]byte{0x6B: 0x40, 0x75: 0x68} }

func (c *MPU6050) writes(reg, v byte) {
	switch {
	case reg == 0x6B && v&0x80 != 0:
		c.reset()
	case reg == 0x6B || reg >= 0x19 && reg <= 0x1C:
		c.b[reg] = v
	}
}

func (c *MPU6050) reads(reg byte) byte {
	if reg >= 0x3B && reg < 0x3B+14 && c.b[0x6B]&0x40 == 0 {
		var d [14]byte
		for i := range 3 {
			g := 16384 / float64(int(1)<<(c.b[0x1C]>>3&3))
			dps := []float64{131, 65.5, 32.8, 16.4}[c.b[0x1B]>>3&3]
			binary.BigEndian.PutUint16(d[2*i:], uint16(steps(c.accel[i]/gravity, g, 16)))
			binary.BigEndian.PutUint16(d[8+2*i:], uint16(steps(c.gyro[i], dps, 16)))
		}
		binary.BigEndian.PutUint16(d[6:], uint16(steps(c.celsius-36.53, 340, 16)))
		copy(c.b[0x3B:], d[:])
	}
	return c.b[reg]
}

// An LSM303 is a simulated ST LSM303DLHC or LSM303AGR: two chips at two addresses
// of a bus. Several goroutines may use it.
type LSM303 struct {
	agr   bool
	accel byteRegisters
	mag   byteRegisters
	a, m  [3]float64 // m/s², µT; a is guarded by accel.mu, m by mag.mu
}

// NewLSM303 returns a DLHC, or an AGR, that lies flat and has no field.
func NewLSM303(agr bool) *LSM303 {
	c := &LSM303{agr: agr, a: [3]float64{0, 0, gravity}}
	c.accel.read, c.mag.read = c.readAccel, c.readMag
	// Bit 7 of the accelerometer's addresses lets them step.
	c.accel.step = func(p byte) (reg, by byte) { return p &^ 0x80, p >> 7 }
	c.PowerCycle()
	return c
}

// Attach puts both chips on a bus: 0x19 and 0x1e.
func (c *LSM303) Attach(b *Bus) {
	b.Attach(0x19, &c.accel)
	b.Attach(0x1E, &c.mag)
}

// Put changes acceleration in m/s² and magnetic field in µT.
func (c *LSM303) Put(accel, field [3]float64) {
	c.accel.mu.Lock()
	c.a = accel
	c.accel.mu.Unlock()
	c.mag.mu.Lock()
	c.m = field
	c.mag.mu.Unlock()
}

// PowerCycle puts both chips into the state after power-on: they are off.
func (c *LSM303) PowerCycle() {
	c.accel.mu.Lock()
	c.accel.b = [256]byte{0x20: 0x07}
	if c.agr {
		c.accel.b[0x0F] = 0x33
	}
	c.accel.mu.Unlock()
	c.mag.mu.Lock()
	c.mag.b = [256]byte{0x00: 0x10, 0x01: 0x20, 0x02: 0x03, 0x0A: 'H', 0x0B: '4', 0x0C: '3'}
	if c.agr {
		c.mag.b = [256]byte{0x4F: 0x40, 0x60: 0x03}
	}
	c.mag.mu.Unlock()
}

func (c *LSM303) readAccel(reg byte) byte {
	r := &c.accel
	on := r.b[0x20]>>4 != 0
	switch {
	case reg == 0x27 && on:
		return 0x0F
	case reg >= 0x28 && reg < 0x2E && on:
		step := []float64{1, 2, 4, 12}[r.b[0x23]>>4&3]
		if c.agr {
			step = []float64{0.98, 1.95, 3.9, 11.72}[r.b[0x23]>>4&3]
		}
		i := (reg - 0x28) / 2
		raw := steps(c.a[i]/gravity*1000, 1/step, 12) << 4
		return byte(uint16(raw) >> (8 * ((reg - 0x28) % 2)))
	}
	return r.b[reg]
}

func (c *LSM303) readMag(reg byte) byte {
	r := &c.mag
	if c.agr {
		on := r.b[0x60]&3 == 0
		switch {
		case reg == 0x67 && on:
			return 0x0F
		case reg >= 0x68 && reg < 0x6E && on:
			return byte(uint16(steps(c.m[(reg-0x68)/2], 1/0.15, 16)) >> (8 * ((reg - 0x68) % 2)))
		}
		return r.b[reg]
	}
	on := r.b[0x02]&3 == 0
	switch {
	case reg == 0x09 && on:
		return 1
	case reg >= 0x03 && reg < 0x09 && on:
		i := []int{0, 2, 1}[(reg-3)/2] // X, Z, Y
		gain := []float64{1, 1100, 855, 670, 450, 400, 330, 230}[r.b[0x01]>>5]
		if i == 2 {
			gain = []float64{1, 980, 760, 600, 400, 355, 295, 205}[r.b[0x01]>>5]
		}
		raw := steps(c.m[i]/100, gain, 16)
		if raw > 2047 || raw < -2048 {
			raw = -4096 // overflow
		}
		return byte(uint16(raw) >> (8 * (1 - (reg-3)%2)))
	}
	return r.b[reg]
}
