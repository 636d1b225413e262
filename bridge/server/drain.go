package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// beginDrain has Run end as its context does, and the data directory refused to
// whoever would serve it again. What was taken by then is committed and answered. It
// does not wait, and again does nothing.
func (s *Server) beginDrain(d admin.Drain) error {
	if !s.logRuns.Load() {
		return errors.New("no bridge runs that could be drained")
	}
	select {
	case s.drain <- datadir.Move{State: datadir.Drained, At: time.Now().UTC(), To: d.To, Target: d.Target}:
		s.gateway.Move(d.To) // who comes or goes from now on is told
	default:
	}
	return nil
}

// drained notes durably that the bridge has ended for a move, once all parts have.
func (s *Server) drained(m *datadir.Move) error {
	if err := datadir.WriteMove(s.cfg.DataDir, m); err != nil {
		return fmt.Errorf("the bridge is drained, but that could not be noted: start it again: %w", err)
	}
	s.log.Info("drained for a move: the data directory is not served again", "data", s.cfg.DataDir, "to", m.To)
	return nil
}

// LastBackup takes the backup from which another bridge goes on in the place of this
// one, which must not run and does not any more. The backup is one of the state that
// was drained: a bridge restored from it needs no gap and holds nothing back.
func (s *Server) LastBackup(ctx context.Context, r backup.Request,
	progress func(backup.Progress)) (*backup.Taken, error) {
	if s.logRuns.Load() {
		return nil, errors.New("the bridge runs: a last backup is of one that was drained")
	}
	source := s.backupSource()
	source.Final = true
	x, err := backup.NewService(source, s.backupSettings())
	if err != nil {
		return nil, err
	}
	return x.Take(ctx, r, progress)
}
