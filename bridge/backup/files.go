package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// A source file is one that goes into the backup.
type file struct {
	name string // in the backup
	path string
	size int64 // at the look; negative: it may have another when it is read
	mode fs.FileMode
	same string
	gone bool // it may be gone when it is read: it was deleted after the cut
}

// part is the first element of a name.
func part(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

// A listing is all that goes into a backup.
type listing struct {
	files      []file
	attributes []Attributes
	elsewhere  map[string]string
	unlisted   []string
	skipped    []string
}

// list finds the files of the cut, and then those of the data directory that the cut
// does not have, objects last: what the log tells of is there then.
func (s *Source) list(c *cut) (*listing, error) {
	l := &listing{elsewhere: map[string]string{}}
	if err := s.walk(l, c.dir, "", true); err != nil {
		return nil, err
	}
	top, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, err
	}
	var live []string
	for _, e := range top {
		name := entryName(e)
		t, listed := Treat(name)
		if t != Live {
			continue
		}
		if !listed {
			l.unlisted = append(l.unlisted, name)
		}
		live = append(live, e.Name())
	}
	for name, path := range s.Folders {
		if filepath.Clean(path) == filepath.Join(s.Dir, name) {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			l.elsewhere[name] = path
		}
	}
	if i := slices.Index(live, "objects"); i >= 0 {
		live = append(slices.Delete(live, i, i+1), "objects")
	}
	for _, name := range live {
		if err := s.walk(l, s.Dir, name, false); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// walk adds the files of a folder below root.
func (s *Source) walk(l *listing, root, below string, isCut bool) error {
	return filepath.WalkDir(filepath.Join(root, below), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && !isCut {
			return nil // removed since
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		name := filepath.ToSlash(rel)
		if e.IsDir() {
			name += "/"
		}
		if t, _ := Treat(name); t == Left {
			return s.skip(l, name, path, e)
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) && !isCut {
			return nil
		}
		if err != nil {
			return err
		}
		return s.add(l, file{name: name, path: path, size: info.Size(), mode: info.Mode(), gone: !isCut}, info)
	})
}

// skip passes over what is in no backup. Of a folder for what is half written the backup
// has the folder: objects of which nothing is there, not even that, are lost.
func (s *Source) skip(l *listing, name, path string, e fs.DirEntry) error {
	if !e.IsDir() {
		return nil
	}
	if info, err := e.Info(); err == nil && e.Name() == ".tmp" {
		if a, err := attributesOf(name, path, info); err == nil {
			l.attributes = append(l.attributes, a)
		}
	}
	return fs.SkipDir
}

// add takes a file or folder into a listing.
func (s *Source) add(l *listing, f file, info fs.FileInfo) error {
	if !info.Mode().IsRegular() && !info.IsDir() || vault.CheckFileName(strings.TrimSuffix(f.name, "/")) != nil {
		if f.name != "admin.sock" {
			l.skipped = append(l.skipped, f.name)
		}
		return nil
	}
	if f.gone || info.IsDir() {
		a, err := attributesOf(f.name, f.path, info)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		l.attributes = append(l.attributes, a)
	}
	if info.IsDir() {
		return nil
	}
	if unchanging(f.name) {
		f.same = s.same(f.name, info)
	} else if f.gone {
		f.size = -1
	}
	l.files = append(l.files, f)
	return nil
}

// unchanging says of a file whether its content stays as it is while its size, time and
// inode do: it was written beside its place and renamed, or is a table of the log.
func unchanging(name string) bool {
	switch part(name) {
	case "log":
		return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
	case "objects", "s3_failed":
		return true
	}
	return strings.HasPrefix(name, "lambda/code/")
}

// maxSame is the longest text of that kind that the vault takes.
const maxSame = 4 << 10

// same names the content of an unchanging file; "" where that would be too long.
func (s *Source) same(name string, info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	text := ""
	if ok {
		text = fmt.Sprintf("%s %s %d %d %d", s.Directory, name, info.Size(), info.ModTime().UnixNano(), st.Ino)
	}
	if len(text) > maxSame {
		return ""
	}
	return text
}
