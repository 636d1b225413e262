package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/format"
)

// Staging is what is put behind the name of a data directory for the folder beside it
// in which a restore is under way.
const Staging = ".restoring"

// RestoreOptions say what is restored, and how.
type RestoreOptions struct {
	Target     vault.Target
	ID         string // of the backup; vault.Latest is the newest
	Identities []age.Identity
	Dir        string // the data directory, which is not there or empty
	Account    string // whose backup it has to be
	Version    string // of this program, for messages

	// Revocations are applied to what is restored. nil is for who knows that nothing
	// was revoked since; the caller has asked.
	Revocations *Sealed
	// Deliver has what waits in outboxes and the like go out at the start; else it is
	// held until somebody releases it.
	Deliver bool
	// Moved says that the backup is the last word of a bridge that is moved: no
	// number was given and nothing was delivered since, so nothing is skipped or held.
	Moved bool

	DryRun   bool                  // tell what would be, and change nothing
	Progress func(RestoreProgress) // by one goroutine at a time; nil: nobody is told
	Log      *slog.Logger          // nil: nothing is logged
}

// A RestoreProgress is how far a restore is, in bytes.
type RestoreProgress struct {
	File        string // of the backup
	Done, Total int64
}

// Restored says what was restored, or would be.
type Restored struct {
	Info   vault.Info
	About  *About
	Files  int
	Bytes  int64
	Resume int64  // bytes of them that an earlier run had restored
	Dir    string // where it is
	// Revoked are those that were revoked since the backup, in words.
	Revoked []string
	// Revocations is as of when those are that were applied; zero: none were.
	Revocations time.Time
	Held        []Held // what waits, and is held
	// Stream is what RestoreStream has made.
	Stream *streams.Size
	// Notes are what the operator has to do or to know besides.
	Notes []string
}

// ErrUnfit marks a restore that is refused before anything is changed.
var ErrUnfit = errors.New("nothing was changed")

func unfit(format string, args ...any) error {
	return fmt.Errorf("restore: %w; %w", fmt.Errorf(format, args...), ErrUnfit)
}

// Restore makes the data directory of a backup. All is made in a folder beside it,
// which is renamed when it is whole and on the disk: a kill at any instant leaves no data
// directory, and a folder from which the next run goes on. An error that is ErrUnfit has
// changed nothing.
func Restore(ctx context.Context, o RestoreOptions) (Restored, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(RestoreProgress) {}
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return Restored{}, unfit("%w", err)
	}
	if err := vacant(o.Dir); err != nil {
		return Restored{}, err
	}
	r := &restore{RestoreOptions: o, staging: o.Dir + Staging}
	if err := r.open(ctx); err != nil {
		return Restored{}, err
	}
	return r.run(ctx)
}

// A restore is one run of Restore.
type restore struct {
	RestoreOptions
	staging string
	only    string // the one file that is restored, or the folder, with a slash; "": all
	backup  *vault.Reader
	files   []vault.FileInfo // that are restored
	out     Restored
	placed  bool // the one file is in its place
}

// wants says whether a file of the backup belongs into what is restored.
func (r *restore) wants(name string) bool {
	return name != AttributesFile && name != stageFile && (r.only == "" || name == r.only ||
		strings.HasSuffix(r.only, "/") && strings.HasPrefix(name, r.only))
}

// open reads what the backup says and asks whether it may be restored here.
func (r *restore) open(ctx context.Context) (err error) {
	if r.backup, err = vault.OpenReader(ctx, r.Target, r.ID, r.Identities); err != nil {
		return hint(err)
	}
	r.out.Info, r.out.Dir = r.backup.Info(), r.Dir
	r.out.About, err = ParseAbout(r.backup.About())
	if errors.Is(err, format.ErrNewer) {
		return unfit("backup %s was made by version %s, this is %s: %w: restore it with that version or a later one",
			r.out.Info.ID, r.out.Info.Version, r.Version, err)
	}
	if err != nil {
		return unfit("backup %s: %w", r.out.Info.ID, err)
	}
	a := r.out.About
	switch {
	case a.Account != r.Account:
		return unfit("backup %s is of account %s, the configuration says %s: name the configuration of that bridge "+
			"by -config, or set account there", r.out.Info.ID, a.Account, r.Account)
	case r.Moved && !a.Final:
		return unfit("backup %s was taken of a bridge that went on: it is no last backup of move finish; use restore",
			r.out.Info.ID)
	}
	for part, f := range a.Elsewhere {
		r.note("%s of the bridge were in %s, outside of its data directory, and are in no backup of it", part, f)
	}
	for _, f := range r.backup.Files() {
		if !fs.ValidPath(f.Name) || f.Name == "." {
			return unfit("backup %s: file name %.100q", r.out.Info.ID, f.Name)
		}
		if !r.wants(f.Name) {
			continue
		}
		r.files = append(r.files, f)
		r.out.Files++
		r.out.Bytes += f.Size
	}
	return r.checkRevocations(ctx)
}

