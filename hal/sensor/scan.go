package sensor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"periph.io/x/conn/v3/i2c"

	"github.com/tidemill/tidemill/hal"
)

// A Found is an address on an I2C bus where something is.
type Found struct {
	Address uint16 `json:"address"`
	// Kernel is the driver of the kernel that has the chip, or the chip's name
	// there. It was not touched.
	Kernel string `json:"kernel,omitempty"`
	// Chips are what it likely is; with By "address" what else sits there.
	Chips []Likely `json:"chips,omitempty"`
}

// How a Likely was found.
const (
	ByID      = "id"       // the chip says it
	ByPowerOn = "power-on" // registers read as they do after power-on
	ByAddress = "address"  // such chips have the address
)

// A Likely is a chip that may be at an address.
type Likely struct {
	Chip   string `json:"chip"`             // "BME280"
	Driver string `json:"driver,omitempty"` // "" if there is none
	By     string `json:"by"`
}

// outputs are addresses of chips that take any byte written for levels of their
// pins: PCF8574 and PCF8574A. They are read, and asked nothing.
func outputs(addr uint16) bool { return addr>>3 == 0x20>>3 || addr>>3 == 0x38>>3 }

// muxes are addresses of TCA9548A and others, where a byte written chooses
// channels.
func muxes(addr uint16) bool { return addr>>3 == 0x70>>3 }

// others are chips without a driver here that are common at an address.
var others = []struct {
	first, last uint16
	chip        string
}{
	{0x20, 0x27, "PCF8574 or MCP23017 (pins, or a character display)"},
	{0x38, 0x38, "AHT20"},
	{0x39, 0x3F, "PCF8574A (pins)"},
	{0x3C, 0x3D, "SSD1306 (display)"},
	{0x50, 0x57, "EEPROM"},
	{0x68, 0x68, "DS3231 or DS1307 (clock)"},
	{0x70, 0x77, "TCA9548A (multiplexer)"},
}

// Scan finds what is on a bus. It reads one byte from each of 0x08 to 0x77, as
// i2cdetect -r does, which a chip that counts its reads notices; then it asks
// those where a chip that it knows can be who they are, by reading registers or by
// the harmless commands that the manual lists; some of these refuse the byte. What a driver of the kernel has is
// left alone, and where a written byte may set pins nothing is asked. Three
// failures in a row that are not a missing acknowledge end it with the last one's
// error and what was found before; so does ctx's end.
func Scan(ctx context.Context, b hal.Board, bus string) ([]Found, error) {
	h, err := b.I2C(bus)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	c := calls{release: h.Close}
	defer c.close()
	var found []Found
	var failed error
	if err := c.do(ctx, func() error {
		found, failed = scan(ctx, h, ofKernel(filesOf(b, "/"), bus))
		return nil
	}); err != nil {
		return nil, fmt.Errorf("scan %s: %w", bus, err)
	}
	if failed != nil {
		return found, fmt.Errorf("scan %s: %w", bus, failed)
	}
	return found, nil
}

func scan(ctx context.Context, bus i2c.Bus, kernel map[uint16]string) ([]Found, error) {
	var found []Found
	failed := 0
	for addr := uint16(0x08); addr <= 0x77; addr++ {
		if name, ok := kernel[addr]; ok {
			found = append(found, Found{Address: addr, Kernel: name})
			continue
		}
		w := &wire{ctx, bus, addr}
		var one [1]byte
		switch err := w.tx(nil, one[:]); {
		case err == nil:
			failed = 0
			found = append(found, Found{Address: addr, Chips: likely(w, one[0])})
		case errors.Is(err, hal.ErrNoDevice):
			failed = 0
			// Sensirion's chips refuse to be read while they have nothing.
			if chips := ask(w, true); len(chips) > 0 {
				found = append(found, Found{Address: addr, Chips: chips})
			}
		default:
			if failed++; failed == 3 || ctx.Err() != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// An echo is a bus that remembers the byte that was last written first.
type echo struct {
	i2c.Bus
	last byte
}

func (e *echo) Tx(addr uint16, w, r []byte) error {
	if len(w) > 0 {
		e.last = w[0]
	}
	return e.Bus.Tx(addr, w, r)
}

// ask asks a chip who it is, by registers or by commands. One that says so by an
// id is all; else there may be several.
func ask(w *wire, commands bool) (chips []Likely) {
	for i := range drivers {
		d := drivers[i].i2c
		if d == nil || d.who == nil || d.commands != commands || !slices.Contains(d.addresses, w.addr) {
			continue
		}
		name := d.who(w)
		switch {
		case name == "":
		case !d.guess:
			return []Likely{{name, driverFor(name, d.Name), ByID}}
		default:
			chips = append(chips, Likely{name, driverFor(name, d.Name), ByPowerOn})
		}
	}
	return chips
}

// likely finds what a chip that acknowledges may be. first is what it read before.
func likely(w *wire, first byte) []Likely {
	if !outputs(w.addr) {
		asked := &echo{Bus: w.bus, last: first}
		of := &wire{w.ctx, asked, w.addr}
		chips := ask(of, false)
		if len(chips) == 0 {
			chips = ask(of, true)
		}
		if len(chips) > 0 {
			return chips
		}
		if muxes(w.addr) {
			restore(of, first, asked.last)
		}
	}
	var chips []Likely
	for i := range drivers {
		// Such as the BH1750, or an LM75 whose limits were set. A chip with many
		// addresses is rarely at another than its usual one.
		if d := drivers[i].i2c; d != nil && (d.who == nil || d.guess) && slices.Contains(d.addresses, w.addr) &&
			(w.addr == d.addresses[0] || len(d.addresses) <= 4) {
			chips = append(chips, Likely{strings.ToUpper(d.Name), d.Name, ByAddress})
		}
	}
	for _, o := range others {
		if w.addr >= o.first && w.addr <= o.last {
			chips = append(chips, Likely{Chip: o.chip, By: ByAddress})
		}
	}
	return chips
}

// driverFor is the driver that is named as the chip, or else the one that knew it:
// one of the BME280 knows a BMP280 too.
func driverFor(chip, knew string) string {
	for _, d := range drivers {
		if d.Name == strings.ToLower(chip) {
			return d.Name
		}
	}
	return knew
}

// restore gives a multiplexer its channels back: it has taken what was written last
// for a choice of them, and reads it.
func restore(w *wire, first, last byte) {
	var now [1]byte
	if w.tx(nil, now[:]) == nil && now[0] == last && last != first {
		_ = w.tx([]byte{first}, nil) // what could be done was tried
	}
}

// ofKernel returns what the kernel has on a bus: by address the name of the driver,
// or what the chip was announced as where there is none.
func ofKernel(files fs.FS, bus string) map[uint16]string {
	number, ok := strings.CutPrefix(path.Base(bus), "i2c-")
	if !ok {
		return nil
	}
	have := map[uint16]string{}
	paths, _ := fs.Glob(files, "sys/bus/i2c/devices/"+number+"-00*") // the pattern is well formed, or matches nothing
	for _, p := range paths {
		var n int
		var addr uint16
		if _, err := fmt.Sscanf(path.Base(p), "%d-%x", &n, &addr); err != nil {
			continue
		}
		dir := sysDir{files, p}
		name, _ := dir.text("name") // a driver's name will do
		if links, ok := files.(fs.ReadLinkFS); ok {
			if to, err := links.ReadLink(p + "/driver"); err == nil {
				have[addr] = strings.TrimSpace(name + " " + "(driver " + path.Base(to) + ")")
			}
		} else if dir.has("driver") {
			have[addr] = name
		}
	}
	return have
}
