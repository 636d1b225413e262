package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Retry says how long a line waits between attempts: First, and twice as long each
// time, up to Most, each by Spread of it longer or shorter, so that lines which
// failed together do not come back together.
type Retry struct {
	First, Most time.Duration
	Spread      float64 // 0 to 1
}

// BackOff returns the waits.
func (r Retry) BackOff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(r.First), backoff.WithMaxInterval(r.Most),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(r.Spread), backoff.WithMaxElapsedTime(0))
}

// A Line does deliveries one after the other and knows how that goes. Its Status and
// Kick may be called at any time.
type Line struct {
	retry    Retry
	log      *slog.Logger
	kick     chan struct{}
	onResult func(error) // of each failure, and nil when it is over

	mu     sync.Mutex // guards status
	status Status
}

// Status is how a line goes.
type Status struct {
	Attempts  int64     `json:"attempts"`             // since the start of the process
	Failures  int64     `json:"failures"`             // of them, that failed
	LastError string    `json:"last_error,omitempty"` // of the last attempt that failed
	FailedAt  time.Time `json:"failed_at,omitzero"`   // when that was
	Down      time.Time `json:"down_since,omitzero"`  // since when nothing gets in; zero: it does
	NextTry   time.Time `json:"next_try,omitzero"`    // zero: not waiting
	Held      bool      `json:"held,omitempty"`       // after a restore, until it is released
}

// NewLine returns a line. onResult, which may be nil, gets each failure, and nil
// when a delivery is settled.
func NewLine(r Retry, log *slog.Logger, onResult func(error)) *Line {
	if onResult == nil {
		onResult = func(error) {}
	}
	return &Line{retry: r, log: log, kick: make(chan struct{}, 1), onResult: onResult}
}

// Status says how the line goes.
func (l *Line) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Kick ends a wait before the next attempt.
func (l *Line) Kick() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *Line) note(f func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.status)
}

func (l *Line) gotIn() { l.note(func(s *Status) { s.Down = time.Time{} }) }

func (l *Line) succeeded() {
	l.gotIn()
	l.onResult(nil)
}

// downSince is when the line began to fail; that is now if it did not before.
func (l *Line) downSince() (at time.Time) {
	l.note(func(s *Status) {
		if s.Down.IsZero() {
			s.Down = time.Now()
		}
		at = s.Down
	})
	return at
}

func (l *Line) failed(err error) {
	l.note(func(s *Status) { s.Failures, s.LastError, s.FailedAt = s.Failures+1, err.Error(), time.Now() })
	l.onResult(err)
}

// pause waits after a failure.
func (l *Line) pause(ctx context.Context, d time.Duration, err error) error {
	l.failed(err)
	level := slog.LevelWarn
	if errors.Is(err, sink.ErrName) || errors.Is(err, streams.ErrCorrupt) {
		level = slog.LevelError // it does not mend itself
	}
	l.log.LogAttrs(ctx, level, "delivery failed, will retry", slog.Any("err", err), slog.Duration("in", d))
	select {
	case <-l.kick: // of before
	default:
	}
	l.note(func(s *Status) { s.NextTry = time.Now().Add(d) })
	defer l.note(func(s *Status) { s.NextTry = time.Time{} })
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.kick:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Persist does f again until it succeeds or ctx ends; an error that end says is the
// end is returned. what says in words what f does.
func (l *Line) Persist(ctx context.Context, what string, end func(error) bool, f func(context.Context) error) error {
	wait := l.retry.BackOff()
	for failed := false; ; failed = true {
		err := f(ctx)
		switch {
		case err == nil:
			if failed {
				l.onResult(nil)
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case end(err):
			return err
		}
		if err := l.pause(ctx, wait.NextBackOff(), fmt.Errorf("%s: %w", what, err)); err != nil {
			return err
		}
	}
}
