package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/disk"
)

var checkCommand = command{name: "check",
	summary: "read all of a data directory that no bridge uses, and tell what is damaged or missing",
	example: "tidemill-bridge check -data /var/lib/tidemill-bridge",
	run: func(_ context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.look(func(cfg *config.Config, r datadir.Report) error {
			err := datadir.Check(cfg.DataDir, cfg.Objects.Dir, cfg.BridgeD.Dir, r)
			return errors.Join(err, c.printWayBack(cfg.DataDir))
		})
	}}

var salvageCommand = command{name: "salvage", args: "NEW",
	summary: "copy what can be read of a damaged data directory into a new one",
	example: "tidemill-bridge salvage -data /var/lib/tidemill-bridge /var/lib/tidemill-salvaged",
	run: func(_ context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.look(func(cfg *config.Config, r datadir.Report) error {
			return datadir.Salvage(cfg.DataDir, cfg.Objects.Dir, cfg.BridgeD.Dir, c.args[0], r)
		})
	}}

// look runs f, says how far it is, and fails if something is lost.
func (c *call) look(f func(cfg *config.Config, r datadir.Report) error) error {
	cfg, err := c.loadConfig()
	if err != nil {
		return err
	}
	part, read, lost, due := "", 0, 0, seldom(time.Second)
	err = f(cfg, datadir.Report{
		Part: func(name string) {
			if part = name; name != "" {
				fmt.Fprintln(c.stdout, name)
			}
		},
		Read: func(n int) {
			if read += n; due() {
				fmt.Fprintf(c.stdout, "%s: %s read in all\n", part, disk.Text(int64(read)))
			}
		},
		Lost: func(err error) {
			lost++
			fmt.Fprintln(c.stdout, "LOST", printable(err.Error()))
		},
	})
	if err != nil {
		return err
	}
	if lost > 0 {
		return fmt.Errorf("%d pieces of %s are damaged or missing", lost, cfg.DataDir)
	}
	_, err = fmt.Fprintf(c.stdout, "sound: %d bytes read\n", read)
	return err
}
