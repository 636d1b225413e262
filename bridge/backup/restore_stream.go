package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// tablesFolder is the folder of the staging folder in which a stream is made.
const tablesFolder = "tables"

// RestoreStream makes a data stream of a stopped bridge as it was in a backup of the same
// bridge, under its name or, unless as is "", under another. A stream of that name that is
// there is not touched: that is ErrUnfit. The rest of the directory stays as it is. A kill
// leaves nothing of the stream or all of it, and a staging folder from which the next run
// goes on.
func RestoreStream(ctx context.Context, o RestoreOptions, name, as string) (out Restored, err error) {
	if as == "" {
		as = name
	}
	for _, n := range []string{name, as} {
		if !kinesis.IsName(n) {
			return out, unfit("stream %.140q: want a data stream, whose name has 1 to 128 letters, digits and ._-", n)
		}
	}
	r, st, end, err := beginPart(ctx, o, "log/")
	if r != nil {
		out = r.out
	}
	if err != nil {
		return out, err
	}
	defer end()
	if err := r.free(as); err != nil {
		if errors.Is(err, streams.ErrExists) && st.lock != nil && !o.DryRun { // killed after the stream was made
			err = errors.Join(err, os.RemoveAll(r.staging))
		}
		return r.out, err
	}
	// The log of the backup, and what of it is the stream.
	if err := room(r.Dir, 2*r.out.Bytes, 2*r.out.Files); err != nil || o.DryRun {
		return r.out, err
	}
	if err := r.stream(ctx, st, name, as); err != nil {
		if errors.Is(err, ErrUnfit) {
			return r.out, errors.Join(err, os.RemoveAll(r.staging))
		}
		return r.out, r.unfinished(err)
	}
	return r.out, nil
}

// free refuses a name that a stream of the directory has.
func (r *restore) free(name string) error {
	names, err := datadir.Streams(r.Dir)
	if err != nil {
		return unfit("%w", err)
	}
	for _, n := range names {
		if n == name {
			return fmt.Errorf("%w: %w", unfit("%s has a stream %s, which stays as it is: name another by -as NAME, or "+
				"delete that one first", r.Dir, name), streams.ErrExists)
		}
	}
	return nil
}

// stream fetches the log of the backup and imports one stream of it.
func (r *restore) stream(ctx context.Context, st *stage, name, as string) error {
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
	if err != nil {
		return err
	}
	if err := r.importStream(name, as); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		dir, err := os.Stat(r.Dir)
		if err == nil {
			err = give(filepath.Join(r.Dir, "log"), dir)
		}
		if err != nil {
			return err
		}
	}
	if err := os.RemoveAll(r.staging); err != nil {
		return fmt.Errorf("stream %s is restored, and %s can be removed: %w", as, r.staging, err)
	}
	return nil
}

// importStream copies a stream from the log in the staging folder to that of the directory,
// behind gaps, and compares what both then have.
func (r *restore) importStream(name, as string) (err error) {
	from, err := datadir.OpenLog(r.staging, r.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	was, err := from.Size(name)
	if errors.Is(err, streams.ErrNotFound) {
		return unfit("backup %s has no stream %s: it has %s", r.out.Info.ID, name, dataStreams(from))
	}
	if err := errors.Join(err, from.SkipAhead()); err != nil {
		return err
	}
	if err := room(r.Dir, was.Bytes, 0); err != nil {
		return err
	}
	tables := filepath.Join(r.staging, tablesFolder)
	if err := errors.Join(os.Mkdir(tables, 0o700), durable.SyncFolder(r.staging)); err != nil {
		return err
	}
	to, err := datadir.OpenLog(r.Dir, r.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	var before, after time.Duration
	err = datadir.ImportStream(to, from, name, as, tables, func(c *streams.Config) error {
		before = c.Retention
		err := kinesis.Restored(c, as != name, time.Since(r.out.About.Cut))
		after = c.Retention
		return err
	})
	if err != nil {
		return err
	}
	is, err := to.Size(as)
	if err != nil {
		return err
	}
	if is != was {
		return errors.Join(fmt.Errorf("stream %s had %+v, the backup has %+v: it is removed", as, is, was),
			to.Delete(as))
	}
	r.out.Stream = &is
	if after != before {
		r.note("records of %s are kept for %v, not for %v: the oldest would be gone else. Shorten it when they are "+
			"read", as, after, before)
	}
	return nil
}

// dataStreams lists the data streams of a log.
func dataStreams(l datadir.StoppedLog) string {
	var names []string
	for _, i := range l.List() {
		if kinesis.IsName(i.Name) {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
