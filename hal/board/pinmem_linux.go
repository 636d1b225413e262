package board

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is a mapped page of registers.
type mapped []byte

func openMemory(dev string) (memory, error) {
	path := filepath.Join(dev, "gpiomem")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_SYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	m, err := unix.Mmap(fd, 0, memSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return mapped(m), nil
}

func (m mapped) word(at int) *uint32    { return (*uint32)(unsafe.Pointer(&m[at])) }
func (m mapped) load(at int) uint32     { return atomic.LoadUint32(m.word(at)) }
func (m mapped) store(at int, v uint32) { atomic.StoreUint32(m.word(at), v) }
func (m mapped) Close() error           { return unix.Munmap(m) }

// lineOf says which controller a line is on, by its label, and where.
func lineOf(dev, name string) (label string, offset uint32, err error) {
	r, err := parseLine(name)
	if err != nil {
		return "", 0, err
	}
	fd, err := openChip(dev, &r)
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(fd)
	var info chipInfo
	if err := ioctl(fd, ioctlChipInfo, unsafe.Pointer(&info)); err != nil {
		return "", 0, err
	}
	return cString(info.label[:]), r.offset, nil
}
