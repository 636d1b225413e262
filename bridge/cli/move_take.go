package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/disk"
)

var moveTake = command{name: "move take", args: "[DIR]",
	summary: "on the new machine: make the data directory of a moved bridge, DIR or data_dir, which is not there " +
		"or empty",
	example: "tidemill-bridge move take -from /mnt/move -identity backup.key\n" +
		"tidemill-bridge move take -from s3://backups/plant -id 20261130T021500Z-1f2e3d4c -identity backup.key",
	run: func(ctx context.Context, c *call) error {
		o := backup.RestoreOptions{Version: c.version, Moved: true}
		from := c.flags.String("from", "", "`target` of move finish: a folder, or s3://BUCKET/PREFIX; default: backup.target")
		c.flags.StringVar(&o.ID, "id", vault.Latest, "`backup` that move finish named")
		identity := c.flags.String("identity", "", "`file` with the private key of a recipient, of backup keygen")
		limit := bandwidthFlag(c.flags)
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if *identity == "" {
			return usagef("move take: want -identity, the file with the private key; see -h")
		}
		t, err := c.backupTarget(ctx, *from, *limit)
		if err != nil {
			return err
		}
		if o.Identities, err = readIdentities(*identity); err != nil {
			return err
		}
		o.Target, o.Account, o.Dir = t.Target, t.config.Account, t.config.DataDir
		if len(c.args) == 1 {
			o.Dir = c.args[0]
		}
		r, err := backup.Restore(ctx, o)
		if err != nil {
			return err
		}
		for _, n := range r.Notes {
			fmt.Fprintln(c.stdout, "note:", printable(n))
		}
		_, err = fmt.Fprintf(c.stdout, "%s: %d files, %s: start the bridge over %s\n", r.Info.ID, r.Files,
			disk.Text(r.Bytes), r.Dir)
		return err
	}}

var moveStatus = command{name: "move status", summary: "tell how far a move of the bridge is",
	example: "tidemill-bridge move status",
	run: func(_ context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON; null for no move")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		cfg, err := c.loadConfig()
		if err != nil {
			return err
		}
		m, err := datadir.ReadMove(cfg.DataDir)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return c.printJSON(m)
		case m == nil:
			_, err = fmt.Fprintln(c.stdout, "not moved")
		case m.State == datadir.Drained:
			_, err = fmt.Fprintf(c.stdout, "drained at %s: the last backup, to %s, is not complete; move finish "+
				"goes on, "+
				"move undo takes it back\n", m.At.Format(time.RFC3339), cmp.Or(m.Target, "a target"))
		default:
			err = c.printMoved(m)
		}
		return err
	}}

var moveUndo = command{name: "move undo",
	summary: "have the bridge go on here, if none was restored from its last backup; start it after that",
	example: "tidemill-bridge move undo",
	run: func(ctx context.Context, c *call) error {
		force := c.flags.Bool("force", false,
			"also where a bridge was restored, or the target cannot be asked: never start that one")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		cfg, err := c.loadConfig()
		if err != nil {
			return err
		}
		m, err := datadir.ReadMove(cfg.DataDir)
		if err == nil && m != nil {
			err = c.claimBack(ctx, m)
		}
		if err != nil && !*force {
			return err
		}
		if err := datadir.EndMove(cfg.DataDir); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "not moved: start the bridge over %s\n", cfg.DataDir)
		return err
	}}

// claimBack has nobody else go on from a backup of the move: the last one, or one that was
// complete when a kill came before that was noted.
func (c *call) claimBack(ctx context.Context, m *datadir.Move) error {
	if m.Target == "" {
		return nil
	}
	t, err := c.backupTarget(ctx, m.Target, 0)
	if err != nil {
		return err
	}
	ids := []string{m.Backup}
	if m.Backup == "" {
		all, err := vault.List(ctx, t)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, vault.ErrNotFound) {
			return err
		}
		ids = nil
		for _, info := range all {
			if !info.Time.Before(m.At.Truncate(time.Second)) {
				ids = append(ids, info.ID)
			}
		}
	}
	for _, id := range ids {
		if err := backup.UndoMove(ctx, t, id); err != nil {
			return fmt.Errorf("%w\nmove undo -force has this bridge go on all the same: "+
				"both would then give the same numbers", err)
		}
	}
	return nil
}
