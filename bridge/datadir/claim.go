package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/secretfile"
)

// claimWait is for a command that works on the directory just now.
const claimWait = time.Second

// claim makes the data directory, if it is not there, and holds it for this
// process until release is called or the process dies. A directory that
// another process holds for longer than claimWait, or that others may write
// to, is an error.
func claim(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := secretfile.Folder(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for by := time.Now().Add(claimWait); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f.Close, nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		case time.Now().After(by):
			return nil, errors.Join(fmt.Errorf("%s: another tidemill-bridge uses it", dir), f.Close())
		}
	}
}

// Private makes a folder that only its owner may look into, or makes one so.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}
