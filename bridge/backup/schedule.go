package backup

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// Our choices for the schedule.
const (
	// maxJitter bounds by how much a backup is late on purpose, so that not all bridges
	// that share a target come at once: a tenth of every, at most this.
	maxJitter = 10 * time.Minute
	// retryAfter is when a failed backup is tried again, or after a quarter of every.
	retryAfter = 15 * time.Minute
)

// Run makes a backup each time that one is due, until ctx ends. After a time in which
// the bridge did not run, one is due at once. Without a target or an interval it makes
// none.
func (x *Service) Run(ctx context.Context) error {
	s := x.settings
	if s.Target == "" || s.Every <= 0 {
		<-ctx.Done()
		return nil
	}
	for {
		wait := x.plan(time.Now())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		x.scheduled(ctx)
	}
}

// plan decides when the next backup is, and returns how long that takes.
func (x *Service) plan(now time.Time) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	every := x.settings.Every
	due := now
	switch {
	case x.problem != "":
		due = now.Add(min(retryAfter, every/4))
	case x.last.ID != "" && !x.last.Time.After(now): // a clock that was ahead makes no backup wait
		due = x.last.Time.Add(every)
	}
	if due.Before(now) {
		due = now
	}
	x.due = due.Add(rand.N(max(min(every/10, maxJitter), 1)))
	return x.due.Sub(now)
}

// scheduled makes the backup that is due, and removes old ones.
func (x *Service) scheduled(ctx context.Context) {
	_, err := x.Take(ctx, Request{}, nil)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case errors.Is(err, ErrBusy): // the one that is under way counts
		wait(ctx, time.Minute)
		return
	default:
		x.failed(err)
		x.source.Slog.Error("the backup failed, will retry", "target", x.settings.Target, "err", err)
		return
	}
	if x.settings.Keep == 0 {
		return
	}
	if err := x.prune(ctx); err != nil && ctx.Err() == nil {
		x.source.Slog.Warn("old backups are not removed", "target", x.settings.Target, "err", err)
	}
}

// failed notes a failure of before the backup began, such as of a recipient's file.
func (x *Service) failed(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.problem == "" {
		x.counts.Failed++
		x.problem = err.Error()
	}
}

// prune leaves as many backups as the settings want.
func (x *Service) prune(ctx context.Context) error {
	t, err := vault.Open(ctx, x.settings.Target, x.settings.Place)
	if err != nil {
		return err
	}
	p, err := vault.Prune(ctx, t, vault.Keep{Last: x.settings.Keep}, x.source.IndexFolder(t.String()))
	if err == nil && len(p.Backups) > 0 {
		x.source.Slog.Info("old backups are removed", "count", len(p.Backups), "bytes", p.Bytes)
	}
	return err
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
