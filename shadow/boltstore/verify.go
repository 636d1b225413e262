package boltstore

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"syscall"

	"github.com/tidemill/tidemill/shadow/boltfile"
)

// nesting is how deep our buckets lie: shadow-device/thing/name.
const nesting = 2

// verify returns boltfile.ErrDamaged when bbolt cannot use the file at path. A
// file that is not there or empty is sound, and one that another process has
// open is not looked at. The whole file is read, a device's being some hundred
// KB.
func verify(path string, log *slog.Logger) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // and with it the lock
	// Somebody else's commit must not look like damage. bbolt takes the same
	// lock, so it will wait for them, or say that it could not.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	found, err := boltfile.Check(f, info.Size(), nesting)
	if err == nil && found.OneMeta {
		log.Warn("one of two meta pages is damaged: the last shadow that was written may be lost", "path", path)
	}
	return err
}
