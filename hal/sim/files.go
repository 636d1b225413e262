package sim

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Files are what the kernel shows of its devices below /sys and /dev: each a path,
// such as "sys/class/hwmon/hwmon0/temp1_input", and what is read there. Any goroutine
// may change them while they are read. Folders are there where files are.
type Files struct {
	mu    sync.Mutex
	files map[string]simFile
}

type simFile struct {
	read func() (string, error)
	link string // of a symbolic link: where it leads
}

var (
	_ fs.ReadLinkFS = (*Files)(nil)
	_ fs.ReadDirFS  = (*Files)(nil)
)

// NewFiles returns no files.
func NewFiles() *Files { return &Files{files: map[string]simFile{}} }

// Set makes a file with a text.
func (f *Files) Set(name, text string) { f.Func(name, func() (string, error) { return text, nil }) }

// Fail makes a file whose reads fail.
func (f *Files) Fail(name string, err error) { f.Func(name, func() (string, error) { return "", err }) }

// Func makes a file that says what read returns each time it is opened.
func (f *Files) Func(name string, read func() (string, error)) { f.put(name, simFile{read: read}) }

// Link makes a symbolic link. It can be looked at, but not opened.
func (f *Files) Link(name, to string) { f.put(name, simFile{link: to}) }

func (f *Files) put(name string, file simFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = file
}

// Remove takes away a file, or all of a folder.
func (f *Files) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at := range f.files {
		if at == name || strings.HasPrefix(at, name+"/") {
			delete(f.files, at)
		}
	}
}

// Files are those of the board, which a program on it finds in place of the
// machine's.
func (b *Board) Files() fs.FS { return b.files }

// Kernel returns the board's files, to change them.
func (b *Board) Kernel() *Files { return b.files }

// kernelChips puts a chip on the board that the kernel has drivers for: the air by
// IIO, and the processor's temperature by hwmon.
func (b *Board) kernelChips(air Waveform, now func() time.Time) {
	if now == nil {
		now = time.Now
	}
	b.files = NewFiles()
	value := func(name string, of func(Env) float64) {
		b.files.Func(name, func() (string, error) { return decimal(of(air(now()))), nil })
	}
	const iio, hwmon = "sys/bus/iio/devices/iio:device0/", "sys/class/hwmon/hwmon0/"
	b.files.Set(iio+"name", "bme280\n")
	value(iio+"in_temp_input", func(e Env) float64 { return e.Temperature * 1000 })
	value(iio+"in_humidityrelative_input", func(e Env) float64 { return e.Humidity * 1000 })
	value(iio+"in_pressure_input", func(e Env) float64 { return e.Pressure / 1000 })
	b.files.Set(hwmon+"name", "cpu_thermal\n")
	value(hwmon+"temp1_input", func(e Env) float64 { return (e.Temperature + 25) * 1000 }) // a guess at an idle one
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) + "\n" }

// Open is fs.FS's.
func (f *Files) Open(name string) (fs.File, error) {
	f.mu.Lock()
	file, ok := f.files[name]
	f.mu.Unlock()
	if ok && file.link == "" {
		return &openFile{node: node{path.Base(name), 0o444}, read: file.read}, nil
	}
	if entries, err := f.ReadDir(name); err == nil {
		return &openDir{node: node{path.Base(name), fs.ModeDir | 0o555}, entries: entries}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir is fs.ReadDirFS's.
func (f *Files) ReadDir(name string) ([]fs.DirEntry, error) {
	prefix := name + "/"
	if name == "." {
		prefix = ""
	}
	found := map[string]fs.FileMode{}
	f.mu.Lock()
	for at, file := range f.files {
		rest, ok := strings.CutPrefix(at, prefix)
		if !ok {
			continue
		}
		child, _, deeper := strings.Cut(rest, "/")
		switch {
		case deeper:
			found[child] = fs.ModeDir | 0o555
		case file.link != "":
			found[child] = fs.ModeSymlink | 0o777
		default:
			found[child] = 0o444
		}
	}
	f.mu.Unlock()
	if len(found) == 0 {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	entries := make([]fs.DirEntry, 0, len(found))
	for child, mode := range found {
		entries = append(entries, fs.FileInfoToDirEntry(node{child, mode}))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// ReadLink is fs.ReadLinkFS's.
func (f *Files) ReadLink(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file, ok := f.files[name]; ok && file.link != "" {
		return file.link, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
}

// Lstat is fs.ReadLinkFS's.
func (f *Files) Lstat(name string) (fs.FileInfo, error) {
	if _, err := f.ReadLink(name); err == nil {
		return node{path.Base(name), fs.ModeSymlink | 0o777}, nil
	}
	return fs.Stat(struct{ fs.FS }{f}, name)
}

// A node is what is known of a file; sizes and times of /sys say nothing.
type node struct {
	name string
	mode fs.FileMode
}

func (n node) Name() string               { return n.name }
func (n node) Size() int64                { return 0 }
func (n node) Mode() fs.FileMode          { return n.mode }
func (n node) ModTime() time.Time         { return time.Time{} }
func (n node) IsDir() bool                { return n.mode.IsDir() }
func (n node) Sys() any                   { return nil }
func (n node) Stat() (fs.FileInfo, error) { return n, nil }
func (n node) Close() error               { return nil }

// An openFile asks for its content at the first read.
type openFile struct {
	node
	read func() (string, error)
	rest *strings.Reader
}

func (o *openFile) Read(p []byte) (int, error) {
	if o.rest == nil {
		text, err := o.read()
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: o.name, Err: err}
		}
		o.rest = strings.NewReader(text)
	}
	return o.rest.Read(p)
}

type openDir struct {
	node
	entries []fs.DirEntry
}

func (o *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: o.name, Err: fs.ErrInvalid}
}

func (o *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		all := o.entries
		o.entries = nil
		return all, nil
	}
	if len(o.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(o.entries))
	some := o.entries[:n]
	o.entries = o.entries[n:]
	return some, nil
}
