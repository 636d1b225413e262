package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
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
			_, err = fmt.Fprintf(c.stdout, "%s: %s, %s stored\nnext: tidemill-bridge move finish, with the same "+
				"target\n",
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
