package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt maps its file and trusts it: a damaged page is a panic at best, and in
// the goroutine that bbolt.Open starts to find the free pages (v1.5.0, method
// freepages), a truncated file (SIGBUS) or a page that contains itself (stack
// overflow) it is the end of the process, again after each restart. So check
// reads the file first, with plain reads, and follows every page that is in
// use. It costs one pass over what the spool holds.

const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltPageHeader = 16
	boltElement    = 16
	boltBucket     = 16 // root page and sequence, before an inline page
	boltNoFreelist = ^uint64(0)

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	maxDepth = 24 // of pages; ten levels hold more than any file we make
)

var (
	errDamaged = errors.New("damaged")
	errPanic   = fmt.Errorf("%w: panic", errDamaged) // inside of bbolt
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// A checker walks the pages of one bbolt file (page layout: bbolt
// internal/common, page.go and meta.go; the host's byte order).
type checker struct {
	in       io.ReaderAt
	pageSize int64
	pages    uint64 // below the high-water mark
	seen     []bool
	tail     bool // a meta page was invalid: the last commit may be missing
}

var order = binary.NativeEndian

// check returns errDamaged, or nil when bbolt can use the file. lastLost says
// that only one meta page is good, so that bbolt falls back to the commit
// before, if the other was the newer.
func check(in io.ReaderAt, size int64) (lastLost bool, err error) {
	c := checker{in: in}
	root, freelist, err := c.meta(size)
	if err != nil {
		return false, err
	}
	c.seen = make([]bool, c.pages)
	c.seen[0], c.seen[1] = true, true
	if freelist != boltNoFreelist {
		if err := c.freelist(freelist); err != nil {
			return false, err
		}
	}
	last := []byte(nil)
	if err := c.walk(root, &last, nil, nil, 0, true); err != nil {
		return false, err
	}
	return c.tail, nil
}

// meta finds the newest valid meta page, as bbolt does.
func (c *checker) meta(size int64) (root, freelist uint64, err error) {
	var best []byte
	for i := range int64(2) {
		b := make([]byte, boltPageHeader+64)
		if _, err := c.in.ReadAt(b, i*pageSize); err != nil {
			return 0, 0, damaged("meta page %d: %v", i, err)
		}
		m := b[boltPageHeader:]
		h := fnv.New64a()
		h.Write(m[:56])
		if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion || order.Uint64(m[56:]) != h.Sum64() {
			c.tail = true
			continue
		}
		if best == nil || order.Uint64(m[48:]) > order.Uint64(best[48:]) {
			best = m
		}
	}
	if best == nil {
		return 0, 0, damaged("no valid meta page")
	}
	if order.Uint32(best[8:]) != pageSize {
		return 0, 0, damaged("page size %d, want %d", order.Uint32(best[8:]), pageSize)
	}
	c.pageSize = pageSize
	root, freelist, c.pages = order.Uint64(best[16:]), order.Uint64(best[32:]), order.Uint64(best[40:])
	if c.pages < 3 || c.pages > uint64(size/pageSize) {
		return 0, 0, damaged("%d pages in use, the file has %d", c.pages, size/pageSize)
	}
	return root, freelist, nil
}

// page reads a page with its overflow and marks it as used.
func (c *checker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, damaged("page %d of %d", id, c.pages)
	}
	var head [boltPageHeader]byte
	if _, err := c.in.ReadAt(head[:], int64(id)*c.pageSize); err != nil {
		return nil, damaged("page %d: %v", id, err)
	}
	if got := order.Uint64(head[:]); got != id {
		return nil, damaged("page %d says that it is %d", id, got)
	}
	run := uint64(order.Uint32(head[12:])) + 1
	if run > c.pages-id {
		return nil, damaged("page %d: %d pages long", id, run)
	}
	for i := id; i < id+run; i++ {
		if c.seen[i] {
			return nil, damaged("page %d is used twice", i)
		}
		c.seen[i] = true
	}
	b := make([]byte, int64(run)*c.pageSize)
	if _, err := c.in.ReadAt(b, int64(id)*c.pageSize); err != nil {
		return nil, damaged("page %d: %v", id, err)
	}
	return b, nil
}

