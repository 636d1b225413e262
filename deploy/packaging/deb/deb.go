// Package deb writes Debian packages (deb(5), format 2.0): an ar archive of the file
// debian-binary and two tar archives. The same package with the same time has the
// same bytes on every machine.
//
// It is ours, and no library and not dpkg-deb: packages are built where no dpkg is,
// their owners are root's without fakeroot, and the library that could (nfpm) brings
// some hundred modules for other formats.
package deb

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// A Package is what one .deb has.
type Package struct {
	Control []Field
	Scripts map[string]string // preinst, postinst, prerm, postrm
	Files   []File
	Time    time.Time // of all files
	Level   int       // of gzip: 9 is the smallest, 1 the fastest
}

// A Field is a line of the control file. Lines of a value that follow the first
// begin with a space.
type Field struct{ Name, Value string }

// A File is installed by the package, as root's.
type File struct {
	Name string // from the root, such as usr/bin/tidemill-agent
	Mode fs.FileMode
	Data []byte
	Conf bool // a conffile: dpkg keeps what was changed there
}

// Write writes the package.
func (p *Package) Write(w io.Writer) error {
	files := slices.Clone(p.Files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	control, err := p.control(files)
	if err != nil {
		return err
	}
	data, err := p.archive(files)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "!<arch>\n"); err != nil {
		return err
	}
	return errors.Join(p.member(w, "debian-binary", []byte("2.0\n")), p.member(w, "control.tar.gz", control),
		p.member(w, "data.tar.gz", data))
}

// member writes one file of the ar archive. Files begin at even places.
func (p *Package) member(w io.Writer, name string, data []byte) error {
	_, err := fmt.Fprintf(w, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, p.Time.Unix(), 0, 0, 0o100644, len(data))
	if err != nil {
		return err
	}
	if len(data)%2 == 1 {
		data = append(data, '\n')
	}
	_, err = w.Write(data)
	return err
}

// control is the archive of what dpkg knows of the package.
func (p *Package) control(files []File) ([]byte, error) {
	var fields, sums, conf strings.Builder
	size := 0
	for _, f := range files {
		size += (len(f.Data) + 1023) / 1024
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.Data), f.Name)
		if f.Conf {
			fmt.Fprintf(&conf, "/%s\n", f.Name)
		}
	}
	for _, f := range append(slices.Clone(p.Control), Field{"Installed-Size", fmt.Sprint(size)}) { // KiB
		fmt.Fprintf(&fields, "%s: %s\n", f.Name, f.Value)
	}
	all := []File{{Name: "control", Mode: 0o644, Data: []byte(fields.String())},
		{Name: "md5sums", Mode: 0o644, Data: []byte(sums.String())}}
	if conf.Len() > 0 {
		all = append(all, File{Name: "conffiles", Mode: 0o644, Data: []byte(conf.String())})
	}
	for name, text := range p.Scripts {
		all = append(all, File{Name: name, Mode: 0o755, Data: []byte(text)})
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return p.archive(all)
}

// archive is a .tar.gz of files, each after the folders that it is in.
func (p *Package) archive(files []File) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, p.Level)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	header := func(name string, mode fs.FileMode, size int) error {
		kind := byte(tar.TypeReg)
		if name == "" || strings.HasSuffix(name, "/") {
			kind = tar.TypeDir
		}
		return w.WriteHeader(&tar.Header{Typeflag: kind, Name: "./" + name, Mode: int64(mode.Perm()),
			Size: int64(size), ModTime: p.Time, Uname: "root", Gname: "root", Format: tar.FormatGNU})
	}
	made := map[string]bool{}
	var folder func(name string) error
	folder = func(name string) error {
		if made[name] {
			return nil
		}
		made[name] = true
		if name == "." {
			return header("", 0o755, 0)
		}
		if err := folder(path.Dir(name)); err != nil {
			return err
		}
		return header(name+"/", 0o755, 0)
	}
	for _, f := range files {
		if err := folder(path.Dir(f.Name)); err != nil {
			return nil, err
		}
		if err := header(f.Name, f.Mode, len(f.Data)); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	err = errors.Join(w.Close(), z.Close())
	return b.Bytes(), err
}
