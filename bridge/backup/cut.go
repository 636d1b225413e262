package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// folder is what backups have in the data directory: the checkpoint of one under way,
// and what is known of the repository.
const folder = "backup"

// cutFolder is where the cut lies, below folder.
const cutFolder = "cut"

// RemoveLeftovers removes what a backup left that was killed. It is for the start,
// when none is under way.
func RemoveLeftovers(dataDir string) error {
	if err := os.RemoveAll(filepath.Join(dataDir, folder, cutFolder)); err != nil {
		return fmt.Errorf("backup: what a kill left: %w", err)
	}
	return nil
}

// A cut is the files of one instant. It is in a folder that remove takes away.
type cut struct {
	dir  string
	at   streams.Position
	time time.Time
	held time.Duration
	keys map[string]map[string]uint64 // of bbolt files
}

func (c *cut) remove() error { return os.RemoveAll(c.dir) }

// The bbolt files of a data directory.
const (
	registryFile = "registry.db"
	shadowsFile  = "shadow.db"
)

// cut takes what has to be of one instant.
//
// The writers of the registry, of shadows and of the log wait, in this order: who
// writes to the registry may wait for the log, and the log waits for neither. While
// they do, links to the log's tables and copies of small files are made, and nothing is
// synced. The bbolt files are copied after that, as they were.
func (s *Source) cut(ctx context.Context) (c *cut, err error) {
	if err := RemoveLeftovers(s.Dir); err != nil {
		return nil, err
	}
	c = &cut{dir: filepath.Join(s.Dir, folder, cutFolder)}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	if err := s.Log.BeforeCheckpoint(); err != nil {
		return c, err
	}
	if err := ended(ctx); err != nil {
		return c, err
	}
	files, err := s.hold(c)
	for name, h := range files {
		if err == nil {
			_, err = h.Copy(filepath.Join(c.dir, name))
		}
		err = errors.Join(err, h.End())
	}
	if err == nil {
		err = c.count()
	}
	return c, err
}

// hold holds the writers, makes the checkpoint and lets them go. The caller ends what it
// returns, also with an error.
func (s *Source) hold(c *cut) (files map[string]*boltfile.Held, err error) {
	files = map[string]*boltfile.Held{}
	var began time.Time
	for _, f := range []struct {
		name string
		file BoltFile
	}{{registryFile, s.Registry}, {shadowsFile, s.Shadows}} {
		h, err := f.file.Hold()
		if err != nil {
			return files, err
		}
		if files[f.name] = h; began.IsZero() {
			began = time.Now()
		}
	}
	c.time = time.Now().UTC()
	if c.at, err = s.Log.Checkpoint(filepath.Join(c.dir, "log")); err == nil {
		err = s.copySmall(c.dir)
	}
	for _, h := range files {
		err = errors.Join(err, h.Release())
	}
	c.held = time.Since(began)
	if err != nil {
		return files, err
	}
	note, err := s.Note(c.at)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "note"), note, 0o600)
	}
	return files, err
}

// copySmall copies what is of the cut and no store: keys, and what tells of the
// directory.
func (s *Source) copySmall(to string) error {
	top, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	for _, e := range top {
		switch name := entryName(e); {
		case e.Name() == "log":
			err = copyFile(filepath.Join(s.Dir, "log", identityStamp), filepath.Join(to, "log", identityStamp))
			if errors.Is(err, fs.ErrNotExist) { // of an earlier version, before its first start with this one
				err = nil
			}
		case name == registryFile || name == shadowsFile || name == "note":
		default:
			if t, _ := Treat(name); t == Cut {
				err = copyTree(s.Dir, to, e.Name())
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// identityStamp is the file in a folder that says to which data directory it belongs.
const identityStamp = ".identity"

// entryName is a name as Treat takes it.
func entryName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// copyTree copies a file, or a folder with its files, but for what is Left.
func copyTree(from, to, name string) error {
	return filepath.WalkDir(filepath.Join(from, name), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(to, below), 0o700)
		}
		if t, _ := Treat(filepath.ToSlash(below)); t == Left || !e.Type().IsRegular() {
			return nil
		}
		return copyFile(path, filepath.Join(to, below))
	})
}

// copyFile copies a file with its mode, and does not sync it.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// count counts the keys of the bbolt files, which also shows that they can be read.
func (c *cut) count() (err error) {
	c.keys = map[string]map[string]uint64{}
	for _, name := range []string{registryFile, shadowsFile} {
		if c.keys[name], err = boltfile.Count(filepath.Join(c.dir, name)); err != nil {
			return err
		}
	}
	return nil
}
