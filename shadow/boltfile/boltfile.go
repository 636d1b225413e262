// Package boltfile finds damage in a bbolt file before bbolt opens it.
//
// bbolt maps its file and trusts it. A damaged page is a panic at best; in the
// goroutine that bbolt.Open starts to find the free pages (v1.5.0, method
// freepages), with a truncated file (SIGBUS) or a page that contains itself
// (stack overflow) it is the end of the process, again after each restart. So
// Check reads the file first, with plain reads, and follows every page in use.
// It knows nothing of what the file holds and does not check the values.
package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// Parts of a bbolt file, from go.etcd.io/bbolt/internal/common, page.go and
// meta.go; integers are in the machine's order.
const (
	pageHeader   = 16 // id u64, flags u16, count u16, overflow u32
	element      = 16 // of a branch: pos u32, ksize u32, page u64; of a leaf: flags, pos, ksize, vsize u32
	bucketHeader = 16 // root page and sequence u64, then an inline page if the root is 0
	metaSize     = 64 // magic, version, page size, flags u32; root, sequence, freelist, end, txid, checksum u64

	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagFreelist  = 0x10
	elementBucket = 0x01

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0)

	minPage, maxPage = 1 << 10, 16 << 20 // that bbolt looks for
	maxDepth         = 24                // of pages; ten levels hold more than any file we make
)

// ErrDamaged marks what the file says of itself, as against the system.
var ErrDamaged = errors.New("damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Info is what Check found out about a sound file.
type Info struct {
	PageSize int

	// OneMeta says that only one of the two meta pages is valid: bbolt falls
	// back to the commit before, if the other one was the newer.
	OneMeta bool
}

// most is how many pages a file that ends early may say that it has: a byte of
// memory each.
const most = 64 << 20

var order = binary.NativeEndian

// Check reads all pages in use of the bbolt file in, of size bytes, and
// returns ErrDamaged unless bbolt can use it. nesting is how many levels of
// buckets the file may have: 1 is buckets in the root only. Nobody may write
// the file meanwhile: the caller holds bbolt's lock. The memory it takes is a
// byte for each page and the pages on the way down.
func Check(in io.ReaderAt, size int64, nesting int) (Info, error) {
	c := checker{in: in, size: size}
	root, freelist, err := c.meta()
	if err != nil {
		return Info{}, err
	}
	c.seen = make([]bool, c.pages)
	c.seen[0], c.seen[1] = true, true
	var last []byte
	if err := c.walk(root, &last, nil, nil, 0, nesting); err != nil {
		return Info{}, err
	}
	if freelist != noFreelist {
		if err := c.freelist(freelist); err != nil {
			return Info{}, err
		}
	}
	return Info{PageSize: int(c.pageSize), OneMeta: c.oneMeta}, nil
}

// A checker walks the pages of one file.
type checker struct {
	in       io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64 // below the high-water mark
	seen     []bool // in use, or free
	oneMeta  bool
	cut      bool // the file may end before its last page
}

// meta finds the newest valid meta page, as bbolt does: the first page says
// how large pages are or, if it is not valid, the second, wherever it is.
func (c *checker) meta() (root, freelist uint64, err error) {
	best := c.metaAt(0)
	if best != nil {
		c.pageSize = int64(order.Uint32(best[8:]))
	}
	for at := int64(minPage); best == nil && at <= maxPage; at *= 2 {
		if m := c.metaAt(at); m != nil && int64(order.Uint32(m[8:])) == at {
			best, c.pageSize, c.oneMeta = m, at, true
		}
	}
	if best == nil {
		return 0, 0, damaged("no valid meta page")
	}
	if c.pageSize < minPage || c.pageSize > maxPage || c.pageSize&(c.pageSize-1) != 0 {
		return 0, 0, damaged("pages of %d bytes", c.pageSize)
	}
	if !c.oneMeta {
		second := c.metaAt(c.pageSize)
		switch {
		case second == nil:
			c.oneMeta = true
		case int64(order.Uint32(second[8:])) != c.pageSize:
			return 0, 0, damaged("pages of %d and of %d bytes", c.pageSize, order.Uint32(second[8:]))
		case order.Uint64(second[48:]) > order.Uint64(best[48:]):
			best = second
		}
	}
	root, freelist, c.pages = order.Uint64(best[16:]), order.Uint64(best[32:]), order.Uint64(best[40:])
	if has := uint64(c.size / c.pageSize); c.pages < 3 || c.pages > has && (!c.cut || c.pages > most) {
		return 0, 0, damaged("%d pages in use, the file has %d", c.pages, has)
	}
	return root, freelist, nil
}

// metaAt returns the meta data of the page at offset at, nil if it is not valid.
func (c *checker) metaAt(at int64) []byte {
	b := make([]byte, pageHeader+metaSize)
	if _, err := c.in.ReadAt(b, at); err != nil {
		return nil
	}
	m := b[pageHeader:]
	h := fnv.New64a()
	h.Write(m[:56])
	if order.Uint32(m) != magic || order.Uint32(m[4:]) != version || order.Uint64(m[56:]) != h.Sum64() {
		return nil
	}
	return m
}

// page reads a page with its overflow and marks it as used.
func (c *checker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, damaged("page %d of %d", id, c.pages)
	}
	var head [pageHeader]byte
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

// freelist checks the stored list of free pages: none is in use, or twice in it.
func (c *checker) freelist(id uint64) error {
	b, err := c.page(id)
	if err != nil {
		return err
	}
	n, ids := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if n == 0xFFFF {
		n, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(b[8:]) != flagFreelist || n > uint64(len(ids)/8) {
		return damaged("free list in page %d", id)
	}
	for i := range n {
		p := order.Uint64(ids[i*8:])
		if p < 2 || p >= c.pages || c.seen[p] {
			return damaged("page %d of %d is free and in use, or free twice", p, c.pages)
		}
		c.seen[p] = true
	}
	return nil
}
