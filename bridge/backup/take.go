package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// Options of a backup.
type Options struct {
	Target     vault.Target
	Recipients []age.Recipient // who can read it
	Progress   func(Progress)  // called after each piece of a file; nil: nobody is
	New        bool            // a repository is made where there was one before; else that is vault.ErrGone
}

// A Progress is how far a backup is.
type Progress struct {
	File string `json:"file,omitempty"` // that is being read
	Done int64  `json:"done"`           // bytes of files
	Of   int64  `json:"of"`
	Sent int64  `json:"sent"` // bytes given to the target
}

// A Taken is a backup that is complete.
type Taken struct {
	vault.Info
	About *About `json:"about"`
}

// Take makes a backup: the cut, and then the files, which takes as long as the target and
// max_bandwidth want, and gives way to the rest of the machine unless it is a Final one.
// One Take at a time uses a data directory.
func (s *Source) Take(ctx context.Context, o Options) (taken *Taken, err error) {
	index, err := s.index(o.Target)
	if err == nil && !o.New {
		err = vault.CheckThere(ctx, o.Target, index)
	}
	if err != nil {
		return nil, explain(err)
	}
	c, err := s.cut(ctx)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, c.remove()) }()
	l, err := s.list(c)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	a := s.about(c, l)
	wo := vault.WriterOptions{Recipients: o.Recipients, Directory: index, Account: s.Account, Owner: s.Directory,
		Version: s.Version, Log: s.Slog, New: o.New}
	for _, f := range l.files {
		wo.Total += max(f.size, 0)
	}
	gives := newYielder()
	wo.Progress = func(p vault.Progress) {
		if o.Progress != nil {
			o.Progress(Progress{p.File, p.Done, max(p.Total, p.Done), p.Sent})
		}
		if !s.Final {
			gives.yield(ctx)
		}
	}
	w, err := vault.NewWriter(ctx, o.Target, wo)
	if err != nil {
		return nil, explain(err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, f := range l.files {
		if err := a.put(ctx, w, f); err != nil {
			return nil, err
		}
	}
	var attributes bytes.Buffer
	if err := writeAttributes(&attributes, l.attributes); err != nil {
		return nil, err
	}
	meta := vault.FileMeta{Size: int64(attributes.Len()), Mode: 0o600, Part: folder}
	if err := w.File(ctx, AttributesFile, meta, &attributes); err != nil {
		return nil, err
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	info, err := w.Commit(ctx, text)
	if err != nil {
		return nil, err
	}
	return &Taken{info, a}, nil
}

// IndexFolder is where is kept what a target has.
func (s *Source) IndexFolder(target string) string {
	sum := sha256.Sum256([]byte(target))
	return filepath.Join(s.Dir, folder, "of-"+hex.EncodeToString(sum[:8]))
}

func (s *Source) index(t vault.Target) (string, error) {
	return filepath.Abs(s.IndexFolder(t.String()))
}

// KnownIndex is the index folder of a target in a data directory, "" where no backup to it
// was made from there, or this user cannot tell.
func KnownIndex(dir string, t vault.Target) string {
	path, err := (&Source{Dir: dir}).index(t)
	if err != nil {
		return ""
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
	if err != nil {
		return ""
	}
	f.Close() // nothing was written
	return path
}

// about says what there is to say of a cut.
func (s *Source) about(c *cut, l *listing) *About {
	a := &About{Format: aboutFormat, Version: s.Version, Account: s.Account, Region: s.Region, Directory: s.Directory,
		Cut: c.time, Held: Duration(c.held), Final: s.Final, Log: c.at, Keys: c.keys, Files: map[string]Sum{},
		Elsewhere: l.elsewhere, Unlisted: l.unlisted, Skipped: l.skipped}
	if len(l.unlisted) > 0 {
		s.Slog.Warn("the backup has files that this version knows nothing of", "paths", strings.Join(l.unlisted, " "))
	}
	if len(l.skipped) > 0 {
		s.Slog.Warn("the backup is without what is neither file nor folder, or has a name that it cannot have", "paths",
			strings.Join(l.skipped[:min(len(l.skipped), 20)], " "), "count", len(l.skipped))
	}
	s.Slog.Info("the state for a backup is taken", "held_ms", float64(c.held.Microseconds())/1000,
		"commits", c.at.Commits, "files", len(l.files), "at", c.time.Format(time.RFC3339Nano))
	return a
}

// put gives one file to the vault. One that was deleted after the cut is left out.
func (a *About) put(ctx context.Context, w *vault.Writer, f file) error {
	in, err := os.Open(f.path)
	if f.gone && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	meta := vault.FileMeta{Size: f.size, Mode: f.mode, Part: part(f.name), Same: f.same}
	if f.gone && f.same != "" && info.Size() != f.size { // replaced since
		meta.Size, meta.Same = -1, ""
	}
	if err := w.File(ctx, f.name, meta, in); err != nil {
		return err
	}
	sum := a.Files[part(f.name)]
	a.Files[part(f.name)] = Sum{sum.Files + 1, sum.Bytes + info.Size()}
	return nil
}
