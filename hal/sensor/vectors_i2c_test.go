package sensor_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

// wordChips have registers of two bytes, each with a pointer of its own.
var wordChips = []string{"tmp102", "tmp105", "lm75", "mcp9808", "ads1015", "ads1115", "ina219", "ina226"}

// pairChips are Bosch's, where in a write each byte comes with its address
// (BME280 datasheet, 6.2.1).
var pairChips = []string{"bme280", "bmp280", "bmp388", "bmp390"}

// i2cRig is a bus with the vector's chip, or chips.
func i2cRig(t *testing.T, v *vector) *rig {
	r := &rig{driver: driverOf(v), opts: v.options(t)}
	b := sim.New(sim.Options{NoBus: true})
	wire := b.Add(sim.NewBus("bus"))
	r.board = b
	if len(v.Devices) > 0 {
		for _, d := range v.Devices {
			wire.Attach(hexNumber(t, d.Address), newRegisters(t, &vector{Registers: d.Registers, Initial: d.Initial,
				Force: d.Force, AutoIncrement: d.AutoIncrement}))
		}
		return r
	}
	addr := hexNumber(t, v.Setup["address"].(string))
	if v.Exchange != nil {
		wire.Attach(addr, newCommands(t, v))
		return r
	}
	c := newRegisters(t, v)
	wire.Attach(addr, c)
	if v.Chip == "pca9685" {
		r.use = setDuty(v)
	}
	r.after = func(t *testing.T) { c.compare(t, v.RegistersAfter) }
	return r
}

// registers is a chip of registers: writes to those of fixed are ignored.
type registers struct {
	chip    string
	words   bool
	pairs   bool // in a write each byte comes with its address
	bit7    bool // the address steps only if its bit 7, which is no part of it, is set
	b       map[byte][]byte
	fixed   map[byte]bool
	fill    []byte
	force   map[byte][2][]byte // mask, value
	pointer byte
}

func newRegisters(t *testing.T, v *vector) *registers {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := &registers{chip: v.Chip, words: slices.Contains(wordChips, v.Chip),
		pairs: slices.Contains(pairChips, v.Chip), bit7: v.AutoIncrement == "bit7",
		b: map[byte][]byte{}, fixed: map[byte]bool{}, force: map[byte][2][]byte{}, fill: unhex(v.Fill)}
	put := func(from map[string]string, fixed bool) {
		for at, text := range from {
			reg := byte(hexNumber(t, at))
			if r.words {
				r.b[reg], r.fixed[reg] = unhex(text), fixed
				continue
			}
			for i, x := range unhex(text) {
				r.b[reg+byte(i)], r.fixed[reg+byte(i)] = []byte{x}, fixed
			}
		}
	}
	put(v.Initial, false)
	put(v.Registers, true)
	for at, f := range v.Force {
		r.force[byte(hexNumber(t, at))] = [2][]byte{unhex(f[0]), unhex(f[1])}
	}
	return r
}

// content is what a register reads.
func (r *registers) content(reg byte) []byte {
	n := 1
	if r.words {
		n = 2
	}
	out := make([]byte, n)
	copy(out, r.b[reg])
	if f, ok := r.force[reg]; ok {
		for i := range out {
			out[i] = out[i]&^f[0][i] | f[1][i]&f[0][i]
		}
	}
	return out
}

func (r *registers) Tx(w, in []byte) error {
	if len(r.fill) > 0 {
		for i := range in {
			in[i] = r.fill[0]
		}
		return nil
	}
	if len(w) > 0 {
		r.pointer = w[0]
		r.write(w[1:])
	}
	if r.words {
		for i := range in {
			in[i] = r.content(r.pointer)[i%2]
		}
		return nil
	}
	reg, step := r.address()
	for i := range in {
		in[i] = r.content(reg)[0]
		reg += step
	}
	if !r.bit7 {
		r.pointer = reg
	}
	return nil
}

// address is the register that the pointer stands for, and how it steps.
func (r *registers) address() (reg, step byte) {
	switch {
	case !r.bit7:
		return r.pointer, 1
	case r.pointer&0x80 != 0:
		return r.pointer &^ 0x80, 1
	}
	return r.pointer, 0
}

func (r *registers) write(data []byte) {
	if r.words {
		if len(data) > 0 && !r.fixed[r.pointer] {
			r.b[r.pointer] = slices.Clone(data)
		}
		return
	}
	reg, step := r.address()
	for i := 0; i < len(data); i++ {
		if !r.fixed[reg] && r.takes(reg) {
			r.b[reg] = []byte{data[i]}
		}
		if reg += step; r.pairs && i+1 < len(data) {
			i++
			reg = data[i]
		}
	}
}

// takes says whether a register can be written now.
func (r *registers) takes(reg byte) bool {
	const mode1, sleep, prescale = 0x00, 1 << 4, 0xFE
	return r.chip != "pca9685" || reg != prescale || r.content(mode1)[0]&sleep != 0
}

// compare compares what was written with "mask m = v", or plain bytes.
func (r *registers) compare(t *testing.T, after map[string]string) {
	t.Helper()
	for at, want := range after {
		reg := byte(hexNumber(t, at))
		n := 1
		if r.words {
			n = 2
		}
		mask := strings.Repeat("ff", n)
		if s, ok := strings.CutPrefix(want, "mask "); ok {
			mask, want, _ = strings.Cut(s, " = ")
		}
		got, m, w := r.content(reg), hexNumber(t, mask), hexNumber(t, want)
		g := uint16(0)
		for _, x := range got {
			g = g<<8 | uint16(x)
		}
		if g&m != w {
			t.Errorf("register %s has %x, want mask %s = %s", at, got, mask, want)
		}
	}
}

// commands is a chip that answers commands.
type commands struct {
	by   map[string]exchange
	last exchange
	some bool // a command was given that reads answer to
}

func newCommands(t *testing.T, v *vector) *commands {
	c := &commands{by: map[string]exchange{}}
	for _, e := range v.Exchange {
		if _, err := hex.DecodeString(e.R); err != nil {
			t.Fatal(err)
		}
		for _, w := range e.W {
			c.by[w] = e
		}
	}
	return c
}

func (c *commands) Tx(w, in []byte) error {
	if len(w) > 0 {
		if e, ok := c.by[hex.EncodeToString(w)]; ok {
			c.last, c.some = e, true
		}
	}
	if len(in) == 0 {
		return nil
	}
	r, _ := hex.DecodeString(c.last.R)
	if !c.some || c.last.NACK || len(r) == 0 {
		return fmt.Errorf("read refused: %w", hal.ErrNoDevice)
	}
	for i := range in {
		in[i] = 0xFF // the lines' pull-ups
	}
	copy(in, r)
	return nil
}
