// Package bolt keeps the tables of the registry in one bbolt file: a table is a
// bucket of the root. An update is synced to disk before it returns, which takes
// milliseconds.
package bolt

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// An Engine is an open file.
type Engine struct{ db *bbolt.DB }

var _ table.Engine = (*Engine)(nil)

// Options of an Engine. The zero value is good for use.
type Options struct {
	NoSync bool // nothing is synced: for tests and for what can be made again
}

// Open opens the file at path, made with mode 0600 if it is not there. A file
// that another process has open is an error after a second.
func Open(path string, o Options) (*Engine, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoSync: o.NoSync,
	})
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("registry %s: %w", path, err), db.Close())
	}
	return &Engine{db}, nil
}

// OpenReadOnly opens the file at path, which must be there, for View alone. No
// other process may write it meanwhile.
func OpenReadOnly(path string) (*Engine, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	return &Engine{db}, nil
}

// Name implements table.Engine: it is the path.
func (e *Engine) Name() string { return e.db.Path() }

// View implements table.Engine.
func (e *Engine) View(f func(table.Tx) error) error {
	return e.db.View(func(t *bbolt.Tx) error { return f(tx{t}) })
}

// Update implements table.Engine.
func (e *Engine) Update(f func(table.Tx) error) error {
	return e.db.Update(func(t *bbolt.Tx) error { return f(tx{t}) })
}

// Hold keeps updates waiting and returns what the tables are meanwhile, for a backup.
func (e *Engine) Hold() (*boltfile.Held, error) { return boltfile.Hold(e.db) }

// Close implements table.Engine.
func (e *Engine) Close() error { return e.db.Close() }

type tx struct{ *bbolt.Tx }

func (t tx) ID() uint64            { return uint64(t.Tx.ID()) }
func (t tx) Has(table []byte) bool { return t.Bucket(table) != nil }

func (t tx) Table(name []byte) table.Table { return bucket{t.Bucket(name)} }

func (t tx) Create(table []byte) error {
	_, err := t.CreateBucketIfNotExists(table)
	return err
}

func (t tx) Drop(table []byte) error {
	if err := t.DeleteBucket(table); err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
		return err
	}
	return nil
}

type bucket struct{ *bbolt.Bucket }

func (b bucket) Cursor() table.Cursor { return b.Bucket.Cursor() }
