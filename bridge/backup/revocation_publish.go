package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// revocationFolder is where a target has revocations, beside the backups: TIME-RANDOM.json,
// so that names sort as they were written.
const revocationFolder = "revocations/"

// Our choices.
const (
	revocationLook  = 2 * time.Second  // how soon a revocation is at the target
	revocationAdded = 5 * time.Minute  // how soon what is new is, which no earlier backup has
	revocationRetry = 30 * time.Second // after the target failed
	revocationKept  = 3                // files at the target, the newest
	// revocationShare bounds what looking costs: a fiftieth of one processor, without the time
	// that the target takes.
	revocationShare = 50
)

// RevokerOptions are what a Revoker needs of a bridge.
type RevokerOptions struct {
	Target   string // "": nothing is written by itself
	Dir      string // data directory, which knows whether the target had backups
	Place    vault.TargetOptions
	Registry interface {
		registry.Viewer
		Revision() uint64
	}
	Keys  func() (map[string]pki.AccessKey, error) // of the file
	Key   []byte                                   // of pki.RevocationKey
	About About                                    // Version, Account and Directory count
	Last  func() time.Time                         // cut of the last good backup
	Log   *slog.Logger
}

// A Revoker writes what is revoked to the target of backups, within seconds.
type Revoker struct {
	o    RevokerOptions
	open func(ctx context.Context) (vault.Target, error)

	mu      sync.Mutex // guards what follows
	written time.Time  // as of when the last file is
	put     time.Time  // when it was put, by our clock
	cut     time.Time  // of the last backup before it
	problem string     // why none could be written; "" if it could
}

// NewRevoker returns a Revoker.
func NewRevoker(o RevokerOptions) *Revoker {
	return &Revoker{o: o, open: func(ctx context.Context) (vault.Target, error) {
		return vault.Open(ctx, o.Target, o.Place)
	}}
}

// Export makes the file of now.
func (x *Revoker) Export() (raw []byte, v *Revocations, err error) {
	at := time.Now()
	if cut := x.o.Last(); at.Before(cut) { // the clock went back: this is after that backup all the same
		at = cut
	}
	keys, err := x.o.Keys()
	if err != nil {
		return nil, nil, err
	}
	if v, err = NewRevocations(x.o.Registry, keys, x.o.About, at); err != nil {
		return nil, nil, err
	}
	raw, err = v.Sign(x.o.Key)
	return raw, v, err
}

// Status says as of when the last file at the target is, and why none could be written.
func (x *Revoker) Status() (written time.Time, problem string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.written, x.problem
}

// doors is a digest of each that is open, sorted.
type doors [][sha256.Size]byte

func compareDoors(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) }

// look finds what is open now, of the registry and of keys.
func (x *Revoker) look(keys map[string]pki.AccessKey) (doors, error) {
	var all doors
	add := func(d door) {
		all = append(all, sha256.Sum256([]byte(strings.Join([]string{d.kind, d.id, d.mark, d.status}, "\x00"))))
	}
	if err := eachDoor(x.o.Registry, add); err != nil {
		return nil, err
	}
	for id, k := range keys {
		add(fileKey(id, k))
	}
	slices.SortFunc(all, compareDoors)
	return all, nil
}

// without says whether d lacks one that was.
func (d doors) without(was doors) bool {
	return slices.ContainsFunc(was, func(x [sha256.Size]byte) bool {
		_, found := slices.BinarySearchFunc(d, x, compareDoors)
		return !found
	})
}

// Run writes a file at the start, after each revocation and each backup, and now and then
// where something is new, until ctx ends.
func (x *Revoker) Run(ctx context.Context) error {
	if x.o.Target == "" {
		<-ctx.Done()
		return nil
	}
	var was doors // that the file at the target has
	var seen registered
	for ctx.Err() == nil {
		next := revocationLook
		now, is, took, err := x.changed(was, seen)
		due, long := x.due()
		old := long && !slices.Equal(now, was)
		if err == nil && (due || old || now.without(was)) {
			if err = x.publish(ctx); err == nil {
				was = now
			}
		}
		switch {
		case err == nil:
			seen = is
		case ctx.Err() == nil:
			x.failed(err)
			next = revocationRetry
		}
		wait(ctx, max(next, revocationShare*took))
	}
	return nil
}

// due says whether a file is to be written, whatever it has: the first, and one that is newer
// than the last backup, which a restore of that wants. long says that the last was put so long
// ago that what is new is to be in one.
func (x *Revoker) due() (is, long bool) {
	cut := x.o.Last()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.put.IsZero() || !cut.Equal(x.cut), time.Since(x.put) > revocationAdded
}

// registered tells whether something may have changed since a look.
type registered struct {
	revision uint64
	keys     map[string]pki.AccessKey
}

// changed returns what is open now, was if nothing changed since seen, and how long the look
// took. What changes while it looks is seen by the next.
func (x *Revoker) changed(was doors, seen registered) (now doors, is registered, took time.Duration, err error) {
	began := time.Now()
	is.revision = x.o.Registry.Revision()
	if is.keys, err = x.o.Keys(); err != nil {
		return was, is, time.Since(began), err
	}
	due, long := x.due()
	same := is.revision == seen.revision && maps.Equal(is.keys, seen.keys)
	if now = was; !same || due || long {
		now, err = x.look(is.keys)
	}
	return now, is, time.Since(began), err
}

// publish writes the file of now.
func (x *Revoker) publish(ctx context.Context) error {
	cut, now := x.o.Last(), time.Now()
	raw, v, err := x.Export()
	if err != nil {
		return err
	}
	t, err := x.open(ctx)
	if err != nil {
		return err
	}
	index, err := (&Source{Dir: x.o.Dir}).index(t)
	if err == nil { // into a folder in whose place another was mounted they would go unseen
		err = vault.CheckThere(ctx, t, index)
	}
	if err == nil {
		err = PublishRevocations(ctx, t, v.At, raw)
	}
	if err == nil {
		err = vault.Claim(ctx, t, x.o.About.Account, x.o.About.Directory)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t, explain(err))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.problem != "" {
		x.o.Log.Info("revocations are written beside the backups again")
	}
	x.written, x.put, x.cut, x.problem = v.At, now, cut, ""
	return nil
}

// failed tells once that the target has not what is revoked.
func (x *Revoker) failed(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.problem == "" {
		x.o.Log.Error("revocations cannot be written beside the backups, will retry: a restore would not know of them",
			"err", err, "in", revocationRetry)
	}
	x.problem = err.Error()
}
