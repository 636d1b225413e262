package sensor

import (
	"math"

	"golang.org/x/sys/unix"
)

// DiskSpace returns the bytes used and the bytes free for users without
// privileges of the file system that path is in.
func DiskSpace(path string) (used, free int64, err error) {
	var s unix.Statfs_t
	for {
		if err = unix.Statfs(path, &s); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, err
	}
	// The fields' types differ between architectures.
	size := float64(s.Bsize)
	return bytesOf(float64(s.Blocks-s.Bfree) * size), bytesOf(float64(s.Bavail) * size), nil
}

// bytesOf keeps a product within int64. Block counts and sizes are far below
// 2^53 in a file system that exists.
func bytesOf(f float64) int64 { return int64(min(max(f, 0), math.MaxInt64/2)) }
