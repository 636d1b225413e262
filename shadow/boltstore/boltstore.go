// Package boltstore keeps shadows in a bbolt file, for both ends: documents
// for the cloud's half, records for the device's. FORMAT.md has the layout.
//
// Everything written is on the disk when the call returns. Writers that come
// while another commit is under way share the next one (group commit), so
// many things cost few syncs and a single one waits for nobody.
package boltstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltfile"
	"github.com/tidemill/tidemill/shadow/format"
)

// Buckets of the root.
var (
	documents = []byte("shadows")
	records   = []byte("shadow-device")
	meta      = []byte("shadow-meta")
)

// FormatNumber is that of FORMAT.md.
const FormatNumber = 1

var keyFormat = []byte("format")

// ErrClosed is the error of a Store after Close.
var ErrClosed = errors.New("boltstore: store is closed")

// A Store is safe for use by several goroutines.
type Store struct {
	db     *bbolt.DB
	own    bool // Open opened db
	fresh  bool // New made the buckets
	writes group
}

// Options of Open.
type Options struct {
	// SetAside renames a file that is no sound bbolt file to
	// path.corrupt-<time> and starts anew, as a device has to: the cloud has
	// a copy. See boltfile.SetAside. Where there is no room for both, the damaged
	// one is removed. The default is an error.
	SetAside bool
	Log      *slog.Logger // tells of a file set aside; nil is slog.Default

	// LockWait is how long another process may hold the file; default 5 s.
	LockWait time.Duration
}

// Open opens or makes the file at path, readable by its owner only.
func Open(path string, o Options) (*Store, error) {
	if o.LockWait == 0 {
		o.LockWait = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.SetAside {
		_ = os.Remove(path + renewed) // of a start that was cut off; there is none as a rule
	}
	s, err := open(path, o)
	if err == nil || !o.SetAside || !errors.Is(err, boltfile.ErrDamaged) {
		return s, err
	}
	return replace(path, err, o)
}

func open(path string, o Options) (s *Store, err error) {
	if o.SetAside {
		if err := verify(path, o.Log); err != nil {
			return nil, fmt.Errorf("boltstore: open %s: %w", path, err)
		}
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: o.LockWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		// bbolt has no one error for a bad file ("file size too small" is
		// plain text), but an error of the system has its number.
		var system syscall.Errno
		if !errors.As(err, &system) && !errors.Is(err, berrors.ErrTimeout) {
			err = fmt.Errorf("%w: %w", boltfile.ErrDamaged, err)
		}
		return nil, fmt.Errorf("boltstore: open %s: %w", path, err)
	}
	if s, err = New(db); err != nil {
		db.Close()
		return nil, err
	}
	s.own = true
	return s, nil
}

// New uses three buckets of db, which may have others. Close leaves db open. Data
// of a newer version are format.ErrNewer.
func New(db *bbolt.DB) (*Store, error) {
	// What is there needs no commit, for which a full disk may have no room.
	known := false
	err := db.View(func(tx *bbolt.Tx) error {
		known = tx.Bucket(documents) != nil && tx.Bucket(records) != nil
		return checkFormat(tx)
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: %s: %w", db.Path(), err)
	}
	if known {
		return &Store{db: db}, nil
	}
	fresh := false
	err = db.Update(func(tx *bbolt.Tx) error {
		fresh = tx.Bucket(documents) == nil && tx.Bucket(records) == nil
		for _, b := range [][]byte{documents, records, meta} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return tx.Bucket(meta).Put(keyFormat, format.Text(FormatNumber))
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: make buckets: %w", err)
	}
	return &Store{db: db, fresh: fresh}, nil
}

// checkFormat compares the number that the file has.
func checkFormat(tx *bbolt.Tx) error {
	has, err := formatOf(tx)
	if err != nil {
		return err
	}
	return format.Check(has, FormatNumber)
}

// formatOf returns the number that the file has. One of before there was a number is
// of format 1, the first.
func formatOf(tx *bbolt.Tx) (uint64, error) {
	b := tx.Bucket(meta)
	if b == nil {
		return 1, nil
	}
	has, err := format.Parse(b.Get(keyFormat))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", boltfile.ErrDamaged, err)
	}
	return max(has, 1), nil
}

// Format returns the number of the file at path, which Open brings to FormatNumber.
// It changes nothing.
func Format(path string) (has uint64, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, fmt.Errorf("boltstore: open %s: %w", path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		has, err = formatOf(tx)
		return err
	})
	return has, errors.Join(err, db.Close())
}

// Fresh says whether the store was made now, and held nothing: there was no
// file, or one without shadows, or it was set aside.
func (s *Store) Fresh() bool { return s.fresh }

// Hold keeps writers waiting and returns what the file holds meanwhile, for a backup.
func (s *Store) Hold() (*boltfile.Held, error) { return boltfile.Hold(s.db) }

// Close waits for the commits under way and closes the file if Open opened it.
func (s *Store) Close() error {
	s.writes.close()
	if !s.own {
		return nil
	}
	return s.db.Close()
}

// key is thing/name; neither holds a slash, and a classic shadow sorts first.
func key(thing, name string) []byte { return []byte(thing + "/" + name) }

// Get returns the document of a shadow, which may be a deleted one, or nil
// when there never was one.
func (s *Store) Get(thing, name string) (d *shadow.Document, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(documents).Get(key(thing, name)); v != nil {
			d, err = shadow.DecodeRecord(v)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: get %s: %w", key(thing, name), err)
	}
	return d, nil
}

// Put stores the document of a shadow, whatever was there before.
func (s *Store) Put(thing, name string, d *shadow.Document) error {
	k, v := key(thing, name), d.AppendRecord(nil)
	err := s.writes.commit(s.db, func(tx *bbolt.Tx) error {
		return tx.Bucket(documents).Put(k, v)
	})
	if err != nil {
		return fmt.Errorf("boltstore: put %s: %w", k, err)
	}
	return nil
}

// Names returns up to most names of a thing's named shadows that exist and
// sort after the given one, in order.
func (s *Store) Names(thing, after string, most int) (names []string, err error) {
	prefix := key(thing, "")
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(documents).Cursor()
		for k, v := c.Seek(key(thing, after+"\x00")); k != nil && len(names) < most; k, v = c.Next() {
			if len(k) < len(prefix) || string(k[:len(prefix)]) != string(prefix) {
				return nil
			}
			d, err := shadow.DecodeRecord(v)
			if err != nil {
				return err
			}
			if d.Alive() {
				names = append(names, string(k[len(prefix):]))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: names of %s: %w", thing, err)
	}
	return names, nil
}

// Usage returns how many named shadows a thing has but for one, deleted ones that
// are not forgotten included, and the bytes of all its shadows but that one. It
// reads all of them.
func (s *Store) Usage(thing, but string) (named, bytes int, err error) {
	prefix := key(thing, "")
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(documents).Cursor()
		for k, v := c.Seek(prefix); k != nil && strings.HasPrefix(string(k), string(prefix)); k, v = c.Next() {
			name := string(k[len(prefix):])
			if name == but {
				continue
			}
			if bytes += len(v); name != "" {
				named++
			}
		}
		return nil
	})
	return named, bytes, err
}

