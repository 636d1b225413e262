package sim

import (
	"sync"
	"time"
)

// A HX711 is a simulated Avia HX711 behind two pins: the clock that goes into it
// and the data line that it drives. It converts ten times a second (datasheet,
// table 1) by the clock of package time, with its DOUT low from then on until it
// was read. Several goroutines may use it.
type HX711 struct {
	data *Pin

	mu     sync.Mutex // guards all below
	counts map[int]int32
	pulses int // clocks of the reading that runs
	gain   int // clocks of the last reading, which choose the next one's input
	value  uint32
	high   time.Time // since when the clock is high
	dead   bool
	timer  *time.Timer
}

// hx711Down is how long the clock may be high before the chip powers down.
const hx711Down = 60 * time.Microsecond

// hx711Rate is the time from one conversion to the next.
const hx711Rate = 100 * time.Millisecond

// NewHX711 puts a chip at two lines of the board, such as "sim:5". Its first
// conversion is there at once.
func NewHX711(b *Board, data, clock string) (*HX711, error) {
	d, err := b.Pin(data)
	if err != nil {
		return nil, err
	}
	k, err := b.Pin(clock)
	if err != nil {
		return nil, err
	}
	c := &HX711{data: d, counts: map[int]int32{}, gain: 25}
	d.Drive(false)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch = c.clocked
	return c, nil
}

// Put changes the counts that the chip gives after a reading with so many clocks:
// 25 is channel A at gain 128, 26 channel B, 27 channel A at gain 64.
func (c *HX711) Put(pulses int, counts int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[pulses] = counts
}

// Unplug makes DOUT stay at a level whatever the clock does.
func (c *HX711) Unplug(high bool) {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	c.data.Drive(high)
}

// Pulses is how many clocks the last complete reading had.
func (c *HX711) Pulses() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gain
}

// clocked takes a change of the clock; the clock's pin is locked.
func (c *HX711) clocked(high bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	now := time.Now()
	if !high {
		if now.Sub(c.high) > hx711Down { // it was powered down and starts anew
			c.pulses, c.gain = 0, 25
			c.data.Drive(true)
			c.later()
		}
		return
	}
	c.high = now
	if c.pulses == 0 {
		if c.data.Level() {
			return // nothing to read
		}
		c.value = uint32(c.counts[c.gain])
	}
	c.pulses++
	switch {
	case c.pulses <= 24:
		c.data.Drive(c.value>>(24-c.pulses)&1 != 0)
	case c.pulses <= 27:
		c.gain = c.pulses
		c.data.Drive(true)
		c.later()
	}
}

// later lets the next conversion be there in time; c is locked.
func (c *HX711) later() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(hx711Rate, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.dead {
			c.pulses = 0
			c.data.Drive(false)
		}
	})
}
