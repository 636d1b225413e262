package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tidemill/tidemill/shadow/boltfile"
)

// renewed is the name's end of a new file until it takes the damaged one's place.
const renewed = ".renewed"

// replace makes a new file, which takes the place of the damaged one at path when
// it is complete; that one is set aside.
func replace(path string, cause error, o Options) (*Store, error) {
	to := path + renewed
	s, err := open(to, o)
	if errors.Is(err, syscall.ENOSPC) {
		_ = os.Remove(to)
		return overwrite(path, cause, o)
	}
	if err != nil {
		return nil, err
	}
	err = boltfile.SetAside(path, cause, o.Log)
	if err == nil {
		err = os.Rename(to, path)
	}
	if err == nil {
		err = syncFolder(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("boltstore: %w", err), s.Close())
	}
	return s, nil
}

// overwrite removes the damaged file, for there is no room to keep it.
func overwrite(path string, cause error, o Options) (*Store, error) {
	o.Log.Error("file is damaged: a new one takes its place, and there is no room to keep it", "path", path, "err",
		cause)
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("boltstore: %w", err)
	}
	return open(path, o)
}

func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
