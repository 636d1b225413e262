package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
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
		fmt.Fprintln(w, "  none")
	}
	fmt.Fprintln(w, "\nREADINGS")
	if missing {
		fmt.Fprintln(w, "  none: there is no configuration file; --config names one")
	}
	failed := 0
	for _, s := range cfg.Sensors {
		if ctx.Err() != nil {
			break
		}
		chs, vals, err := readOnce(ctx, board, s)
		fmt.Fprintf(w, "  %s\t%s\t", s.Name, s.Driver)
		if err != nil {
			failed++
			fmt.Fprintf(w, "%v\n", err)
			continue
		}
		for i, ch := range chs {
			if i > 0 {
				fmt.Fprint(w, ", ")
			}
			fmt.Fprintf(w, "%s %s", ch.Name, show(vals[i]))
			if ch.Unit != "" && vals[i].Kind() != hal.Absent {
				fmt.Fprint(w, " "+ch.Unit)
			}
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d sensors could not be read", failed, len(cfg.Sensors))
	}
	return nil
}

// readOnce opens a sensor and reads it.
func readOnce(ctx context.Context, board hal.Board, s config.Sensor) ([]hal.Channel, []hal.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(s.Timeout), 2*time.Second))
	defer cancel()
	sn, err := sensor.Open(ctx, s.Driver, board, s.Options)
	if err != nil {
		return nil, nil, err
	}
	defer sn.Close()
	vals, err := sn.Read(ctx)
	return sn.Channels(), vals, err
}

func show(v hal.Value) string {
	switch v.Kind() {
	case hal.Float:
		return strconv.FormatFloat(v.Float(), 'g', 7, 64)
	case hal.Int:
		return strconv.FormatInt(v.Int(), 10)
	case hal.Bool:
		return strconv.FormatBool(v.Bool())
	case hal.Text:
		return strconv.Quote(v.Text())
	}
	return "-"
}
