package sim

import (
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// A Probe is the state of a thermocouple.
type Probe uint8

// The states; a MAX6675 notices an open one alone.
const (
	ProbeGood Probe = iota
	ProbeOpen
	ProbeToGround
	ProbeToSupply
)

// thermocouple is what both chips measure.
type thermocouple struct {
	mu      sync.Mutex // guards all below
	celsius float64
	cold    float64
	probe   Probe
}

// Put changes the temperatures of the probe and of the chip, in °C.
func (c *thermocouple) Put(celsius, cold float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.celsius, c.cold = celsius, cold
}

// Wire changes the probe's state.
func (c *thermocouple) Wire(p Probe) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probe = p
}

// A MAX31855 is a simulated Maxim MAX31855 (datasheet, table 2). Several
// goroutines may use it.
type MAX31855 struct{ thermocouple }

// NewMAX31855 returns a chip at the given temperatures of probe and cold end, in
// °C.
func NewMAX31855(celsius, cold float64) *MAX31855 {
	return &MAX31855{thermocouple{celsius: celsius, cold: cold}}
}

// Transfer clocks the 32 bits out.
func (c *MAX31855) Transfer(_, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := uint32(int32(math.Round(c.celsius*4)))<<18 | uint32(int32(math.Round(c.cold*16)))&0xFFF<<4
	if c.probe != ProbeGood {
		v |= 1<<16 | 1<<(c.probe-ProbeOpen)
	}
	copy(r, binary.BigEndian.AppendUint32(nil, v))
	return nil
}

// A MAX6675 is a simulated Maxim MAX6675 (datasheet, figure 1): one that is read
// before it has measured, 0.22 s after the last look, says what it said before.
// Several goroutines may use it.
type MAX6675 struct {
	thermocouple
	shown  uint16    // the last measurement
	begun  time.Time // of the one that runs
	looked bool
}

// NewMAX6675 returns a chip whose probe has the given temperature, in °C.
func NewMAX6675(celsius float64) *MAX6675 {
	return &MAX6675{thermocouple: thermocouple{celsius: celsius}}
}

// Transfer clocks the 16 bits out.
func (c *MAX6675) Transfer(_, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.looked || now.Sub(c.begun) >= 220*time.Millisecond {
		c.shown = uint16(math.Round(min(max(c.celsius, 0), 1023.75)*4)) << 3
		if c.probe == ProbeOpen {
			c.shown |= 1 << 2
		}
	}
	c.looked, c.begun = true, now
	copy(r, binary.BigEndian.AppendUint16(nil, c.shown))
	return nil
}
