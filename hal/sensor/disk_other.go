//go:build !linux

package sensor

import "errors"

func DiskSpace(string) (used, free int64, err error) { return 0, 0, errors.ErrUnsupported }
