package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/seal"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// carriedIn names the file that carries the identity, if that is not the part.
func (p Part) carriedIn() string {
	if p.Kind == Folder {
		return " in " + stampFile
	}
	return ""
}

// there says whether something is at the part's path that holds anything.
func (p Part) there() (bool, error) {
	if p.Kind == Folder {
		entries, err := os.ReadDir(p.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		for _, e := range entries {
			if e.Name() != stampFile && e.Name() != stampFile+".new" {
				return true, nil
			}
		}
		return false, err
	}
	info, err := os.Stat(p.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() > 0, err
}

// wrong says what is wrong with a part of kind Late, "" for nothing. One that is
// not known to have been there may be missing.
func (p Part) wrong(known bool) (why string, err error) {
	text, err := os.ReadFile(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !known:
		return "", nil
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0:
		return "is missing or empty", nil
	case err == nil && !json.Valid(text):
		return "is damaged: no JSON", nil
	}
	return "", err
}

// otherKey says what is wrong with the key in seal.json, "" for nothing or where its
// identity is not known, and whether it is a sound one of another directory: it would
// open nothing that is sealed.
func (p Part) otherKey(id string) (why string, other bool, err error) {
	if p.Name != sealFile || id == "" {
		return "", false, nil
	}
	raw, err := os.ReadFile(p.Path)
	if err != nil {
		return "", false, err
	}
	switch seal.ID(raw) {
	case id:
		return "", false, nil
	case "":
		return "is damaged: no key, or not the one that was written", false, nil
	}
	return "is another key than the one that was there", true, nil
}

// Buckets and keys of the identity in bbolt files.
var (
	bucket = []byte("identity")
	key    = []byte("id")
)

// boltNesting is how deep buckets lie in the bridge's files, or deeper.
const boltNesting = 3

// stamped returns the identity that the part carries, "" for none, and whether it
// is a bbolt file whose last commit may be lost. Such a file is checked before it is
// opened: damage is an error that names it.
func (p Part) stamped() (id string, torn bool, err error) {
	switch p.Kind {
	case Folder:
		raw, err := os.ReadFile(filepath.Join(p.Path, stampFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		return strings.TrimSpace(string(raw)), false, nil
	case Bolt:
		if torn, err = checkBolt(p.Path); err != nil {
			return "", torn, err
		}
		if there, err := p.there(); !there {
			return "", torn, err
		}
		db, err := bolt.Open(p.Path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return "", torn, fmt.Errorf("%s: %w", p.Path, err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			if b := tx.Bucket(bucket); b != nil {
				id = string(b.Get(key))
			}
			return nil
		})
		return id, torn, errors.Join(err, db.Close())
	}
	return "", false, nil
}

// checkBolt returns an error that names the bbolt file at path, if bbolt could not
// use it. torn says that one of its meta pages is damaged: bbolt would fall back to
// the commit before, if that page was the newer one, and say nothing. A file that is
// not there is sound.
func checkBolt(path string) (torn bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	found, err := boltfile.Check(f, info.Size(), boltNesting)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return found.OneMeta, nil
}

// stamp has the part carry id. In a bbolt file that is a commit, which replaces a
// damaged meta page.
func (p Part) stamp(id string) error {
	switch p.Kind {
	case Folder:
		if have, _, err := p.stamped(); err != nil || have == id {
			return err
		}
		return durable.Write(filepath.Join(p.Path, stampFile), []byte(id+"\n"), 0o600)
	case Bolt:
		db, err := bolt.Open(p.Path, 0o600, &bolt.Options{Timeout: time.Second})
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			return b.Put(key, []byte(id))
		})
		return errors.Join(err, db.Close())
	}
	return nil
}
