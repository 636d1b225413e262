package sink

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// tmp is the folder, beside the buckets, in which objects are written before
// they are renamed into place. Its name is no valid bucket.
const tmp = ".tmp"

// maxKey is S3's limit, bytes of UTF-8 (S3 user guide, object keys).
const maxKey = 1024

// A Dir keeps objects as files: DIR/bucket/key. Keys whose slashes do not make
// a plain relative path (empty, "." or ".." elements) are refused with
// ErrName, as is a key that is also the folder of another. Safe for several
// goroutines.
type Dir struct {
	path string
	root *os.Root
	sync func(folder string) error // fsync

	mu    sync.Mutex
	known map[string]bool // folders whose entry in their parent is synced
}

// maxKnown bounds Dir.known; beyond it folders are synced once more.
const maxKnown = 4096

// OpenDir opens, or makes, the directory at path and clears out what a crash
// left half written.
func OpenDir(dir string) (*Dir, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	if err := errors.Join(root.RemoveAll(tmp), root.Mkdir(tmp, 0o750)); err != nil {
		return nil, errors.Join(fmt.Errorf("objects %s: %w", dir, err), root.Close())
	}
	d := &Dir{path: dir, root: root, known: map[string]bool{}}
	d.sync = d.syncFolder
	return d, nil
}

// makeDir makes dir and syncs the folder above each level that was missing.
func makeDir(dir string) error {
	var above []string
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		above = append(above, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, a := range above {
		f, err := os.Open(a)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Path returns the directory.
func (d *Dir) Path() string { return d.path }

// Close lets go of the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Put implements Objects: write beside, sync, rename, sync the folder.
func (d *Dir) Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error {
	if err := CheckBucket(bucket); err != nil {
		return err
	}
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	beside := path.Join(tmp, rand.Text())
	if err := d.writeSynced(beside, write); err != nil {
		return errors.Join(fmt.Errorf("object %s/%s: %w", bucket, key, err), d.drop(beside))
	}
	name := path.Join(bucket, key)
	if err := d.place(beside, name); err != nil {
		return errors.Join(fmt.Errorf("object %s/%s: %w", bucket, key, err), d.drop(beside))
	}
	return nil
}

// Get implements Getter.
func (d *Dir) Get(ctx context.Context, bucket, key string, most int) (data []byte, tag string, err error) {
	if err := errors.Join(CheckBucket(bucket), CheckKey(key)); err != nil {
		return nil, "", err
	}
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if data, err = d.read(path.Join(bucket, key), most); err != nil {
		return nil, "", fmt.Errorf("object %s/%s: %w", bucket, key, err)
	}
	return data, fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

func (d *Dir) read(name string, most int) ([]byte, error) {
	// Not to wait where somebody has put a pipe.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, ErrNotFound
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return data, err
}

func (d *Dir) drop(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *Dir) writeSynced(name string, write func(io.Writer) error) error {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if err := write(w); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := w.Flush(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// place renames from to name, making the folders on the way and syncing each
// that has an entry which may not be on disk.
func (d *Dir) place(from, name string) error {
	folder := path.Dir(name)
	if err := d.mkdirs(folder); err != nil {
		return err
	}
	if info, err := d.root.Lstat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%w: it is the folder of other keys", ErrName)
	}
	if err := d.root.Rename(from, name); err != nil {
		return err
	}
	return d.sync(folder)
}

// mkdirs makes folder. A folder that is there already may have been made a
// moment ago by another Put, or by one that failed, or before a crash, and not
// be on disk yet: so the first Put into each syncs its parent too.
func (d *Dir) mkdirs(folder string) error {
	parent := "."
	for _, el := range strings.Split(folder, "/") {
		full := path.Join(parent, el)
		made := false
		switch err := d.root.Mkdir(full, 0o750); {
		case err == nil:
			made = true
		case errors.Is(err, fs.ErrExist):
			info, err := d.root.Stat(full)
			if err != nil {
				return err
			}
			if !info.IsDir() {
				return fmt.Errorf("%w: %s is an object, not a folder", ErrName, full)
			}
		default:
			return err
		}
		d.mu.Lock()
		if made {
			delete(d.known, full)
		}
		known := d.known[full]
		d.mu.Unlock()
		if !known {
			if err := d.sync(parent); err != nil {
				return err
			}
			d.mu.Lock()
			if len(d.known) >= maxKnown {
				clear(d.known)
			}
			d.known[full] = true
			d.mu.Unlock()
		}
		parent = full
	}
	return nil
}

func (d *Dir) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// CheckKey says whether a Dir can store an object under key.
func CheckKey(key string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("%w: key of %d bytes: want 1 to %d", ErrName, len(key), maxKey)
	case strings.ContainsRune(key, 0):
		return fmt.Errorf("%w: key %q holds a zero byte", ErrName, key)
	}
	for _, el := range strings.Split(key, "/") {
		if el == "" || el == "." || el == ".." || len(el) > 255 {
			return fmt.Errorf("%w: key %q: %q cannot be a file's name", ErrName, key, el)
		}
	}
	return nil
}
