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
			lost(notJSON(from, it.Key))
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

// Verify calls lost for each shadow of the file at path that is no JSON: the file's
// pages may be sound and a value in one of them damaged.
func Verify(path string, lost func(error)) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(documents)
		if b == nil {
			return nil
		}
		return b.ForEach(func(key, value []byte) error {
			if !json.Valid(value) {
				lost(notJSON(path, key))
			}
			return nil
		})
	})
	return errors.Join(err, db.Close())
}

func notJSON(path string, key []byte) error {
	return fmt.Errorf("%s: the shadow %.300q: %w: no JSON", path, key, boltfile.ErrDamaged)
}
