package spool

import (
	"fmt"
	"io"

	"github.com/tidemill/tidemill/shadow/boltfile"
)

var (
	errDamaged = boltfile.ErrDamaged
	errPanic   = fmt.Errorf("%w: panic", errDamaged) // inside of bbolt
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// check returns errDamaged, or nil when bbolt can use the file. lastLost says
// that only one meta page is good, so that bbolt falls back to the commit
// before, if the other was the newer. It costs one pass over what the spool
// holds.
func check(in io.ReaderAt, size int64) (lastLost bool, err error) {
	info, err := boltfile.Check(in, size, 1) // buckets in the root only
	if err == nil && info.PageSize != pageSize {
		err = damaged("page size %d, want %d", info.PageSize, pageSize)
	}
	return info.OneMeta, err
}
