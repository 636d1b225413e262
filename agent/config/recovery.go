package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/hal/sim"
)

// A Recovery says how an I2C bus is freed that a chip holds; hal/sensor/README.md
// has which way serves where.
type Recovery struct {
	SCL    string `toml:"scl"`    // line of the clock
	SDA    string `toml:"sda"`    // line of the data
	Spare  bool   `toml:"spare"`  // the lines are pins of their own, wired to the bus
	Rebind bool   `toml:"rebind"` // the kernel's driver of the bus is bound anew; for root
}

func recovery(in any, out *Recovery, key string) []error {
	t, ok := in.(map[string]any)
	if !ok {
		return wrong(in, key, `a table such as {scl = "GPIO3", sda = "GPIO2"}`)
	}
	return table(t, valueOf(out), key+".")
}

func (b *Board) check(f *findings) {
	if len(b.Chips) > 0 && b.Kind != "sim" {
		f.bad("board.chips", b.Chips, `none with kind = "linux"`)
	}
	for _, c := range b.Chips {
		if _, err := sim.ParsePlace(c); err != nil {
			f.errs = append(f.errs, fmt.Errorf("board.chips: %w", err))
		}
	}
	for _, bus := range slices.Sorted(maps.Keys(b.Recover)) {
		key, r := "board.recover."+bus, b.Recover[bus]
		switch {
		case !strings.HasPrefix(bus, "/dev/i2c-"):
			f.bad("board.recover", bus, "a bus such as /dev/i2c-1")
		case (r.SCL == "") != (r.SDA == "") || r.SCL == r.SDA && r.SCL != "":
			f.bad(key, r.SCL+" and "+r.SDA, "two lines, scl and sda, or none")
		case r.SCL == "" && (r.Spare || !r.Rebind):
			f.bad(key, "no lines", "scl and sda, or rebind = true")
		}
	}
}
