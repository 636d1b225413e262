package sim

import (
	"encoding/binary"
	"time"
)

// A VL53L0X is a simulated ST VL53L0X as far as its API shows it (UM2039): what
// the chip needs of it to measure, and the result. Several goroutines may use it.
type VL53L0X struct {
	byteRegisters // page 0
	pages         [8][256]byte
	page          byte
	mm            uint16
	status        byte
	since         time.Time // begin of a measurement
	runs          bool
	dead          bool
}

// vlStopIs is the stop variable of this chip.
const vlStopIs = 0x3C

// vlTakes is how long a measurement takes.
const vlTakes = 25 * time.Millisecond

// NewVL53L0X returns a chip in front of something so many mm away.
func NewVL53L0X(mm uint16) *VL53L0X {
	c := &VL53L0X{mm: mm, status: 11}
	c.read, c.write = c.reads, c.writes
	c.PowerCycle()
	return c
}

// Put changes the distance in mm and the status of a measurement: 11 is good.
func (c *VL53L0X) Put(mm uint16, status byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mm, c.status = mm, status
}

// Kill lets measurements never end.
func (c *VL53L0X) Kill(dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = dead
}

// PowerCycle puts the chip into the state after power-on.
func (c *VL53L0X) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.page, c.runs = 0, false
	c.pages = [8][256]byte{}
	c.pages[0] = [256]byte{0x01: 0xFF, 0xC0: 0xEE, 0xC1: 0xAA, 0xC2: 0x10}
	for i := range 6 {
		c.pages[0][0xB0+i] = 0xFF
	}
	c.pages[1][0x91] = vlStopIs
	c.pages[6][0x83] = 0x10
	c.pages[7][0x92] = 0x85 // five, behind the aperture
}

func (c *VL53L0X) writes(reg, v byte) {
	at := &c.pages[c.page&7]
	switch {
	case reg == 0xFF:
		c.page = v
	case c.page == 0 && reg >= 0xC0 && reg <= 0xC2:
	case c.page == 0 && reg == 0x00:
		if v&1 != 0 {
			c.runs, c.since = true, time.Now()
			at[0x13] = 0
		}
	case c.page == 0 && reg == 0x0B:
		at[0x13] = 0
	default:
		at[reg] = v
	}
}

func (c *VL53L0X) reads(reg byte) byte {
	at := &c.pages[c.page&7]
	if c.runs && !c.dead && time.Since(c.since) >= vlTakes {
		c.runs = false
		c.result(&c.pages[0])
	}
	if c.page == 7 && reg == 0x83 {
		return 1 // the notes are there
	}
	return at[reg]
}

// result puts a measurement into the registers. It is good only of a chip that was
// given its own stop variable, and whose reference has as many diodes as it notes.
func (c *VL53L0X) result(at *[256]byte) {
	at[0x13] = 4
	status, mm := c.status, c.mm
	diodes := 0
	for _, b := range at[0xB0:0xB6] {
		for ; b != 0; b &= b - 1 {
			diodes++
		}
	}
	if c.pages[1][0x91] != vlStopIs || diodes != 5 || at[0x01] == 0xFF {
		status, mm = 11, 20
	}
	at[0x14] = status<<3 | 1
	binary.BigEndian.PutUint16(at[0x1E:], mm)
}
