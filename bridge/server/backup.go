package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// openBackup makes what backups are made by, and removes what a kill left of one.
func (a *assembly) openBackup() (err error) {
	a.backups, err = backup.NewService(a.backupSource(), a.backupSettings())
	return err
}

func (s *Server) backupSettings() backup.Settings { return BackupSettings(s.cfg) }

// BackupSettings are the settings of backups that a configuration has.
func BackupSettings(cfg *config.Config) backup.Settings {
	c := cfg.Backup
	return backup.Settings{Target: c.Target,
		Place: vault.TargetOptions{MaxBandwidth: int64(c.MaxBandwidth), Region: c.Region, EndpointURL: c.EndpointURL,
			Profile: c.Profile, RoleARN: c.RoleARN},
		Recipients: c.Recipients, Every: time.Duration(c.Every), Keep: c.Keep}
}

// backupSource is the open data directory, as backups see it.
func (s *Server) backupSource() backup.Source {
	return backup.Source{Dir: s.cfg.DataDir, Directory: s.dir.ID(),
		Folders: map[string]string{"objects": s.cfg.Objects.Dir, "bridge.d": s.cfg.BridgeD.Dir,
			"secrets": s.cfg.Secrets.Dir},
		Version: s.version, Account: s.cfg.Account, Region: s.cfg.Region,
		Registry: s.engine, Shadows: s.shadows, Log: s.store,
		Note: func(at streams.Position) ([]byte, error) {
			last, _ := s.dir.Note()
			n := datadir.Note{Number: last.Number + 1, Clock: s.clock.State(), Log: at}
			return n.File()
		},
		Slog: s.log}
}

func (x series) backups(s *Server) {
	st, c := s.backups.Status(), s.backups.Counters()
	if last := st.Last; last != nil {
		x.gauge("backup_last_success_timestamp_seconds", "The instant that the last good backup is of.",
			float64(last.Time.UnixMilli())/1000)
		x.gauge("backup_age_seconds", "How long ago that was.", time.Since(last.Time).Seconds())
		x.gauge("backup_last_duration_seconds", "How long it took from then on.", time.Duration(last.Took).Seconds())
		x.gauge("backup_last_bytes", "Bytes of its files.", float64(last.Size))
	}
	running := 0.0
	if st.Running {
		running = 1
	}
	x.gauge("backup_running", "1 while a backup is under way.", running)
	x.counter("backup_done", "Backups that are complete.", float64(c.Done))
	x.counter("backup_failures", "Backups that failed.", float64(c.Failed))
	x.counter("backup_sent_bytes", "Bytes that backups added to their targets.", float64(c.Bytes))
	buckets := map[float64]uint64{}
	for i, bound := range backup.HeldBounds {
		buckets[bound.Seconds()] = c.HeldBy[i]
	}
	x <- prometheus.MustNewConstHistogram(prometheus.NewDesc("tidemill_backup_hold_seconds",
		"How long writers waited while the state for a backup was taken.", nil, nil), c.Cuts, c.Held.Seconds(), buckets)
}
