package lambda

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// maxLogFile bounds a function's log file, of which there is one more beside it.
const maxLogFile = 4 << 20

// Logs are files of what functions write, one for each and the one before it. They
// are not synced. Its methods may be called from several goroutines.
type Logs struct {
	dir string

	mu  sync.Mutex // guards all
	all map[string]*logFile
}

// NewLogs returns the logs in a folder.
func NewLogs(dir string) *Logs { return &Logs{dir: dir, all: map[string]*logFile{}} }

// Open returns where a function writes.
func (l *Logs) Open(function string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.all[function]
	if f == nil {
		f = &logFile{path: filepath.Join(l.dir, function+".log")}
		l.all[function] = f
	}
	return f
}

// Tail returns the last bytes of a function's log, at most n; fs.ErrNotExist for none.
func (l *Logs) Tail(function string, n int64) ([]byte, error) {
	path := filepath.Join(l.dir, function+".log")
	last, err := tail(path, n)
	if err != nil || int64(len(last)) == n {
		return last, err
	}
	before, err := tail(path+".1", n-int64(len(last)))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return append(before, last...), err
}

func tail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if extra := info.Size() - n; extra > 0 {
		if _, err := f.Seek(extra, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, n))
}

// Close closes the files.
func (l *Logs) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, f := range l.all {
		f.mu.Lock()
		errs = append(errs, f.close())
		f.mu.Unlock()
	}
	return errors.Join(errs...)
}

// A logFile is one function's.
type logFile struct {
	path string

	mu   sync.Mutex // guards what follows, and is held over writes
	file *os.File   // nil: not open
	size int64
}

// Write implements io.Writer.
func (f *logFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil && f.size+int64(len(b)) > maxLogFile {
		if err := errors.Join(f.close(), os.Rename(f.path, f.path+".1")); err != nil {
			return 0, err
		}
	}
	if f.file == nil {
		file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return 0, err
		}
		info, err := file.Stat()
		if err != nil {
			return 0, errors.Join(err, file.Close())
		}
		f.file, f.size = file, info.Size()
	}
	n, err := f.file.Write(b)
	f.size += int64(n)
	return n, err
}

func (f *logFile) close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}
