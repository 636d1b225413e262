package declare

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/seal"
)

// A lastGood is the last good content of each file of bridge.d. A file that was
// damaged, or never synced by who wrote it, then does not take out at the next start
// what it declared. The registry holds the content, sealed, since it may have passwords.
type lastGood struct {
	registry registry.Store
	seal     *seal.Key
	sums     map[string][sha256.Size]byte // by name; nil: not loaded
	sync     func(path string) error      // makes a file or folder durable
	log      *slog.Logger
	unopened map[string]bool // files that the log said it of
}

// syncPath makes a file's content, or the names in a folder, durable.
func syncPath(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// goodName is a file's name in the registry: its folder and its own.
func goodName(path string) string {
	return filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
}

// load finds out what is kept, once.
func (g *lastGood) load() error {
	if g.sums != nil {
		return nil
	}
	sums := map[string][sha256.Size]byte{}
	err := g.sealAll()
	if err == nil {
		err = g.view(func(tx records) error {
			return tx.Declarations("", func(name string, doc []byte) { sums[name] = sha256.Sum256(doc) })
		})
	}
	if err == nil {
		g.sums = sums
	}
	return err
}

// has says whether something of the folder is kept.
func (g *lastGood) has(dir string) bool {
	for name := range g.sums {
		if filepath.Dir(name) == filepath.Base(dir) {
			return true
		}
	}
	return false
}

// read reads a folder. One that is not there is empty, unless something of it
// is kept: then it is lost, or not mounted.
func (g *lastGood) read(dir string) folder {
	files, err := readFolder(dir)
	if _, gone := os.Stat(dir); err == nil && errors.Is(gone, fs.ErrNotExist) && g.has(dir) {
		err = fmt.Errorf("the folder is gone; make an empty one if nothing is to be declared in it: %w", gone)
	}
	return folder{dir, files, err}
}

// substitute returns what was found with the last good content of each file that
// is wrong now, and of each folder that cannot be seen; some says whether there
// is any.
func (g *lastGood) substitute(found []folder, now map[string]outcome) (good []folder, some bool) {
	for _, f := range found {
		docs := map[string][]byte{}
		err := g.view(func(tx records) error {
			return tx.Declarations(filepath.Base(f.dir)+"/", func(name string, doc []byte) {
				path := filepath.Join(f.dir, filepath.Base(name))
				if f.err != nil || now[path].err != nil {
					docs[path] = append([]byte(nil), doc...)
				}
			})
		})
		repaired := folder{dir: f.dir, err: err}
		for _, x := range f.files {
			if doc, ok := docs[x.path]; ok {
				x.doc, x.sum, x.err = doc, sha256.Sum256(doc), nil
				delete(docs, x.path)
				some = true
			}
			repaired.files = append(repaired.files, x)
		}
		if f.err != nil {
			for path, doc := range docs {
				repaired.files = append(repaired.files, file{path: path, doc: doc, sum: sha256.Sum256(doc)})
				some = true
			}
		}
		good = append(good, repaired)
	}
	return good, some
}

// keep makes durable what was found and is good, the files themselves too, and
// forgets what is gone, which it returns by path as it was last in force.
func (g *lastGood) keep(found []folder, now map[string]outcome) (gone []file, err error) {
	there, changed, folders := g.compare(found, now)
	if len(changed) == 0 && !g.forgets(there) {
		return nil, nil
	}
	// First the files, by their names too: a new file that is gone after a power
	// cut cannot be told from one that was deleted, nor an old content that is back
	// from one that was written. What cannot be opened or synced, such as a
	// read-only folder, is its owner's to keep.
	for _, x := range changed {
		_ = g.sync(x.path)
	}
	for dir := range folders {
		_ = g.sync(dir)
	}
	err = g.store(func(tx records) error {
		gone = nil
		var errs []error
		for _, f := range found {
			errs = append(errs, tx.Declarations(filepath.Base(f.dir)+"/", func(name string, doc []byte) {
				if !there[name] {
					gone = append(gone, file{path: filepath.Join(f.dir, filepath.Base(name)), doc: bytes.Clone(doc)})
				}
			}))
		}
		for name, x := range changed {
			errs = append(errs, tx.KeepDeclaration(name, x.doc))
		}
		for _, f := range gone {
			errs = append(errs, tx.ForgetDeclaration(goodName(f.path)))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, err
	}
	for name, x := range changed {
		g.sums[name] = x.sum
	}
	for _, f := range gone {
		delete(g.sums, goodName(f.path))
	}
	return gone, nil
}

// compare says which names are there, or in a folder that cannot be seen; which
// files are good and not what is kept, by their names; and in which folders those are.
func (g *lastGood) compare(found []folder, now map[string]outcome) (there map[string]bool, changed map[string]file,
	folders map[string]bool) {
	there, changed, folders = map[string]bool{}, map[string]file{}, map[string]bool{}
	for _, f := range found {
		if f.err != nil {
			for name := range g.sums {
				if filepath.Dir(name) == filepath.Base(f.dir) {
					there[name] = true
				}
			}
		}
		for _, x := range f.files {
			name := goodName(x.path)
			there[name] = true
			is, applied := now[x.path] // nothing came of it where its folder could not be put in force
			if sum, ok := g.sums[name]; applied && is.err == nil && (!ok || sum != x.sum) {
				changed[name] = x
				folders[f.dir] = true
			}
		}
	}
	return there, changed, folders
}

// forgets says whether something is kept that is not there any more.
func (g *lastGood) forgets(there map[string]bool) bool {
	for name := range g.sums {
		if !there[name] {
			return true
		}
	}
	return false
}
