package declare

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bridge/bounded"
)

// maxDeclaration bounds a file of bridge.d, our choice: 10,000 rules in one
// file take about 5 MB.
const maxDeclaration = 16 << 20

// A file is a file of bridge.d as it was found.
type file struct {
	path     string
	doc      []byte
	sum      [sha256.Size]byte // of doc
	modified time.Time
	err      error // why there is no doc
}

// declarations lists the paths of a folder's *.json by name; hidden files,
// such as an editor's, are left out. A folder that is not there has none.
func declarations(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, ".") {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths, nil
}

// unread are the endings of files that somebody may take for declarations.
var unread = []string{".yaml", ".yml", ".toml", ".jsonc", ".json5", ".JSON", ".txt"}

// notRead lists the paths of a folder's files that are no declarations by their
// names and may be meant as some.
func notRead(dir string) (paths []string) {
	entries, _ := os.ReadDir(dir) // what cannot be read is told with the declarations
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, ".") && slices.Contains(unread, filepath.Ext(name)) {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}

// readFolder reads a folder's declarations.
func readFolder(dir string) ([]file, error) {
	paths, err := declarations(dir)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, path := range paths {
		f := file{path: path}
		if f.doc, f.modified, f.err = readRegular(path); f.err != nil {
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				continue // it went meanwhile
			}
		}
		f.sum = sha256.Sum256(f.doc)
		files = append(files, f)
	}
	return files, nil
}

// readRegular reads a regular file of at most maxDeclaration. It never waits,
// as a read of a pipe or a device would.
func readRegular(path string) (doc []byte, modified time.Time, err error) {
	check := func(info fs.FileInfo, err error) error {
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%v is no regular file", info.Mode())
		case info.Size() > maxDeclaration:
			return fmt.Errorf("%d bytes, want at most %d", info.Size(), maxDeclaration)
		}
		modified = info.ModTime()
		return nil
	}
	if err := check(os.Stat(path)); err != nil { // to open some devices has effects
		return nil, modified, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, modified, err
	}
	defer f.Close()
	if err := check(f.Stat()); err != nil { // it may have become another one
		return nil, modified, err
	}
	doc, err = bounded.ReadAll(f, maxDeclaration) // it may have grown
	return doc, modified, err
}

// fingerprint is another one when a file of the folders, or what one links to,
// has come, gone or changed, as far as names, sizes and times tell.
func fingerprint(dirs []string) string {
	var b strings.Builder
	for _, dir := range dirs {
		paths, err := declarations(dir)
		fmt.Fprintln(&b, dir, err)
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil {
				fmt.Fprintln(&b, path, err)
			} else {
				fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
			}
		}
	}
	return b.String()
}