// Forget takes away what is left of a thing's shadows that were deleted at the
// given time or before.
func (s *Store) Forget(thing string, deleted time.Time) error {
	prefix := key(thing, "")
	err := s.writes.commit(s.db, func(tx *bbolt.Tx) error {
		b := tx.Bucket(documents)
		var gone [][]byte
		c := b.Cursor()
		for k, v := c.Seek(prefix); k != nil && strings.HasPrefix(string(k), string(prefix)); k, v = c.Next() {
			d, err := shadow.DecodeRecord(v)
			if err != nil {
				return err
			}
			if !d.Alive() && d.Deleted <= deleted.Unix() {
				gone = append(gone, k)
			}
		}
		for _, k := range gone { // a cursor does not survive deletions
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("boltstore: forget deleted shadows of %s: %w", thing, err)
	}
	return nil
}

// Load returns the records of the device's half of a shadow by key, empty
// when there are none.
func (s *Store) Load(thing, name string) (map[string][]byte, error) {
	out := make(map[string][]byte)
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(records).Bucket(key(thing, name))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			out[string(k)] = append([]byte{}, v...)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: load %s: %w", key(thing, name), err)
	}
	return out, nil
}

// Save replaces the given records of the device's half of a shadow in one
// step; a nil value removes one, others stay.
func (s *Store) Save(thing, name string, set map[string][]byte) error {
	err := s.writes.commit(s.db, func(tx *bbolt.Tx) error {
		b, err := tx.Bucket(records).CreateBucketIfNotExists(key(thing, name))
		if err != nil {
			return err
		}
		for k, v := range set {
			if v == nil {
				err = b.Delete([]byte(k))
			} else {
				err = b.Put([]byte(k), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("boltstore: save %s: %w", key(thing, name), err)
	}
	return nil
}
