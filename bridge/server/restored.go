package server

import (
	"context"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/speed/hold"
)

// openRevoker makes what writes revocations beside the backups.
func (a *assembly) openRevoker() error {
	c := a.cfg.Backup
	a.revocations = backup.NewRevoker(backup.RevokerOptions{Target: c.Target, Dir: a.cfg.DataDir,
		Place:    a.backupSettings().Place,
		Registry: a.registry, Key: a.pki.RevocationKey(),
		Keys: func() (map[string]pki.AccessKey, error) {
			files, err := a.pki.ReadAccess()
			return files.Keys, err
		},
		About: backup.About{Version: a.version, Account: a.cfg.Account, Directory: a.dir.ID()},
		Last:  a.backups.LastCut,
		Log:   a.log})
	return a.warnHeld()
}

// warnHeld logs what a restore holds.
func (s *Server) warnHeld() error {
	all, err := hold.List(s.store)
	for _, h := range all {
		if h.Waiting > 0 {
			s.log.Warn("what waited in the backup is held until it is released: restore release", "name", h.Name,
				"waiting", h.Waiting, "backup", h.Backup)
		}
	}
	return err
}

// unheld is run once a name is not held after a restore.
func (s *Server) unheld(name string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := hold.Wait(ctx, s.store, name, nil); err != nil {
			return err
		}
		return run(ctx)
	}
}

// A holder answers the administration about what is held.
type holder struct{ *Server }

// List implements admin.Holds.
func (h holder) List() ([]hold.Held, error) { return hold.List(h.store) }

// Release implements admin.Holds.
func (h holder) Release(ctx context.Context, name string) error {
	if err := hold.Release(ctx, h.store, name); err != nil {
		return err
	}
	h.log.Warn("what was held after a restore is released", "name", name)
	return nil
}

func (x series) held(s *Server) {
	all, err := hold.List(s.store)
	if err != nil {
		return
	}
	x.gauge("restore_held", "Outboxes, delivery streams and the like that are held after a restore.", float64(len(all)))
	for _, h := range all {
		x.gauge("restore_held_waiting", "What waits in each of them.", float64(h.Waiting), "name", h.Name)
	}
	if written, _ := s.revocations.Status(); !written.IsZero() {
		x.gauge("revocations_written_timestamp_seconds", "As of when the revocations beside the backups are.",
			float64(written.UnixMilli())/1000)
	}
}
