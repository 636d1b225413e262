package boltfile

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// A Held is a bbolt file whose writers wait, and what the file holds meanwhile.
// It is for one goroutine.
type Held struct {
	write, read *bbolt.Tx
}

// Hold waits for the writer of db and keeps all others out until Release. The
// caller must call End.
func Hold(db *bbolt.DB) (*Held, error) {
	w, err := db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", db.Path(), err)
	}
	// The writer has changed nothing, so a reader sees what was committed last.
	r, err := db.Begin(false)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hold %s: %w", db.Path(), err), w.Rollback())
	}
	return &Held{write: w, read: r}, nil
}

// Release lets writers go on. Calling it again does nothing.
//
// A writer that needs a larger file waits for End nevertheless, and everybody
// behind it: bbolt maps the file anew when nobody reads it.
func (h *Held) Release() error {
	w := h.write
	if h.write = nil; w == nil {
		return nil
	}
	return w.Rollback()
}

// Copy writes what the file held at Hold into a new file at path, for its owner
// alone, and does not sync it. It returns the bytes.
func (h *Held) Copy(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := h.read.WriteTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return n, fmt.Errorf("copy %s: %w", h.read.DB().Path(), err)
	}
	return n, nil
}

// End lets go of the file.
func (h *Held) End() error {
	err := h.Release()
	r := h.read
	if h.read = nil; r == nil {
		return err
	}
	return errors.Join(err, r.Rollback())
}

// Count returns how many keys each bucket of the root of the bbolt file at path has,
// with those of buckets in it. Nobody may write the file meanwhile.
func Count(path string) (counts map[string]uint64, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	counts = map[string]uint64{}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			n, err := keys(b)
			counts[string(name)] = n
			return err
		})
	})
	return counts, errors.Join(err, db.Close())
}

// keys counts the keys of a bucket that have values.
func keys(b *bbolt.Bucket) (n uint64, err error) {
	err = b.ForEach(func(k, v []byte) error {
		if v != nil {
			n++
			return nil
		}
		inner, err := keys(b.Bucket(k))
		n += inner
		return err
	})
	return n, err
}
