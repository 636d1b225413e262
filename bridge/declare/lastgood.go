package declare

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A lastGood is the last good content of each file of bridge.d. The registry holds
// it, so that a file that was damaged, or never synced by who wrote it, does not
// take out at the next start what it declared.
type lastGood struct {
	registry *registry.Registry
	sums     map[string][sha256.Size]byte // by name; nil: not loaded
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
	err := g.registry.View(func(tx *registry.Tx) error {
		return tx.Declarations("", func(name string, doc []byte) { sums[name] = sha256.Sum256(doc) })
	})
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
		err := g.registry.View(func(tx *registry.Tx) error {
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
// forgets what is gone.
func (g *lastGood) keep(found []folder, now map[string]outcome) error {
	there, changed, folders := map[string]bool{}, map[string]file{}, map[string]bool{}
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
			if sum, ok := g.sums[name]; now[x.path].err == nil && (!ok || sum != x.sum) {
				changed[name] = x
				folders[f.dir] = true
			}
		}
	}
	var gone []string
	for name := range g.sums {
		if !there[name] {
			gone = append(gone, name)
		}
	}
	if len(changed)+len(gone) == 0 {
		return nil
	}
	err := g.registry.Update(func(tx *registry.Tx) error {
		var errs []error
		for name, x := range changed {
			errs = append(errs, tx.KeepDeclaration(name, x.doc))
		}
		for _, name := range gone {
			errs = append(errs, tx.ForgetDeclaration(name))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	for name, x := range changed {
		g.sums[name] = x.sum
	}
	for _, name := range gone {
		delete(g.sums, name)
	}
	// Where it may be, the names too: a new file that is gone after a power cut
	// cannot be told from one that was deleted. A folder that cannot be opened
	// or synced, such as a read-only one, is its owner's to keep.
	for dir := range folders {
		if d, err := os.Open(dir); err == nil {
			_ = errors.Join(d.Sync(), d.Close())
		}
	}
	return nil
}
