package hal

import "io/fs"

// A FileSource is a Board that has files of its own in place of the machine's /sys
// and /dev, as a simulated one does. Paths begin with "sys" or "dev".
type FileSource interface {
	Files() fs.FS
}
