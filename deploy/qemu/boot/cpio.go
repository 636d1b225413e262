// Package boot makes what a simulated device boots from: an initramfs with modules
// of Debian's kernel in the order in which they load, a device tree with a node
// switched off, and the card with the device's data. None of it needs root.
package boot

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// A File is an entry of an initramfs.
type File struct {
	Name string // without / before it
	Mode fs.FileMode
	Data []byte // of a regular file

	Major, Minor uint32 // of a device
}

// WriteInitramfs writes a compressed cpio archive of the form newc (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst). Folders are added
// before the files that are in them. All belongs to root; devices are headers
// only, so that whoever makes them need not be root.
func WriteInitramfs(w io.Writer, files []File) error {
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	c := cpio{w: zw, have: map[string]bool{}}
	for _, f := range files {
		c.add(f)
	}
	c.entry(File{Name: "TRAILER!!!"}, 0)
	if c.err != nil {
		return fmt.Errorf("initramfs: %w", c.err)
	}
	return zw.Close()
}

type cpio struct {
	w    io.Writer
	n    int // entries, which is the last inode
	have map[string]bool
	err  error
}

func (c *cpio) add(f File) {
	if i := strings.LastIndexByte(f.Name, '/'); i >= 0 && !c.have[f.Name[:i]] {
		c.add(File{Name: f.Name[:i], Mode: fs.ModeDir | 0o755})
	}
	kind := uint32(0o100000)
	switch {
	case f.Mode.IsDir():
		kind = 0o040000
	case f.Mode&fs.ModeCharDevice != 0:
		kind = 0o020000
	case !f.Mode.IsRegular():
		c.err = fmt.Errorf("%s: mode %v", f.Name, f.Mode)
	}
	c.have[f.Name] = true
	c.entry(f, kind|uint32(f.Mode.Perm()))
}

// entry writes a header of 110 bytes, the name and the data, each padded to 4 bytes.
func (c *cpio) entry(f File, mode uint32) {
	c.n++
	var b bytes.Buffer
	b.WriteString("070701")
	for _, v := range []uint32{uint32(c.n), mode, 0, 0, 1, 0, uint32(len(f.Data)), 0, 0, f.Major, f.Minor,
		uint32(len(f.Name) + 1), 0} {
		fmt.Fprintf(&b, "%08X", v)
	}
	b.WriteString(f.Name + "\x00")
	pad(&b)
	b.Write(f.Data)
	pad(&b)
	if c.err == nil {
		_, c.err = c.w.Write(b.Bytes())
	}
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