func (r *restore) note(format string, args ...any) {
	r.out.Notes = append(r.out.Notes, fmt.Sprintf(format, args...))
}

// checkRevocations refuses those that cannot tell of what was revoked since the cut.
func (r *restore) checkRevocations(ctx context.Context) error {
	v, a := r.Revocations, r.out.About
	switch {
	case v == nil:
		return nil
	case v.Directory != a.Directory:
		return unfit("the revocations are of another bridge (data directory %s, the backup is of %s): name the file "+
			"that was written beside the backups of this one", v.Directory, a.Directory)
	case v.At.Before(a.Cut):
		return unfit("the revocations are of %s, the backup is of %s: what was revoked in between is not among them; "+
			"name a newer file, or -revocations none if you know that there was nothing", stamp(v.At), stamp(a.Cut))
	}
	key, err := r.revocationKey(ctx)
	if err != nil {
		return hint(err)
	}
	if err := v.Check(key); err != nil {
		return unfit("%w: name the newest file that is beside the backups of this bridge", err)
	}
	r.out.Revocations = v.At
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// hint adds to an error of the repository what to do.
func hint(err error) error {
	for _, h := range []struct {
		is   error
		what string
	}{
		{vault.ErrKey, "name the identity, the private key of a recipient that the backup was made for, by -identity"},
		{vault.ErrDamaged, "backup verify tells which backups are whole; restore an earlier one by -id"},
		{vault.ErrForeign, "name the repository of this bridge"},
		{vault.ErrVersion, "restore it with the version of the program that made it, or a later one"},
		{vault.ErrNotFound, "backup list shows which backups there are"},
	} {
		if errors.Is(err, h.is) {
			return unfit("%w: %s", err, h.what)
		}
	}
	return unfit("%w", err)
}

// run restores.
func (r *restore) run(ctx context.Context) (Restored, error) {
	st, err := openStage(r.staging, r.out.Info.ID, r.DryRun)
	if err != nil {
		return r.out, err
	}
	defer st.close()
	missing, err := st.missing(r.files)
	if err != nil {
		return r.out, unfit("%w", err)
	}
	for _, f := range missing {
		r.out.Resume -= f.Size
	}
	r.out.Resume += r.out.Bytes
	if err := room(filepath.Dir(r.Dir), r.out.Bytes-r.out.Resume, r.out.Files); err != nil {
		return r.out, err
	}
	if r.DryRun {
		return r.out, nil
	}
	if err := st.begin(); errors.Is(err, fs.ErrPermission) {
		return r.out, unfit("all is made in %s, beside the directory: %w: run it as root; what is restored "+
			"belongs to the "+
			"owner of an empty %s that is there", r.staging, err, r.Dir)
	} else if err != nil {
		return r.out, r.unfinished(err)
	}
	if err := r.fetch(ctx, st, missing); err != nil {
		return r.out, r.unfinished(err)
	}
	if err := st.enter(finishing); err != nil {
		return r.out, r.unfinished(err)
	}
	if err := r.finish(ctx); err != nil {
		return r.out, r.unfinished(err)
	}
	if r.Moved {
		if err := r.claim(ctx, st); err != nil {
			return r.out, r.unfinished(err)
		}
	}
	if err := r.handOver(st); err != nil {
		return r.out, r.unfinished(err)
	}
	return r.out, nil
}

// unfinished says what a restore that failed leaves.
func (r *restore) unfinished(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w: make room", err)
	}
	if _, gone := os.Stat(r.staging); r.placed || errors.Is(gone, fs.ErrNotExist) { // it is renamed
		return fmt.Errorf("restore: %w", err)
	}
	return fmt.Errorf("restore: %w; %s is as it was. What was restored so far is in %s: run the command again to go "+
		"on, or remove that folder", err, r.Dir, r.staging)
}

// CheckUnfinished refuses a data directory into which a restore was not finished: who makes
// another there would begin as a new bridge. Of one that was killed at its very end it
// removes the file that says how far it was.
func CheckUnfinished(dir string) error {
	if err := os.Remove(filepath.Join(dir, stageFile)); err == nil {
		return nil // it was finished, but for this file
	}
	staging := filepath.Clean(dir) + Staging
	if _, err := os.Stat(filepath.Join(staging, stageFile)); err != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "identity")); err == nil {
		return nil // it is there, and that was meant for another time
	}
	return fmt.Errorf("a restore into %s was not finished: run it again, or remove %s", dir, staging)
}
