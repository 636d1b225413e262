package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var movePrepare = command{name: "move prepare",
	summary: "begin to move the bridge to another machine: a backup while it runs, after which the last one is short",
	example: "tidemill-bridge move prepare -to /mnt/move -recipient age1…",
	run: func(ctx context.Context, c *call) error {
		var in backup.Request
		limit := c.requestFlags(&in)
		if err := c.parse(0, 0); err != nil {
			return err
		}
		in.MaxBandwidth = *limit
		var err error
		if in.Target, err = absolute(in.Target); err != nil {
			return err
		}
		cfg, err := c.loadConfig()
		if err == nil {
			err = datadir.CheckMove(cfg.DataDir)
		}
		if err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			last, err := c.backup(ctx, a, in)
			if err == nil && last.Error != "" {
				err = errors.New(last.Error)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.stdout, "%s: %s, %s stored\nnext: tidemill-bridge move finish, with the same target\n",
				last.Taken.ID, disk.Text(last.Taken.Size), disk.Text(last.Taken.Stored))
			return err
		})
	}}

var moveFinish = command{name: "move finish",
	summary: "end the bridge for good: no more devices, all committed, a last backup, and the data directory closed",
	example: "tidemill-bridge move finish -to /mnt/move -recipient age1…\n" +
		"tidemill-bridge move finish -address new.example.org:8883   # clients of MQTT 5 are told",
	run: func(ctx context.Context, c *call) error {
		var in backup.Request
		limit := c.requestFlags(&in)
		address := c.flags.String("address", "",
			"`host:port` of the new bridge, which clients of MQTT 5 are told; default: the name follows, nothing is told")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		in.MaxBandwidth = *limit
		t, err := c.backupTarget(ctx, in.Target, *limit)
		if err != nil {
			return err
		}
		in.Target = t.String()
		if t.config.Backup.Target == in.Target {
			in.Target = ""
		}
		return c.finishMove(ctx, t, in, *address)
	}}

// finishMove drains the bridge, where one runs, and takes the last backup. Each step is
// done again without harm.
func (c *call) finishMove(ctx context.Context, t place, in backup.Request, address string) error {
	dir := t.config.DataDir
	m, err := datadir.ReadMove(dir)
	if err != nil {
		return err
	}
	if m != nil && m.State == datadir.Moved {
		return c.printMoved(m)
	}
	// Whatever can be wrong with the flags is told while devices are still served.
	d := admin.Drain{To: address, Target: t.String()}
	if err := d.Check(); err != nil {
		return usagef("move finish: -address: %w", err)
	}
	source := backup.Source{Dir: dir, Account: t.config.Account}
	if err := backup.Probe(ctx, source, server.BackupSettings(t.config), in); err != nil {
		return fmt.Errorf("%w\nNothing was changed: the bridge goes on as it was", err)
	}
	// A bridge may run all the same: it was starting when the last run found none.
	if runs := answers(ctx, t.config.Admin.Socket); m == nil || runs {
		if m, err = c.drain(ctx, t, runs, d); err != nil {
			return err
		}
	}
	if m.Target != t.String() { // a run with another target: undo has to know of this one
		m.Target = t.String()
		if err := datadir.WriteMove(dir, m); err != nil {
			return err
		}
	}
	taken, err := c.lastBackup(ctx, t.config, in)
	if err != nil {
		return fmt.Errorf("%w\nThe bridge is drained: run move finish again, or move undo to have it go on", err)
	}
	m.State, m.Backup = datadir.Moved, taken.ID
	if err := datadir.WriteMove(dir, m); err != nil {
		return err
	}
	return c.printMoved(m)
}

// drainWithin is how long a bridge has for its end; it takes 30 s at most.
const drainWithin = 60 * time.Second

// answers says whether a bridge answers at the admin socket.
func answers(ctx context.Context, socket string) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// drain ends the bridge that runs over the data directory and notes the move. One that
// is stopped is as drained as it was when it stopped.
func (c *call) drain(ctx context.Context, t place, runs bool, d admin.Drain) (*datadir.Move, error) {
	dir := t.config.DataDir
	if !runs {
		if _, err := os.Stat(filepath.Join(dir, "registry.db")); err != nil {
			return nil, fmt.Errorf("data_dir: no bridge runs, and %s is no bridge's data directory: %w", dir, err)
		}
		if err := datadir.Free(dir); err != nil {
			return nil, err
		}
		m := &datadir.Move{State: datadir.Drained, At: time.Now().UTC(), To: d.To, Target: d.Target}
		return m, datadir.WriteMove(dir, m)
	}
	a, err := c.admin(ctx)
	if err != nil {
		return nil, err
	}
	err = a.do(ctx, "POST", "/v1/drain", nil, d, nil)
	if err := errors.Join(err, a.close()); err != nil {
		return nil, err
	}
	fmt.Fprintln(c.stderr, "no more devices are taken; what was taken is being committed")
	by := time.Now().Add(drainWithin)
	for {
		m, err := datadir.ReadMove(dir)
		if err != nil {
			return nil, err
		}
		if free := datadir.Free(dir); m != nil && free == nil {
			return m, nil
		}
		if time.Now().After(by) {
			return nil, fmt.Errorf("the bridge has not ended within %s: its log may say why; run move finish again",
				drainWithin)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lastBackup opens the directory that was drained and takes the backup.
func (c *call) lastBackup(ctx context.Context, cfg *config.Config, in backup.Request) (*backup.Taken, error) {
	s, err := server.Open(ctx, server.Options{Config: cfg, Version: c.version, Moving: true,
		Log: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return nil, err
	}
	taken, err := s.LastBackup(ctx, in, func(backup.Progress) {})
	return taken, errors.Join(err, s.Close())
}

func (c *call) printMoved(m *datadir.Move) error {
	_, err := fmt.Fprintf(c.stdout, "moved: %s in %s is the last backup\n"+
		"next, on the new machine: tidemill-bridge move take -from %s -id %s -identity FILE, then start it\n"+
		"before that: tidemill-bridge move undo has this bridge go on\n", m.Backup, m.Target, m.Target, m.Backup)
	return err
}

var moveTake = command{name: "move take", args: "[DIR]",
	summary: "on the new machine: make the data directory of a moved bridge, DIR or data_dir, which is not there or empty",
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
			_, err = fmt.Fprintf(c.stdout, "drained at %s: the last backup, to %s, is not complete; move finish goes on, "+
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
