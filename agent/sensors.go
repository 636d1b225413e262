package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
)

func runSensors(ctx context.Context, c *call) error {
	load := configFlags(c)
	if err := c.parse(0); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	printDrivers(w)
	cfg, err := load()
	missing := errors.Is(err, fs.ErrNotExist)
	if missing {
		cfg = config.Default()
	} else if err != nil {
		_ = w.Flush()
		return err
	}
	board, err := device.OpenBoard(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		_ = w.Flush()
		return err
	}
	defer board.Close()
	printBuses(w, board)
	if err := w.Flush(); err != nil {
		return err
	}
	printLines(c.stdout, board)
	fmt.Fprintln(w, "\nREADINGS")
	if missing {
		fmt.Fprintln(w, "  none: there is no configuration file; --config names one")
	}
	failed := 0
	for _, s := range cfg.Sensors {
		if ctx.Err() != nil {
			break
		}
		r, err := readOnce(ctx, board, s)
		fmt.Fprintf(w, "  %s\t%s\t", s.Name, s.Driver)
		if err != nil {
			failed++
			fmt.Fprintln(w, printable(err.Error()))
			continue
		}
		fmt.Fprintln(w, printable(device.NewReading(s.Name, r.chs, 0, r.vals).String()))
		if r.note != "" {
			fmt.Fprintf(w, "\t\t%s\n", printable(r.note))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d sensors could not be read", failed, len(cfg.Sensors))
	}
	return nil
}

func printDrivers(w io.Writer) {
	fmt.Fprintln(w, "DRIVERS")
	for _, d := range sensor.Drivers() {
		fmt.Fprintf(w, "  %s\t%s\n", d.Name, d.Summary)
		for _, o := range d.Options {
			def := ""
			if o.Default != "" {
				def = " (default " + o.Default + ")"
			}
			fmt.Fprintf(w, "    %s\t%s: %s%s\n", o.Name, o.Type, o.Help, def)
		}
	}
}

func printBuses(w io.Writer, board hal.Board) {
	fmt.Fprintln(w, "\nBUSES")
	for _, bus := range board.Buses() {
		found, err := sensor.Scan(board, bus)
		fmt.Fprintf(w, "  %s\t", bus)
		for _, a := range found {
			fmt.Fprintf(w, "0x%02x ", a)
		}
		if err != nil {
			fmt.Fprintf(w, "%v", err)
		} else if len(found) == 0 {
			fmt.Fprint(w, "nothing answers")
		}
		fmt.Fprintln(w)
	}
	if len(board.Buses()) == 0 {
		fmt.Fprintln(w, "  none; on a Raspberry Pi: sudo raspi-config nonint do_i2c 0; elsewhere: sudo modprobe i2c-dev")
	}
}

// printLines lists the chips with their lines, eight in a row.
func printLines(w io.Writer, board hal.Board) {
	lister, ok := board.(hal.LineLister)
	if !ok {
		return
	}
	fmt.Fprintln(w, "\nGPIO CHIPS (a line's name or LABEL:NUMBER is the option line; * is in use)")
	chips, err := lister.LineChips()
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
			fmt.Fprintf(w, " %d=%s%s", i, printable(cmp.Or(l.Name, "-")), used)
			if i%8 == 7 || i == len(c.Lines)-1 {
				fmt.Fprintln(w)
			}
		}
	}
	if err != nil {
		fmt.Fprintf(w, "  %s\n", printable(err.Error()))
	} else if len(chips) == 0 {
		fmt.Fprintln(w, "  none")
	}
}

// A look is what a sensor gave once.
type look struct {
	chs  []hal.Channel
	vals []hal.Value
	note string
}

// readOnce opens a sensor and reads it.
func readOnce(ctx context.Context, board hal.Board, s config.Sensor) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(s.Timeout), 2*time.Second))
	defer cancel()
	sn, err := sensor.Open(ctx, s.Driver, board, s.Options)
	if err != nil {
		return look{}, err
	}
	defer sn.Close()
	vals, err := sn.Read(ctx)
	l := look{chs: sn.Channels(), vals: vals}
	if n, ok := sn.(hal.Noter); ok {
		l.note = n.Note()
	}
	return l, err
}
