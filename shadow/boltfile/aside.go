package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Keep is how many files set aside are kept beside each file. Our choice: one
// to look at and one before it, without filling a card that fails again and
// again.
const Keep = 2

// SetAside renames the damaged file at path to path.corrupt-<time>, so that a
// new one can be made, logs it as an error with its cause, and removes the
// oldest of those set aside before beyond Keep. A file that is no longer there
// is no error.
func SetAside(path string, cause error, log *slog.Logger) error {
	to := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(path, to); errors.Is(err, fs.ErrNotExist) {
		return nil // done before, when no new one could be made
	} else if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	log.Error("file is damaged: it is set aside, and a new one takes its place", "path", path, "aside", to, "err",
		cause)
	dir := filepath.Dir(path)
	if d, err := os.Open(dir); err == nil {
		// Best effort: after a crash now the damage is found again.
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			log.Warn("folder not synced", "path", dir, "err", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Warn("old damaged files not looked for", "path", dir, "err", err)
		return nil
	}
	var names []string
	for _, e := range entries {
		if ok, _ := filepath.Match(filepath.Base(path)+".corrupt-*", e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, n := range names[:max(0, len(names)-Keep)] {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			log.Warn("old damaged file not removed", "path", n, "err", err)
		}
	}
	return nil
}
