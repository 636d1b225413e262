package main

import (
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
	bus := c.flags.String("bus", "", "with scan: this I2C `bus` alone, such as /dev/i2c-1")
	asJSON := c.flags.Bool("json", false, "with scan: print JSON")
	if err := c.parse(1); err != nil {
		return err
	}
	switch {
	case len(c.words) == 0 && (*bus != "" || *asJSON):
		return &usageError{"-bus and -json are flags of sensors scan"}
	case len(c.words) == 0:
	case c.words[0] == "scan":
		return runScan(ctx, c, load, *bus, *asJSON)
	default:
		return &usageError{fmt.Sprintf("unexpected argument %q, want scan or none", c.words[0])}
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
	fmt.Fprintln(w, "\nREADINGS")
	if missing {
		fmt.Fprintln(w, "  none: there is no configuration file; --config names one")
	}
	failed := printReadings(ctx, w, board, cfg)
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d sensors could not be read", failed, len(cfg.Sensors))
	}
	return nil
}

// printReadings reads each sensor once and returns how many could not be read.
func printReadings(ctx context.Context, w io.Writer, board hal.Board, cfg config.Config) (failed int) {
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
	return failed
}

func printDrivers(w io.Writer) {
	fmt.Fprintln(w, "DRIVERS")
	for _, d := range sensor.Drivers() {
		fmt.Fprintf(w, "  %s\t%s\n", d.Name, d.Summary)
		for _, o := range d.Options {
			printOption(w, "    "+o.Name, o)
			for _, member := range d.Tables[o.Name] {
				printOption(w, "      "+o.Name+"."+member.Name, member)
			}
		}
	}
}

func printOption(w io.Writer, name string, o sensor.Option) {
	def := ""
	if o.Default != "" {
		def = " (default " + o.Default + ")"
	}
	fmt.Fprintf(w, "%s\t%s: %s%s\n", name, o.Type, o.Help, def)
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
	l := look{chs: sn.Channels()}
	if p, ok := sn.(hal.Pusher); ok {
		var push hal.Push
		push, err = p.Next(ctx)
		l.chs, l.vals = push.Channels, push.Values
	} else {
		l.vals, err = sn.Read(ctx)
	}
	if n, ok := sn.(hal.Noter); ok {
		l.note = n.Note()
	}
	return l, err
}
