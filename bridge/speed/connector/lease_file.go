package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// fileLeases are Local ones in a file of their own.
type fileLeases struct {
	Local
	db *bbolt.DB
}

var leaseBucket = []byte("leases")

// inFile opens leases in the file at path, making it when absent. One process
// at a time may have it; another one's is an error after a second. source names
// what is read: a file that was of another source is refused.
func inFile(path, source string) (_ *fileLeases, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("leases in %s: %w", path, err)
	}
	f := &fileLeases{Local: Local{all: map[string]*entry{}}, db: db}
	f.save = func(_ context.Context, l *Lease, _ *streams.Batch) error {
		raw, err := json.Marshal(l)
		if err != nil {
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(leaseBucket).Put([]byte(l.Shard), raw) })
	}
	f.drop = func(_ context.Context, shard string) error {
		return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(leaseBucket).Delete([]byte(shard)) })
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		about, err := tx.CreateBucketIfNotExists([]byte("about"))
		if err != nil {
			return err
		}
		if was := about.Get([]byte("source")); was != nil && string(was) != source {
			return fmt.Errorf("it has the leases of %s, not of %s", was, source)
		}
		if err := about.Put([]byte("source"), []byte(source)); err != nil {
			return err
		}
		b, err := tx.CreateBucketIfNotExists(leaseBucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(_, v []byte) error { return f.load(v) })
	})
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("leases in %s: %w", path, err)
	}
	return f, nil
}

// Close closes the file.
func (f *fileLeases) Close() error { return f.db.Close() }
