package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/agent/durable"
)

// A directory is a Target of files. An object is written beside its name, as
// NAME.RANDOM.new, synced, and linked to its name, which fails where there is one. A
// symbolic link in it is damage: none is followed.
type directory struct {
	path string
	pace *pace
}

// newSuffix is of files that are being written, or were when a writer was killed.
const newSuffix = ".new"

// String implements Target.
func (d *directory) String() string { return d.path }

// Put implements Target.
func (d *directory) Put(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("put %s: %w", filepath.Join(d.path, name), full(err))
		}
	}()
	if err := checkName(name); err != nil {
		return err
	}
	root, err := d.create(path.Dir(name))
	if err != nil {
		return err
	}
	defer root.Close()
	base := path.Base(name)
	if _, err := root.Lstat(base); err == nil {
		return ErrExists
	}
	temp := base + "." + randomHex(4) + newSuffix // another may put the same name
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, d.pace.reader(ctx, r))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came, want %d", n, size)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = settle(root, temp, base)
	}
	if err != nil {
		return errors.Join(err, ignoreGone(root.Remove(temp)))
	}
	return syncRoot(root)
}

// syncRoot makes what was created, renamed or removed in a folder durable, where its file
// system can.
func syncRoot(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	err = f.Sync()
	if unsyncable(err) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// unsyncable says whether err is a file system's answer that it syncs no folders: Linux says
// EINVAL then (fsync(2)), and shares of SMB one of the others.
func unsyncable(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOTTY) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOENT)
}

// settle gives the file temp its name, if that is free.
func settle(root *os.Root, temp, base string) error {
	err := root.Link(temp, base)
	if err == nil {
		return root.Remove(temp)
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	// A file system without hard links, such as FAT. The lock of the repository keeps
	// another writer away between the question and the renaming.
	if _, there := root.Lstat(base); there == nil {
		return ErrExists
	}
	return root.Rename(temp, base)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// create opens a folder of the target, and makes it if need be.
func (d *directory) create(folder string) (*os.Root, error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, err
	}
	// The folder itself may have been made just now. Those above it are the operator's.
	err := durable.SyncFolder(filepath.Dir(d.path))
	if err != nil && !errors.Is(err, fs.ErrPermission) && !unsyncable(err) {
		return nil, err
	}
	top, err := os.OpenRoot(d.path)
	if err != nil || folder == "." {
		return top, err
	}
	defer top.Close()
	switch err := top.Mkdir(folder, 0o700); {
	case err == nil:
		if err := syncRoot(top); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	return d.sub(top, folder)
}

// sub opens a folder of the target, which must be one and no link to one.
func (d *directory) sub(top *os.Root, folder string) (*os.Root, error) {
	info, err := top.Lstat(folder)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w: %v, want a folder", filepath.Join(d.path, folder), ErrDamaged, info.Mode())
	}
	return top.OpenRoot(folder)
}

// open opens a folder of the target; it is ErrNotFound that there is none.
func (d *directory) open(folder string) (*os.Root, error) {
	top, err := os.OpenRoot(d.path)
	if err == nil && folder != "." {
		defer top.Close()
		top, err = d.sub(top, folder)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return top, err
}

// Get implements Target.
func (d *directory) Get(ctx context.Context, name string, offset, length int64) (r io.ReadCloser, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("get %s: %w", filepath.Join(d.path, name), err)
		}
	}()
	if err := checkName(name); err != nil {
		return nil, err
	}
	root, err := d.open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	base := path.Base(name)
	info, err := root.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %v, want a file", ErrDamaged, info.Mode())
	}
	f, err := root.OpenFile(base, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if length < 0 {
		length = max(info.Size()-offset, 0)
	}
	return readCloser{d.pace.reader(ctx, io.NewSectionReader(f, offset, length)), f}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// List implements Target. Files that are being written are listed, too, under their
// names for the time.
func (d *directory) List(ctx context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		folders := []string{strings.TrimSuffix(folder, "/")}
		if folder == "" {
			folders = []string{".", strings.TrimSuffix(backupFolder, "/"), strings.TrimSuffix(lockFolder, "/"),
				strings.TrimSuffix(manifestFolder, "/"), strings.TrimSuffix(packFolder, "/")}
		}
		for _, folder := range folders {
			entries, err := d.list(ctx, folder)
			if err != nil {
				yield(Entry{}, fmt.Errorf("list %s: %w", filepath.Join(d.path, folder), err))
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func (d *directory) list(ctx context.Context, folder string) ([]Entry, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	root, err := d.open(folder)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, f := range files {
		name := path.Join(folder, f.Name())
		if f.IsDir() || checkName(name) != nil {
			continue // not ours
		}
		if !f.Type().IsRegular() {
			return nil, fmt.Errorf("%s: %w: %v, want a file", f.Name(), ErrDamaged, f.Type())
		}
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Name: name, Size: info.Size(), Modified: info.ModTime()})
	}
	return entries, nil
}

// Delete implements Target.
func (d *directory) Delete(_ context.Context, name string) error {
	err := checkName(name)
	var root *os.Root
	if err == nil {
		root, err = d.open(path.Dir(name))
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = errors.Join(ignoreGone(root.Remove(path.Base(name))), syncRoot(root), root.Close())
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}