// freelist checks a stored list of free pages. Our files have none, but for
// the empty one that bbolt makes with a new file.
func (c *checker) freelist(id uint64) error {
	b, err := c.page(id)
	if err != nil {
		return err
	}
	n, ids := uint64(order.Uint16(b[10:])), b[boltPageHeader:]
	if n == 0xFFFF {
		n, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(b[8:]) != flagFreelist || n > uint64(len(ids)/8) {
		return damaged("free list in page %d", id)
	}
	for i := range n {
		if p := order.Uint64(ids[i*8:]); p < 2 || p >= c.pages {
			return damaged("free page %d of %d", p, c.pages)
		}
	}
	return nil
}

// walk checks the tree below page id. Its keys must lie above *last, which it
// moves on, not below from, and below limit, where these are not nil: what
// bbolt demands when it looks for the free pages (tx_check.go).
func (c *checker) walk(id uint64, last *[]byte, from, limit []byte, depth int, buckets bool) error {
	if depth > maxDepth {
		return damaged("page %d: tree too deep", id)
	}
	b, err := c.page(id)
	if err != nil {
		return err
	}
	if order.Uint16(b[8:]) != flagBranch {
		return c.leaf(b, id, last, from, limit, depth, buckets)
	}
	n := int(order.Uint16(b[10:]))
	if n == 0 || boltPageHeader+n*boltElement > len(b) {
		return damaged("branch page %d: %d elements", id, n)
	}
	key := func(i int) ([]byte, error) {
		at := boltPageHeader + i*boltElement
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
		if err := c.walk(order.Uint64(b[boltPageHeader+i*boltElement+8:]), last, at, to, depth+1, buckets); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// leaf checks a leaf page, also an inline one.
func (c *checker) leaf(b []byte, id uint64, last *[]byte, from, limit []byte, depth int, buckets bool) error {
	n := int(order.Uint16(b[10:]))
	if order.Uint16(b[8:]) != flagLeaf || boltPageHeader+n*boltElement > len(b) {
		return damaged("page %d: kind %#x with %d elements", id, order.Uint16(b[8:]), n)
	}
	for i := range n {
		at := boltPageHeader + i*boltElement
		flags, pos := order.Uint32(b[at:]), uint64(order.Uint32(b[at+4:]))
		ksize, vsize := uint64(order.Uint32(b[at+8:])), uint64(order.Uint32(b[at+12:]))
		key, err := piece(b, id, at, pos, ksize)
		if err != nil {
			return err
		}
		if *last != nil && bytes.Compare(*last, key) >= 0 || from != nil && bytes.Compare(key, from) < 0 || limit != nil && bytes.Compare(key, limit) >= 0 {
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
		if flags != 1 || !buckets || vsize < boltBucket {
			return damaged("page %d: element %d is no bucket of ours", id, i)
		}
		value := b[start : start+vsize]
		var inner []byte
		if root := order.Uint64(value); root != 0 {
			err = c.walk(root, &inner, nil, nil, depth+1, false)
		} else if vsize < boltBucket+boltPageHeader {
			err = damaged("page %d: inline bucket of %d bytes", id, vsize)
		} else {
			err = c.leaf(value[boltBucket:], id, &inner, nil, nil, depth+1, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// piece is the key (or key and value) of the element at b[at:].
func piece(b []byte, id uint64, at int, pos, size uint64) ([]byte, error) {
	if start := uint64(at) + pos; size > 0 && pos >= boltElement && start+size <= uint64(len(b)) {
		return b[start : start+size], nil
	}
	return nil, damaged("page %d: element outside of it", id)
}
