package boltfile

import (
	"bytes"
	"io"
)

// Reach returns for each page of the bbolt file in, of size bytes, whether its
// tree leads there, as far as that can be followed. It is for files that Check
// found damaged, and nil if no meta page is valid.
func Reach(in io.ReaderAt, size int64) []bool {
	c := checker{in: in, size: size}
	root, _, err := c.meta()
	if err != nil {
		return nil
	}
	c.seen = make([]bool, c.pages)
	c.reach(root, 0)
	return c.seen
}

func (c *checker) reach(id uint64, depth int) {
	b, err := c.page(id)
	if err != nil || depth > maxDepth {
		if id < c.pages {
			c.seen[id] = true // its parent says so
		}
		return
	}
	kind, n := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	for at := pageHeader; n > 0 && at+element <= len(b); n, at = n-1, at+element {
		start := uint64(at) + uint64(order.Uint32(b[at+4:])) + uint64(order.Uint32(b[at+8:]))
		switch {
		case kind == flagBranch:
			c.reach(order.Uint64(b[at+8:]), depth+1)
		case kind == flagLeaf && order.Uint32(b[at:]) == elementBucket && start+bucketHeader <= uint64(len(b)):
			if root := order.Uint64(b[start:]); root != 0 {
				c.reach(root, depth+1)
			}
		}
	}
}

// walk checks the tree below page id. Its keys must lie above *last, which it
// moves on, not below from, and below limit, where these are not nil: what
// bbolt demands when it looks for the free pages (tx_check.go).
func (c *checker) walk(id uint64, last *[]byte, from, limit []byte, depth, nesting int) error {
	if depth > maxDepth {
		return damaged("page %d: tree too deep", id)
	}
	b, err := c.page(id)
	if err != nil {
		return err
	}
	if order.Uint16(b[8:]) != flagBranch {
		return c.leaf(b, id, last, from, limit, depth, nesting)
	}
	n := int(order.Uint16(b[10:]))
	if n == 0 || pageHeader+n*element > len(b) {
		return damaged("branch page %d: %d elements", id, n)
	}
	key := func(i int) ([]byte, error) {
		at := pageHeader + i*element
		return piece(b, id, at, uint64(order.Uint32(b[at:])), uint64(order.Uint32(b[at+4:])))
	}
	at, err := key(0)
	if err != nil {
		return err
	}
	if from != nil && bytes.Compare(at, from) < 0 {
		return damaged("branch page %d: keys out of order", id)
	}
	for i := range n {
		to := limit
		if i+1 < n {
			if to, err = key(i + 1); err != nil {
				return err
			}
		}
		if i > 0 && bytes.Compare(at, *last) <= 0 || to != nil && bytes.Compare(at, to) >= 0 {
			return damaged("branch page %d: keys out of order", id)
		}
		if err := c.walk(order.Uint64(b[pageHeader+i*element+8:]), last, at, to, depth+1, nesting); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// leaf checks a leaf page, also an inline one.
func (c *checker) leaf(b []byte, id uint64, last *[]byte, from, limit []byte, depth, nesting int) error {
	n := int(order.Uint16(b[10:]))
	if order.Uint16(b[8:]) != flagLeaf || pageHeader+n*element > len(b) {
		return damaged("page %d: kind %#x with %d elements", id, order.Uint16(b[8:]), n)
	}
	for i := range n {
		at := pageHeader + i*element
		flags, pos := order.Uint32(b[at:]), uint64(order.Uint32(b[at+4:]))
		ksize, vsize := uint64(order.Uint32(b[at+8:])), uint64(order.Uint32(b[at+12:]))
		key, err := piece(b, id, at, pos, ksize)
		if err != nil {
			return err
		}
		if *last != nil && bytes.Compare(*last, key) >= 0 || from != nil && bytes.Compare(key, from) < 0 ||
			limit != nil && bytes.Compare(key, limit) >= 0 {
			return damaged("page %d: keys out of order", id)
		}
		*last = append((*last)[:0], key...)
		if vsize > 0 {
			if _, err := piece(b, id, at, pos, ksize+vsize); err != nil {
				return err
			}
		}
		if flags == 0 {
			continue
		}
		start := uint64(at) + pos + ksize
		if flags != elementBucket || nesting < 1 || vsize < bucketHeader {
			return damaged("page %d: element %d is no bucket that may be here", id, i)
		}
		value := b[start : start+vsize]
		var inner []byte
		if root := order.Uint64(value); root != 0 {
			err = c.walk(root, &inner, nil, nil, depth+1, nesting-1)
		} else if vsize < bucketHeader+pageHeader {
			err = damaged("page %d: inline bucket of %d bytes", id, vsize)
		} else {
			err = c.leaf(value[bucketHeader:], id, &inner, nil, nil, depth+1, nesting-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// piece is the key (or key and value) of the element at b[at:].
func piece(b []byte, id uint64, at int, pos, size uint64) ([]byte, error) {
	if start := uint64(at) + pos; size > 0 && pos >= element && start+size <= uint64(len(b)) {
		return b[start : start+size], nil
	}
	return nil, damaged("page %d: element outside of it", id)
}
