package sim

import (
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
)

// A DS18B20 is a simulated Maxim DS18B20 behind the kernel's driver: what the
// file w1_slave says of it (drivers/w1/slaves/w1_therm.c). Several goroutines
// may use it.
type DS18B20 struct {
	mu      sync.Mutex // guards all below
	celsius float64
	bits    int
	weak    bool
	silent  bool
	damaged int
}

// NewDS18B20 returns a chip at 12 bits.
func NewDS18B20(celsius float64) *DS18B20 { return &DS18B20{celsius: celsius, bits: 12} }

// Put changes the temperature, in °C.
func (c *DS18B20) Put(celsius float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.celsius = celsius
}

// Resolve changes the resolution, 9 to 12 bits.
func (c *DS18B20) Resolve(bits int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bits = bits
}

// Weak makes the chip lose its supply when it measures, so that it says what it
// says after power-on: 85 °C.
func (c *DS18B20) Weak(weak bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weak = weak
}

// Silent takes the chip's wire away; the kernel keeps its folder for a while.
func (c *DS18B20) Silent(silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = silent
}

// Damage flips a bit in the next n answers.
func (c *DS18B20) Damage(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = n
}

// ReadFile gives the files w1_slave and temperature.
func (c *DS18B20) ReadFile(name string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name != "w1_slave" {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return W1Slave(c.scratchpad()), nil
}

func (c *DS18B20) scratchpad() [9]byte {
	if c.silent {
		return [9]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	}
	step := 1 << (12 - c.bits) // in 1/16 °C
	raw := int16(math.Floor(c.celsius*16/float64(step))) * int16(step)
	fresh := byte(16 - raw&15)
	if c.weak {
		raw, fresh = 85*16, 0x0C
	}
	pad := [9]byte{byte(raw), byte(raw >> 8), 0x4B, 0x46, byte(c.bits-9)<<5 | 0x1F, 0xFF, fresh, 0x10}
	pad[8] = OneWireCRC(pad[:8])
	if c.damaged > 0 {
		c.damaged--
		pad[0] ^= 1
	}
	return pad
}

// W1Slave is what the kernel's file w1_slave says of a DS18B20's scratchpad.
func W1Slave(pad [9]byte) []byte {
	var hex strings.Builder
	for _, b := range pad {
		fmt.Fprintf(&hex, "%02x ", b)
	}
	sum, verdict := OneWireCRC(pad[:8]), "NO"
	if sum == pad[8] {
		verdict = "YES"
	}
	milli := int(int16(uint16(pad[0])|uint16(pad[1])<<8)) * 1000 / 16
	return fmt.Appendf(nil, "%s: crc=%02x %s\n%st=%d\n", hex.String(), sum, verdict, hex.String(), milli)
}

// OneWireCRC is the check of 1-Wire's bytes, bit by bit as the datasheet's figure
// of the generator has it (DS18B20, "CRC generation").
func OneWireCRC(data []byte) byte {
	var shift [8]bool // shift[0] is the generator's first stage
	for _, b := range data {
		for bit := range 8 {
			in := (b>>bit&1 != 0) != shift[7]
			copy(shift[1:], shift[:7])
			shift[0] = in
			shift[4] = shift[4] != in
			shift[5] = shift[5] != in
		}
	}
	var crc byte
	for i, on := range shift {
		if on {
			crc |= 1 << (7 - i)
		}
	}
	return crc
}
