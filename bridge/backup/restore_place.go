package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/disk"
)

// vacant refuses a data directory in which something is.
func vacant(dir string) error {
	if is, err := os.Lstat(dir); err == nil && !is.IsDir() {
		return unfit("%s is no folder, or a link to one: name the folder itself", dir)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(dir)
		if _, err := os.Stat(parent); err != nil {
			return unfit("%s, in which %s is to be, is not there: make it first", parent, filepath.Base(dir))
		}
		return nil
	case err != nil:
		return unfit("%w", err)
	case mounted(dir): // with lost+found in it, or empty
		return unfit("%w", mountPoint(dir))
	case len(entries) == 0:
		return nil
	case slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == stageFile }):
		return unfit("%s was restored by an earlier run: start the bridge over it", dir)
	}
	if datadir.InUse(dir) {
		return unfit("a bridge runs with %s: stop it, and move the directory away, or name another by -data", dir)
	}
	return unfit("%s is not empty: move it away, or name another by -data", dir)
}

// mounted says whether a folder is on another file system than the one that it is in. A
// folder of the same one that is mounted there is told by the attempt to replace it.
func mounted(dir string) bool {
	var in, above syscall.Stat_t
	err := errors.Join(syscall.Stat(dir, &in), syscall.Stat(filepath.Dir(dir), &above))
	return err == nil && in.Dev != above.Dev
}

// handOver makes the staged folder the data directory.
func (r *restore) handOver(st *stage) error {
	owner, err := os.Stat(r.Dir)
	if err == nil && os.Geteuid() == 0 {
		if err := give(r.staging, owner); err != nil {
			return err
		}
	}
	if err := durable.SyncFolder(r.staging); err != nil {
		return err
	}
	// Not os.Rename, which takes the place of no folder, be it empty.
	if err := syscall.Rename(r.staging, r.Dir); err != nil {
		if errors.Is(err, syscall.EBUSY) {
			return mountPoint(r.Dir)
		}
		return fmt.Errorf("rename %s to %s: %w", r.staging, r.Dir, err)
	}
	// The file goes once the renaming is on the disk: a folder without it is none that the
	// next run would go on from. A kill before that leaves it to the next start.
	if err := errors.Join(durable.SyncFolder(filepath.Dir(r.Dir)), st.remove(r.Dir)); err != nil {
		return fmt.Errorf("%s is whole, but that may not be on the disk: %w", r.Dir, err)
	}
	return durable.SyncFolder(r.Dir)
}

// mountPoint says what to do about one.
func mountPoint(dir string) error {
	return fmt.Errorf("%s is a mount point, which cannot be replaced: restore into a folder in it, and set data_dir "+
		"to that", dir)
}

// give makes all in dir belong to the owner of a folder.
func give(dir string, owner fs.FileInfo) error {
	st, ok := owner.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(st.Uid), int(st.Gid))
	})
}

// Room that a restore leaves: the bridge starts with mqtt and log needing some.
const spare = 256 << 20

// room returns an error if the file system of dir has no room for so many bytes in files.
func room(dir string, bytes int64, files int) error {
	free, _, err := disk.Free(dir)
	if err != nil {
		return unfit("%s: %w", dir, err)
	}
	need := bytes + int64(files)*4096 + spare // the last block of each file
	if free < need {
		return unfit("%s has %s free, the backup needs %s: make room, or restore into another file system by -data",
			dir, disk.Text(free), disk.Text(need))
	}
	return nil
}

// claim has this run of a restore, and the one that goes on from its folder, be who goes
// on from a move's last backup. A later restore of it, even to the same place, is another:
// the bridge may have run meanwhile.
func (r *restore) claim(ctx context.Context, st *stage) error {
	if st.is.Claim == "" {
		st.is.Claim = rand.Text()
		if err := st.enter(finishing); err != nil {
			return err
		}
	}
	host, _ := os.Hostname() // "" tells less
	err := ClaimMove(ctx, r.Target, r.out.Info.ID, MovedTo(host, r.Dir)+", "+st.is.Claim)
	if errors.Is(err, ErrClaimed) {
		err = fmt.Errorf("%w; restore takes the backup all the same: it leaves out numbers that were given since and "+
			"holds what waits", err)
	}
	return err
}

// ours refuses a folder that somebody else has put there or may change: all keys of the
// bridge would go where that leads. One that was handed over to the owner of the data
// directory, and did not get its name, is taken back; it begins anew.
func ours(path string, dry bool) (anew bool, err error) {
	is, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, unfit("%w", err)
	}
	owner := func(f fs.FileInfo) int {
		if st, ok := f.Sys().(*syscall.Stat_t); ok {
			return int(st.Uid)
		}
		return os.Geteuid()
	}
	if is.IsDir() && is.Mode().Perm()&0o022 == 0 {
		if owner(is) == os.Geteuid() {
			return false, nil
		}
		dir, err := os.Lstat(strings.TrimSuffix(path, Staging))
		if os.Geteuid() == 0 && err == nil && owner(dir) == owner(is) {
			if dry {
				return true, nil
			}
			return true, os.Lchown(path, 0, 0)
		}
	}
	return false, unfit("%s is a link, belongs to another user, or others may write to it: remove it", path)
}
