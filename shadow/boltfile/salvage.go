package boltfile

import (
	"bytes"
	"io"
)

// An Item is a key with its value, or with Key nil a bucket, of a file that is
// read around its damage.
type Item struct {
	Path       [][]byte // of buckets, from the root
	Sequence   uint64   // of a bucket
	Key, Value []byte
}

// Salvage calls f for each bucket and key of the bbolt file in, of size bytes,
// that the tree of the newest valid commit leads to in sound pages, buckets before
// what is in them, and lost for each page that is not, with the bucket that may be
// incomplete for it (nil: the root, whose other buckets are unknown). It takes a page
// as a whole or not at all; values have no sum in bbolt, so f is to look at them.
//
// Pages of older commits are never taken: a page that the tree does not lead to is
// left, as is one that the list of free pages has. Of a file that ends early the pages
// behind its end are lost. sure says that nothing can be
// older than the last commit: both meta pages and that list are sound. Without it
// what was written last may be undone. nesting is that of Check.
func Salvage(in io.ReaderAt, size int64, nesting int, f func(Item) error,
	lost func(path [][]byte, err error)) (sure bool, err error) {
	c := checker{in: in, size: size, cut: true}
	root, freelist, err := c.meta()
	if err != nil {
		return false, err
	}
	c.seen = make([]bool, c.pages)
	c.seen[0], c.seen[1] = true, true
	sure = !c.oneMeta && freelist != noFreelist
	if sure && c.freelist(freelist) != nil { // free pages are seen: whoever leads there is wrong
		sure = false
	}
	s := salvager{c, f, lost}
	return sure, s.walk(root, nil, nil, nil, 0, nesting)
}

// A salvager walks a tree around what cannot be read.
type salvager struct {
	checker
	f    func(Item) error
	lost func([][]byte, error)
}

func (s *salvager) walk(id uint64, path [][]byte, from, limit []byte, depth, nesting int) error {
	if depth > maxDepth {
		s.lost(path, damaged("page %d: tree too deep", id))
		return nil
	}
	b, err := s.page(id)
	if err != nil {
		s.lost(path, err)
		return nil
	}
	if order.Uint16(b[8:]) != flagBranch {
		return s.leaf(b, id, path, from, limit, depth, nesting)
	}
	keys, err := s.branch(b, id, from, limit)
	if err != nil {
		s.lost(path, err)
		return nil
	}
	for i, key := range keys {
		to := limit
		if i+1 < len(keys) {
			to = keys[i+1]
		}
		if err := s.walk(order.Uint64(b[pageHeader+i*element+8:]), path, key, to, depth+1, nesting); err != nil {
			return err
		}
	}
	return nil
}

// branch returns the keys of a branch page, which are in order from from to limit.
func (s *salvager) branch(b []byte, id uint64, from, limit []byte) (keys [][]byte, err error) {
	n := int(order.Uint16(b[10:]))
	if n == 0 || pageHeader+n*element > len(b) {
		return nil, damaged("branch page %d: %d elements", id, n)
	}
	for i := range n {
		at := pageHeader + i*element
		key, err := piece(b, id, at, uint64(order.Uint32(b[at:])), uint64(order.Uint32(b[at+4:])))
		if err != nil {
			return nil, err
		}
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 || from != nil && bytes.Compare(key, from) < 0 || limit != nil &&
			bytes.Compare(key, limit) >= 0 {
			return nil, damaged("branch page %d: keys out of order", id)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// A cell is an element of a leaf page.
type cell struct {
	key, value []byte
	bucket     bool
}

// cells returns what a leaf page has, in order from from to limit.
func (s *salvager) cells(b []byte, id uint64, from, limit []byte) (all []cell, err error) {
	n := int(order.Uint16(b[10:]))
	if order.Uint16(b[8:]) != flagLeaf || pageHeader+n*element > len(b) {
		return nil, damaged("page %d: kind %#x with %d elements", id, order.Uint16(b[8:]), n)
	}
	for i := range n {
		at := pageHeader + i*element
		flags, pos := order.Uint32(b[at:]), uint64(order.Uint32(b[at+4:]))
		ksize, vsize := uint64(order.Uint32(b[at+8:])), uint64(order.Uint32(b[at+12:]))
		both, err := piece(b, id, at, pos, ksize+vsize)
		if err != nil {
			return nil, err
		}
		if ksize == 0 || flags > elementBucket || flags == elementBucket && vsize < bucketHeader {
			return nil, damaged("page %d: element %d", id, i)
		}
		key := both[:ksize]
		if i > 0 && bytes.Compare(all[i-1].key, key) >= 0 || from != nil && bytes.Compare(key, from) < 0 ||
			limit != nil && bytes.Compare(key, limit) >= 0 {
			return nil, damaged("page %d: keys out of order", id)
		}
		all = append(all, cell{key, both[ksize:], flags == elementBucket})
	}
	return all, nil
}

func (s *salvager) leaf(b []byte, id uint64, path [][]byte, from, limit []byte, depth, nesting int) error {
	all, err := s.cells(b, id, from, limit)
	if err != nil {
		s.lost(path, err)
		return nil
	}
	for _, c := range all {
		if !c.bucket {
			if err := s.f(Item{Path: path, Key: c.key, Value: c.value}); err != nil {
				return err
			}
			continue
		}
		in := append(path[:len(path):len(path)], c.key)
		if nesting < 1 {
			s.lost(in, damaged("page %d: a bucket that may not be here", id))
			continue
		}
		if err := s.f(Item{Path: in, Sequence: order.Uint64(c.value[8:])}); err != nil {
			return err
		}
		root := order.Uint64(c.value)
		switch {
		case root != 0:
			err = s.walk(root, in, nil, nil, depth+1, nesting-1)
		case len(c.value) < bucketHeader+pageHeader:
			s.lost(in, damaged("page %d: inline bucket of %d bytes", id, len(c.value)))
		default:
			err = s.leaf(c.value[bucketHeader:], id, in, nil, nil, depth+1, nesting-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
