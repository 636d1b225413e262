package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

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

// A Request asks for a backup. What is empty is as of Settings.
type Request struct {
	Target       string   `json:"target,omitempty"`
	Recipients   []string `json:"recipients,omitempty"`
	MaxBandwidth int64    `json:"max_bandwidth,omitempty"` // bytes per second
	Verify       bool     `json:"verify,omitempty"`        // the packs are read again, and compared
	New          bool     `json:"new,omitempty"`           // as Options.New
}

// Elsewhere says whether a request wants a target or readers that the settings do not
// have.
func (r Request) Elsewhere() bool { return r.Target != "" || len(r.Recipients) > 0 }

// A Service makes the backups of one data directory, one at a time.
type Service struct {
	source   Source
	settings Settings

	mu      sync.Mutex // guards what follows
	running bool
	last    Last
	counts  Counters
	problem string    // why the last one failed; "" if it did not
	due     time.Time // of the next scheduled one
}

// A Last is the last good backup. It is kept in the file last.json of the folder backup.
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

// finish notes what came of a backup. One that was called off is no failure.
func (x *Service) finish(ctx context.Context, target string, taken *Taken, err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running = false
	if taken == nil {
		if err != nil && ctx.Err() == nil {
			x.counts.Failed++
			x.problem = err.Error()
		}
		return err
	}
	now := time.Now().UTC()
	x.last = Last{ID: taken.ID, Target: target, Time: taken.About.Cut, Ended: now,
		Took: Duration(now.Sub(taken.About.Cut)), Held: taken.About.Held, Size: taken.Size, Stored: taken.Stored}
	x.counts.Done++
	x.counts.cut(time.Duration(taken.About.Held))
	x.counts.Bytes += taken.Stored
	x.problem = ""
	text, e := json.Marshal(x.last)
	if e == nil {
		e = durable.Write(x.lastFile(), append(text, '\n'), 0o600)
	}
	if e != nil {
		x.source.Slog.Warn("when the last backup was is not kept", "err", e)
	}
	return err
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
	defer func() { err = x.finish(ctx, target, taken, err) }()
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

// options are those of a request.
func (x *Service) options(ctx context.Context, r Request) (o Options, err error) {
	target, readers := cmp.Or(r.Target, x.settings.Target), r.Recipients
	if len(readers) == 0 {
		readers = x.settings.Recipients
	}
	switch {
	case target == "":
		return o, fmt.Errorf("%w: no target: set backup.target, or name one with -to", ErrRequest)
	case len(readers) == 0:
		return o, fmt.Errorf("%w: no recipient: set backup.recipients, or name one with -recipient; "+
			"tidemill-bridge backup keygen makes one", ErrRequest)
	case Within(target, x.source.Dir):
		return o, fmt.Errorf("%w: target %s is in the data directory, which it is a backup of", ErrRequest, target)
	}
	if o.Recipients, err = ParseRecipients(readers); err != nil {
		return o, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	place := x.settings.Place
	if r.MaxBandwidth > 0 {
		place.MaxBandwidth = r.MaxBandwidth
	}
	if o.Target, err = vault.Open(ctx, target, place); err != nil {
		return o, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	o.New = r.New
	return o, nil
}

// Probe asks whether a backup of the data directory of source could begin as r says: its
// recipients are read, and the target is written to. Only Dir and Account of source count.
func Probe(ctx context.Context, source Source, s Settings, r Request) error {
	o, err := (&Service{source: source, settings: s}).options(ctx, r)
	if err != nil {
		return err
	}
	index, err := source.index(o.Target)
	if err != nil {
		return err
	}
	return explain(vault.Probe(ctx, o.Target, vault.WriterOptions{Directory: index, Account: source.Account,
		New: o.New}))
}

// explain says what to do about a target whose repository is gone.
func explain(err error) error {
	if errors.Is(err, vault.ErrGone) {
		err = fmt.Errorf("%w: is it mounted, and is it the right one? "+
			"tidemill-bridge backup -new begins another repository there", err)
	}
	return err
}

// Within says whether the folder target is dir or below it.
func Within(target, dir string) bool {
	if !filepath.IsAbs(target) {
		return false
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	target = filepath.Clean(target)
	return target == abs || strings.HasPrefix(target, abs+"/")
}

// holdsIdentity says whether a file is one of backup keygen.
func holdsIdentity(f *os.File) bool {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false
	}
	_, err := age.ParseIdentities(io.LimitReader(f, 64<<10))
	return err == nil
}

// ParseRecipients reads public keys: "age1…", or the path of a file that has them, one a
// line, with lines that begin with # for comments.
func ParseRecipients(list []string) (all []age.Recipient, err error) {
	for _, text := range list {
		if strings.HasPrefix(text, "age1") {
			r, err := age.ParseX25519Recipient(text)
			if err != nil {
				return nil, fmt.Errorf("recipient %.80q: %w", text, err)
			}
			all = append(all, r)
			continue
		}
		if strings.HasPrefix(text, "AGE-SECRET-KEY-") {
			return nil, errors.New("a recipient is a private key, which must not be on this machine: " +
				"want the public one, which begins with age1")
		}
		f, err := os.Open(text)
		if err != nil {
			return nil, fmt.Errorf("recipient: want age1… or a file: %w", err)
		}
		some, err := age.ParseRecipients(f)
		if err != nil && holdsIdentity(f) {
			err = errors.New("the file has a private key, which must not be on this machine: " +
				"want the public one, which begins with age1")
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("recipients of %s: %w", text, err)
		}
		all = append(all, some...)
	}
	return all, nil
}
