package boltstore

import (
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/shadow"
)

// skipVersions is more updates than a shadow gets between a backup and its restore:
// twelve days of one each second.
const skipVersions = 1 << 20

// SkipVersions has the versions of all shadows, deleted ones too, go on behind those
// that can have been given after the backup from which the file comes: devices leave out
// what has a lower version than they know.
func (s *Store) SkipVersions() error {
	err := s.writes.commit(s.db, func(tx *bbolt.Tx) error {
		b := tx.Bucket(documents)
		c := b.Cursor()
		var keys [][]byte
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			keys = append(keys, append([]byte(nil), k...))
		}
		for _, k := range keys {
			d, err := shadow.DecodeRecord(b.Get(k))
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			d.Version += skipVersions
			if err := b.Put(k, d.AppendRecord(nil)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("boltstore: skip versions: %w", err)
	}
	return nil
}
