package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Parts of a bbolt file, from go.etcd.io/bbolt/internal/common: a page is
// id u64, flags u16, count u16, overflow u32, then its elements; integers are
// in the machine's order.
const (
	pageHeader = 16
	element    = 16 // of a branch: pos u32, ksize u32, page u64; of a leaf: flags, pos, ksize, vsize u32

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	elementBucket = 0x01 // leaf element whose value is root u64, sequence u64
	metaSize      = 64   // magic, version, page size, flags u32; root, sequence, freelist, end, txid, checksum u64
	magic         = 0xED0CDAED
	noFreelist    = ^uint64(0)
)

var order = binary.NativeEndian

// verify walks all pages in use of the bbolt file at path. bbolt itself
// trusts pages: on a damaged one it may panic in a goroutine of its own, or
// follow a circle until the memory is full. A file that is not there or empty
// is sound, and one that another process has open is not looked at. The whole file is read, a device's being some hundred KB.
func verify(path string) error {
	open, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer open.Close() // and with it the lock
	// Somebody else's commit must not look like damage. bbolt takes the same
	// lock, so it will wait for them, or say that it could not.
	if err := syscall.Flock(int(open.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return nil
	}
	data, err := io.ReadAll(open)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	f := file{data: data, used: make(map[uint64]bool)}
	if err := f.verify(); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

type file struct {
	data []byte
	size int    // of a page
	end  uint64 // first page not allocated
	used map[uint64]bool
}

func (f *file) verify() error {
	var best []byte
	for _, size := range []int{os.Getpagesize(), 4096, 16384, 65536} { // as the file may come from elsewhere
		for _, at := range []int{0, size} {
			if m := f.meta(at); m != nil && int(order.Uint32(m[8:])) == size && (best == nil || order.Uint64(m[48:]) > order.Uint64(best[48:])) {
				best, f.size = m, size
			}
		}
	}
	if best == nil {
		return errors.New("no sound meta page")
	}
	f.end = order.Uint64(best[40:])
	if f.end > uint64(len(f.data)/f.size) {
		return fmt.Errorf("%d pages, file has %d bytes", f.end, len(f.data))
	}
	if err := f.tree(order.Uint64(best[16:]), 0); err != nil {
		return err
	}
	if free := order.Uint64(best[32:]); free != noFreelist {
		return f.freelist(free)
	}
	return nil
}

// meta returns the meta data of the page at offset at, or nil.
func (f *file) meta(at int) []byte {
	if len(f.data) < at+pageHeader+metaSize {
		return nil
	}
	m := f.data[at+pageHeader:][:metaSize]
	h := fnv.New64a()
	h.Write(m[:56])
	if order.Uint32(m) != magic || order.Uint64(m[56:]) != h.Sum64() {
		return nil
	}
	return m
}

// page returns page id with its overflow and marks it used.
func (f *file) page(id uint64) ([]byte, error) {
	if id < 2 || id >= f.end {
		return nil, fmt.Errorf("page %d of %d", id, f.end)
	}
	p := f.data[int(id)*f.size:]
	last := id + uint64(order.Uint32(p[12:]))
	if order.Uint64(p) != id || last >= f.end {
		return nil, fmt.Errorf("page %d says it is %d to %d", id, order.Uint64(p), last)
	}
	for i := id; i <= last; i++ {
		if f.used[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		f.used[i] = true
	}
	return p[:int(last-id+1)*f.size], nil
}

// tree verifies the page and all below it.
func (f *file) tree(id uint64, depth int) error {
	if depth > 64 {
		return errors.New("too deep")
	}
	p, err := f.page(id)
	if err != nil {
		return err
	}
	return f.elements(p, depth)
}

// elements verifies those of a page or of a bucket kept within its parent.
func (f *file) elements(p []byte, depth int) error {
	id, flags, count := order.Uint64(p), order.Uint16(p[8:]), int(order.Uint16(p[10:]))
	if flags != flagBranch && flags != flagLeaf || pageHeader+count*element > len(p) || flags == flagBranch && count == 0 {
		return fmt.Errorf("page %d: flags %#x, %d elements", id, flags, count)
	}
	previous := ""
	for i := range count {
		e := p[pageHeader+i*element:]
		pos, ksize, vsize := order.Uint32(e), order.Uint32(e[4:]), uint32(0)
		if flags == flagLeaf {
			pos, ksize, vsize = order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
		}
		if uint64(pos)+uint64(ksize)+uint64(vsize) > uint64(len(e)) {
			return fmt.Errorf("page %d: element %d reaches beyond it", id, i)
		}
		key, value := string(e[pos:][:ksize]), e[pos+ksize:][:vsize]
		if i > 0 && key <= previous {
			return fmt.Errorf("page %d: keys are out of order", id)
		}
		previous = key
		var err error
		switch {
		case flags == flagBranch:
			err = f.tree(order.Uint64(e[8:]), depth+1)
		case order.Uint32(e)&elementBucket != 0:
			err = f.bucket(value, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *file) bucket(value []byte, depth int) error {
	if len(value) < 16 {
		return errors.New("bucket without header")
	}
	if root := order.Uint64(value); root != 0 {
		return f.tree(root, depth)
	}
	if inline := value[16:]; len(inline) < pageHeader || order.Uint16(inline[8:]) != flagLeaf {
		return errors.New("bucket without page")
	}
	return f.elements(value[16:], depth)
}

// freelist verifies that no page is both free and in use.
func (f *file) freelist(id uint64) error {
	p, err := f.page(id)
	if err != nil {
		return err
	}
	count, ids := int(order.Uint16(p[10:])), p[pageHeader:]
	if count == 0xFFFF {
		count, ids = int(order.Uint64(ids)), ids[8:]
	}
	if order.Uint16(p[8:]) != flagFreelist || count < 0 || count > len(ids)/8 {
		return fmt.Errorf("freelist: flags %#x, %d pages", order.Uint16(p[8:]), count)
	}
	for i := range count {
		free := order.Uint64(ids[8*i:])
		if free < 2 || free >= f.end || f.used[free] {
			return fmt.Errorf("page %d is free and in use, or not in the file", free)
		}
		f.used[free] = true
	}
	return nil
}
