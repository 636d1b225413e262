package bolt

import (
	"errors"
	"os"

	"github.com/tidemill/tidemill/shadow/boltfile"
)

// Salvage fills an engine that is new with what can be read of the damaged file at
// from, which nobody has open. Sound returns an error for an entry that is to be
// left out. lost is told of each piece that is missing, with the table that may be
// incomplete, "" for whole tables. Only what the last update left is taken; sure is
// false where that cannot be told.
func (e *Engine) Salvage(
	from string, sound func(table string, key, value []byte) error, lost func(table string, err error),
) (sure bool, err error) {
	in, err := os.Open(from)
	if err != nil {
		return false, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return false, err
	}
	w := &boltfile.Copier{DB: e.db}
	sure, err = boltfile.Salvage(in, info.Size(), 1, func(it boltfile.Item) error {
		if len(it.Path) == 0 {
			return nil // no key of ours is in the root
		}
		if it.Key != nil {
			if err := sound(string(it.Path[0]), it.Key, it.Value); err != nil {
				lost(string(it.Path[0]), err)
				return nil
			}
		}
		return w.Add(it)
	}, func(path [][]byte, err error) {
		table := ""
		if len(path) > 0 {
			table = string(path[0])
		}
		lost(table, err)
	})
	return sure, errors.Join(err, w.Flush())
}
