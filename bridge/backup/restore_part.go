package backup

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/datadir"
)

// Parts are those that RestorePart restores.
var Parts = []string{"registry"}

// partFiles are the files of parts.
var partFiles = map[string]string{"registry": "registry.db"}

// RestorePart puts one part of a backup in place of what a stopped bridge's data directory
// has, which is kept beside it as NAME.before-TIME. The backup is of the same bridge. A kill
// leaves the old part or the new one.
func RestorePart(ctx context.Context, o RestoreOptions, name string) (out Restored, err error) {
	if !slices.Contains(Parts, name) {
		return out, unfit("part %.40q, want one of %v", name, Parts)
	}
	r, st, end, err := beginPart(ctx, o, partFiles[name])
	if r != nil {
		out = r.out
	}
	if err != nil {
		return out, err
	}
	defer end()
	if err := room(r.Dir, r.out.Bytes, r.out.Files); err != nil || o.DryRun {
		return r.out, err
	}
	if err := r.replace(ctx, st); err != nil {
		return r.out, r.unfinished(err)
	}
	return r.out, nil
}

// beginPart opens the backup of a bridge that is stopped, of which one file is restored, or
// one folder, into the directory that is there, and what an earlier run staged of it. end
// closes that and gives the directory's lock back.
func beginPart(ctx context.Context, o RestoreOptions, only string) (r *restore, st *stage, end func(), err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(RestoreProgress) {}
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, nil, nil, unfit("%w", err)
	}
	release, err := stopped(o.Dir)
	if err != nil {
		return nil, nil, nil, err
	}
	r = &restore{RestoreOptions: o, staging: o.Dir + Staging, only: only}
	if err = r.open(ctx); err == nil {
		err = r.sameBridge()
	}
	if err == nil {
		st, err = openStage(r.staging, r.out.Info.ID, o.DryRun)
	}
	if err != nil {
		release()
		return r, nil, nil, err
	}
	return r, st, func() { st.close(); release() }, nil
}

// stopped holds the lock of a data directory that no bridge uses.
func stopped(dir string) (release func(), err error) {
	unlock, ok, err := datadir.Hold(dir)
	if err != nil {
		return nil, unfit("%s is no bridge's data directory: %w", dir, err)
	}
	if !ok {
		return nil, unfit("a bridge runs with %s: stop it first", dir)
	}
	return func() { _ = unlock() }, nil // it closes a file that was only locked
}

// sameBridge refuses a data directory that is another bridge's than the backup's.
func (r *restore) sameBridge() error {
	id, err := datadir.IDOf(r.Dir)
	if err != nil {
		return unfit("%s/identity: %w", r.Dir, err)
	}
	if id != r.out.About.Directory {
		return unfit("%s belongs to another bridge (%s) than the backup (%s): restore all of it into another directory",
			r.Dir, id, r.out.About.Directory)
	}
	return nil
}

// replace fetches the file, brings it up to date and puts it in its place.
func (r *restore) replace(ctx context.Context, st *stage) error {
	if err := st.begin(); err != nil {
		return err
	}
	missing, err := st.missing(r.files)
	if err == nil {
		err = r.fetch(ctx, st, missing)
	}
	if err == nil {
		err = st.enter(finishing)
	}
	if err == nil && r.Revocations != nil {
		err = r.revoke()
	}
	if err == nil {
		err = r.skipVersions()
	}
	if err != nil {
		return err
	}
	place := filepath.Join(r.Dir, r.only)
	if old, err := os.Stat(place); err == nil {
		aside := place + ".before-" + time.Now().UTC().Format("20060102T150405.000Z")
		if err := os.Link(place, aside); err != nil {
			return err
		}
		r.note("what was there is %s", aside)
		if os.Geteuid() == 0 {
			if err := give(r.staging, old); err != nil {
				return err
			}
		}
	}
	if err := os.Rename(filepath.Join(r.staging, r.only), place); err != nil {
		return err
	}
	r.placed = true
	if err := durable.SyncFolder(r.Dir); err != nil {
		return err
	}
	if err := os.RemoveAll(r.staging); err != nil {
		return fmt.Errorf("%s is restored, and %s can be removed: %w", place, r.staging, err)
	}
	return nil
}
