package device

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/hal/sensor"
)

// DiskStatus is the file system that data_dir is on.
type DiskStatus struct {
	Path   string `json:"path"`             // data_dir
	Device string `json:"device,omitempty"` // such as /dev/mmcblk0p2
	Mount  string `json:"mount,omitempty"`  // where it is mounted
	Free   int64  `json:"free_bytes"`       // for users without privileges
}

// disk looks at the file system of path. What the system does not tell is left
// empty.
func disk(path string) DiskStatus {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	d := DiskStatus{Path: path}
	_, d.Free, _ = sensor.DiskSpace(path)
	mounts, _ := os.ReadFile("/proc/self/mounts") // proc_pid_mounts(5); of later mounts on one place the last counts
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[1])
		if len(at) >= len(d.Mount) && (at == "/" || path == at || strings.HasPrefix(path, at+"/")) {
			d.Device, d.Mount = f[0], at
		}
	}
	return d
}
