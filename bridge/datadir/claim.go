package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/hal/secretfile"
)

// claimWait is for a command that works on the directory just now.
const claimWait = time.Second

// claim makes the data directory, if it is not there, and holds it for this
// process until release is called or the process dies. A directory that
// another process holds for longer than claimWait, or that others may write
// to, is an error.
func claim(dir string) (release func() error, err error) {
	if err := folder(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := secretfile.Folder(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return lock(dir, f)
}

const lockFile = "lock"

// Free returns an error if dir is no folder or another process holds it for longer
// than claimWait. It makes nothing; one that is not there is free.
func Free(dir string) error {
	err := folder(dir)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			var release func() error
			if release, err = lock(dir, f); err == nil {
				err = release()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// folder returns an error if something else than a folder is at the path dir or
// above it.
func folder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, syscall.ENOTDIR), err == nil && !info.IsDir():
		return fmt.Errorf("%s is, or is in, a file: name a folder, which need not be there", dir)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// lock waits for the lock of dir in f, for claimWait at most; release closes f.
func lock(dir string, f *os.File) (release func() error, err error) {
	for by := time.Now().Add(claimWait); ; time.Sleep(20 * time.Millisecond) {
		ok, err := TryLock(f)
		switch {
		case err != nil:
			return nil, errors.Join(err, f.Close())
		case ok:
			return f.Close, nil
		case time.Now().After(by):
			err = fmt.Errorf("%s: another tidemill-bridge uses it; a data directory is for one", dir)
			return nil, errors.Join(err, f.Close())
		}
	}
}

// TryLock takes the lock of an open file, which closing it gives back, and says
// whether it has it: another one may.
func TryLock(f *os.File) (ok bool, err error) {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// InUse says whether a program holds the lock of dir.
func InUse(dir string) bool {
	_, ok, err := Hold(dir)
	return err == nil && !ok
}

// Hold takes the lock of a data directory for what is done while no bridge runs, and
// says whether it has it. It makes nothing.
func Hold(dir string) (release func() error, ok bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, false, err
	}
	if ok, err = TryLock(f); !ok {
		return nil, false, errors.Join(err, f.Close())
	}
	return f.Close, true, nil
}

// IDOf reads the identity of a data directory.
func IDOf(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, identityFile))
	var is identity
	if err == nil {
		err = json.Unmarshal(raw, &is)
	}
	return is.ID, err
}

// Private makes a folder that only its owner may look into, or makes one so.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}
