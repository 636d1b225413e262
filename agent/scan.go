package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
)

// scanTime is how long a scan may take; a bus that hangs would hold it for ever.
const scanTime = time.Minute

// runScan prints what the board has, with blocks for the configuration.
func runScan(ctx context.Context, c *call, load func() (config.Config, error), bus string, asJSON bool) error {
	cfg, err := load()
	if errors.Is(err, fs.ErrNotExist) {
		cfg = config.Default()
	} else if err != nil {
		return err
	}
	board, err := device.OpenBoard(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer board.Close()
	ctx, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	var buses []string
	if bus != "" {
		buses = []string{bus}
	}
	s := sensor.Look(ctx, board, buses...)
	if asJSON {
		e := json.NewEncoder(c.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	printBuses(w, s.I2C)
	if err := w.Flush(); err != nil {
		return err
	}
	printLines(c.stdout, s.GPIO)
	for _, d := range []struct {
		title string
		list  []sensor.Device
	}{
		{"1-WIRE CHIPS", s.OneWire},
		{"SPI CHIP SELECTS", s.SPI},
		{"PWM OUTPUTS", s.PWM},
		{"IIO DEVICES OF THE KERNEL", s.IIO},
		{"HWMON DEVICES OF THE KERNEL", s.Hwmon},
		{"SERIAL PORTS", s.Serial},
	} {
		printDevices(w, d.title, d.list)
	}
	for i, p := range s.Problems {
		if i == 0 {
			fmt.Fprintln(w, "\nPROBLEMS")
		}
		fmt.Fprintf(w, "  %s\n", printable(p))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, "\nFOR THE CONFIGURATION")
	for _, g := range s.Suggestions {
		fmt.Fprintf(c.stdout, "\n%s", block(g))
	}
	return nil
}

// printBuses lists the I2C buses with the chips on them.
func printBuses(w io.Writer, buses []sensor.BusFound) {
	fmt.Fprintln(w, "I2C BUSES")
	for _, b := range buses {
		fmt.Fprintf(w, "  %s\n", printable(b.Bus))
		for _, f := range b.Found {
			fmt.Fprintf(w, "    0x%02x\t%s\n", f.Address, printable(whatIsThere(f)))
		}
		if len(b.Found) == 0 {
			fmt.Fprintln(w, "    nothing answers")
		}
	}
	if len(buses) == 0 {
		fmt.Fprintln(w, "  none; "+hal.EnableI2C)
	}
}

// whatIsThere says what an address has, and how that is known.
func whatIsThere(f sensor.Found) string {
	if f.Kernel != "" {
		return f.Kernel + ": the kernel's, not touched"
	}
	names := make([]string, len(f.Chips))
	for i, c := range f.Chips {
		names[i] = c.Chip
	}
	switch all := strings.Join(names, " or "); {
	case len(f.Chips) == 0:
		return "something that says nothing of itself"
	case f.Chips[0].By == sensor.ByID:
		return all
	case f.Chips[0].By == sensor.ByPowerOn:
		return all + ", by its registers"
	default:
		return "perhaps " + all + ": such have the address"
	}
}

// printLines lists the controllers with their lines, eight in a row.
func printLines(w io.Writer, chips []sensor.GPIOChip) {
	fmt.Fprintln(w, "\nGPIO CHIPS (a line's name or LABEL:NUMBER is the option line; * is in use)")
	for _, c := range chips {
		fmt.Fprintf(w, "  %s, label %s, %d lines\n", printable(c.Name), printable(c.Label), len(c.Lines))
		for i, l := range c.Lines {
			if i%8 == 0 {
				fmt.Fprint(w, "   ")
			}
			used := ""
			if l.User != "" {
				used = "*"
			}
			fmt.Fprintf(w, " %d=%s%s", l.Offset, printable(cmp.Or(l.Name, "-")), used)
			if i%8 == 7 || i == len(c.Lines)-1 {
				fmt.Fprintln(w)
			}
		}
	}
	if len(chips) == 0 {
		fmt.Fprintln(w, "  none")
	}
}

func printDevices(w io.Writer, title string, list []sensor.Device) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, d := range list {
		fmt.Fprintf(w, "  %s\t%s\n", printable(d.Name), printable(d.Detail))
	}
}

// block is a suggestion as the configuration has it.
func block(g sensor.Suggestion) string {
	var b strings.Builder
	if g.If != "" {
		fmt.Fprintf(&b, "# if %s:\n", printable(g.If))
	}
	fmt.Fprintf(&b, "[[sensor]]\nname   = %q\ndriver = %q\nevery  = \"10s\"\n", g.Name, g.Driver)
	for i, key := range slices.Sorted(maps.Keys(g.Options)) {
		if i == 0 {
			b.WriteString("  [sensor.options]\n")
		}
		fmt.Fprintf(&b, "  %s = %s\n", key, tomlValue(key, g.Options[key]))
	}
	return b.String()
}

// tomlValue writes a value; addresses are hex, as everybody has them.
func tomlValue(key string, v any) string {
	switch n := v.(type) {
	case int64:
		if key == "address" {
			return fmt.Sprintf("%#02x", n)
		}
		return strconv.FormatInt(n, 10)
	case string:
		return tomlText(n)
	case []map[string]any:
		tables := make([]string, len(n))
		for i, t := range n {
			var members []string
			for _, k := range slices.Sorted(maps.Keys(t)) {
				members = append(members, k+" = "+tomlValue("", t[k]))
			}
			tables[i] = "{" + strings.Join(members, ", ") + "}"
		}
		return "[" + strings.Join(tables, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// tomlText is a basic string of TOML: quoted, with \u for what does not print.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unprintable(r):
			fmt.Fprintf(&b, "\\U%08X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
