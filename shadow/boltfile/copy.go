package boltfile

import "go.etcd.io/bbolt"

// copyBatch is how many bytes one commit of a Copier writes, about.
const copyBatch = 4 << 20

// A Copier writes the Items of a salvage into another file, many to a commit.
type Copier struct {
	DB    *bbolt.DB
	items []Item
	size  int
}

// Add takes an item that lies in a bucket, or is one. It keeps its memory until
// Flush.
func (c *Copier) Add(it Item) error {
	c.items = append(c.items, it)
	if c.size += len(it.Key) + len(it.Value) + 64; c.size < copyBatch {
		return nil
	}
	return c.Flush()
}

// Flush makes durable what was added.
func (c *Copier) Flush() error {
	err := c.DB.Update(func(tx *bbolt.Tx) error {
		for _, it := range c.items {
			if err := put(tx, it); err != nil {
				return err
			}
		}
		return nil
	})
	c.items, c.size = nil, 0
	return err
}

func put(tx *bbolt.Tx, it Item) error {
	b, err := tx.CreateBucketIfNotExists(it.Path[0])
	for _, name := range it.Path[1:] {
		if err == nil {
			b, err = b.CreateBucketIfNotExists(name)
		}
	}
	switch {
	case err != nil:
		return err
	case it.Key != nil:
		return b.Put(it.Key, it.Value)
	}
	return b.SetSequence(it.Sequence)
}
