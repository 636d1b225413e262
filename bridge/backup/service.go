package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// Errors of a Service.
var (
	// ErrBusy: a backup is under way, and there is one at a time.
	ErrBusy = errors.New("a backup is under way: wait for its end")
	// ErrRequest marks what is wrong with a request, or with the settings.
	ErrRequest = errors.New("backup")
)

// Settings are those of [backup].
type Settings struct {
	Target     string // "": a request names one
	Place      vault.TargetOptions
	Recipients []string      // as ParseRecipients takes them
	Every      time.Duration // 0: when it is asked for
	Keep       int           // backups that a scheduled one leaves; 0: all
}

// A Service makes the backups of one data directory, one at a time.
type Service struct {
	source   Source
	settings Settings

	mu      sync.Mutex // guards what follows
	running bool
	last    Last      // of the settings
	cut     time.Time // of the last good one, be it not of the settings
	counts  Counters
	problem string    // why the last one of the settings failed; "" if it did not
	due     time.Time // of the next scheduled one
}

// A Last is the last good backup as the settings want it. It is kept in the file last.json of
// the folder backup.
type Last struct {
	ID     string    `json:"id"`
	Target string    `json:"target"`
	Time   time.Time `json:"time"`   // of the cut
	Ended  time.Time `json:"ended"`  // when it was complete
	Took   Duration  `json:"took"`   // from the cut on
	Held   Duration  `json:"held"`   // how long writers were held
	Size   int64     `json:"size"`   // bytes of files
	Stored int64     `json:"stored"` // bytes that it added to the repository
}

// Counters count since the program started.
type Counters struct {
	Done, Failed uint64
	Bytes        int64 // that backups added to targets
	// Held is how long writers were held, and HeldBy how often it took HeldBounds or less
	// each.
	Cuts   uint64
	Held   time.Duration
	HeldBy [len(HeldBounds)]uint64
}

// HeldBounds are what the holds of cuts are counted by. Milliseconds are wanted.
var HeldBounds = [...]time.Duration{time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond,
	30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second}

// cut counts one.
func (c *Counters) cut(held time.Duration) {
	c.Cuts++
	c.Held += held
	for i, bound := range HeldBounds {
		if held <= bound {
			c.HeldBy[i]++
		}
	}
}

// NewService returns a Service, and reads what is known of the last backup.
func NewService(source Source, s Settings) (*Service, error) {
	if err := RemoveLeftovers(source.Dir); err != nil {
		return nil, err
	}
	x := &Service{source: source, settings: s}
	text, err := os.ReadFile(x.lastFile())
	if err == nil {
		err = json.Unmarshal(text, &x.last)
		if err != nil { // it says when the next is due, no more
			source.Slog.Warn("it is not known when the last backup was", "file", x.lastFile(), "err", err)
			err = nil
		}
		x.cut = x.last.Time
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return x, err
}

func (x *Service) lastFile() string { return filepath.Join(x.source.Dir, folder, "last.json") }

// A Status is what is known of backups.
type Status struct {
	Target  string    `json:"target,omitempty"` // of the settings
	Every   Duration  `json:"every,omitempty"`
	Running bool      `json:"running,omitempty"`
	Last    *Last     `json:"last,omitempty"`    // good one; nil: none is known
	Next    time.Time `json:"next,omitzero"`     // scheduled
	Problem string    `json:"problem,omitempty"` // why the last one failed
}

// Status returns what is known now.
func (x *Service) Status() Status {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := Status{Target: x.settings.Target, Every: Duration(x.settings.Every), Running: x.running, Next: x.due,
		Problem: x.problem}
	if x.last.ID != "" {
		last := x.last
		s.Last = &last
	}
	return s
}

// Counters returns those of the Service.
func (x *Service) Counters() Counters {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.counts
}

// begin makes the caller the one whose backup is under way.
func (x *Service) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running {
		return ErrBusy
	}
	x.running = true
	return nil
}

// own says whether a backup is the settings', of which a status and a schedule are; where
// these have no target all are.
func (x *Service) own(r Request) bool { return !r.Elsewhere() || x.settings.Target == "" }

// finish notes what came of a backup. One that was called off is no failure; one that is
// complete and not what was sent is.
func (x *Service) finish(ctx context.Context, r Request, target string, taken *Taken, err error) {
	failed := err != nil && ctx.Err() == nil
	good := taken != nil && !failed
	var last Last
	if good && x.own(r) {
		last = lastOf(taken, target)
		x.keep(last)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running = false
	switch {
	case failed:
		if x.counts.Failed++; x.own(r) {
			x.problem = err.Error()
		}
	case good:
		x.counts.Done++
		x.counts.cut(time.Duration(taken.About.Held))
		x.counts.Bytes += taken.Stored
		x.cut = taken.About.Cut
		if x.own(r) {
			x.problem, x.last = "", last
		}
	}
}

// lastOf describes a backup that is complete now.
func lastOf(taken *Taken, target string) Last {
	now := time.Now().UTC()
	return Last{ID: taken.ID, Target: target, Time: taken.About.Cut, Ended: now,
		Took: Duration(now.Sub(taken.About.Cut)), Held: taken.About.Held, Size: taken.Size, Stored: taken.Stored}
}

// keep writes last durably. It is called by the one whose backup is under way.
func (x *Service) keep(last Last) {
	text, err := json.Marshal(last)
	if err == nil {
		err = durable.Write(x.lastFile(), append(text, '\n'), 0o600)
	}
	if err != nil {
		x.source.Slog.Warn("when the last backup was is not kept", "err", err)
	}
}

// LastCut is the instant of the last good backup, be it with a target of its own; zero: none
// is known.
func (x *Service) LastCut() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cut
}

// Take makes the backup that r asks for, and calls progress meanwhile. A backup that is complete
// and not what Verify wants is returned with an error.
func (x *Service) Take(ctx context.Context, r Request, progress func(Progress)) (taken *Taken, err error) {
	o, err := x.options(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := x.begin(); err != nil {
		return nil, err
	}
	target := o.Target.String()
	defer func() { x.finish(ctx, r, target, taken, err) }()
	o.Progress = progress
	if taken, err = x.source.Take(ctx, o); err != nil {
		return nil, err
	}
	x.source.Slog.Info("a backup is complete", "id", taken.ID, "target", target, "bytes", taken.Size, "stored",
		taken.Stored, "held_ms", float64(time.Duration(taken.About.Held).Microseconds())/1000)
	if r.Verify {
		gives := newYielder()
		_, err = vault.Verify(ctx, o.Target, taken.ID, nil, func(vault.Progress) { gives.yield(ctx) })
		if err != nil {
			err = fmt.Errorf("the backup %s is complete, but not what was sent: %w", taken.ID, err)
		}
	}
	return taken, err
}
