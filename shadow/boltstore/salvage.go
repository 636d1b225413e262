package boltstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/shadow/boltfile"
)

// Salvage writes what can be read of the damaged file at from, which nobody has
// open, into the new one at to, and calls lost for each piece that is not. Shadows
// of earlier commits are never taken, as far as that can be told; where it cannot,
// lost is told.
func Salvage(from, to string, lost func(error)) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	db, err := bbolt.Open(to, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w := &boltfile.Copier{DB: db}
	sure, err := boltfile.Salvage(in, info.Size(), nesting, func(it boltfile.Item) error {
		switch {
		case len(it.Path) == 0:
			return nil // no key of ours is in the root
		case it.Key != nil && string(it.Path[0]) == string(documents) && !json.Valid(it.Value):
			lost(fmt.Errorf("%s: the shadow %.300q: %w: no JSON", from, it.Key, boltfile.ErrDamaged))
			return nil
		}
		return w.Add(it)
	}, func(path [][]byte, err error) { lost(fmt.Errorf("%s: some shadows: %w", from, err)) })
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if !sure {
		lost(fmt.Errorf("%s: what was written last may be undone: a meta page or the list of free pages is damaged",
			from))
	}
	return nil
}
