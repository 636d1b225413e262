package backup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// AttributesFile is the file of a backup that is in no data directory: what files and
// folders have beside their content, one Attributes a line in JSON. It is the last.
const AttributesFile = "backup/attributes"

// objectRecord is the extended attribute of an object's file, see FORMAT.md of package
// objects. It names the file's time in nanoseconds, without which it does not count.
const objectRecord = "user.tidemill.object"

// maxRecord bounds it, in bytes.
const maxRecord = 4 << 10

// Attributes are those of one file or folder.
type Attributes struct {
	Name   string      `json:"name"` // in the backup; a folder's has a slash at its end
	Mode   fs.FileMode `json:"mode"` // permissions
	Time   int64       `json:"time"` // of the last change, ns since 1970
	Record []byte      `json:"record,omitempty"`
}

func attributesOf(name, path string, info fs.FileInfo) (a Attributes, err error) {
	a = Attributes{Name: name, Mode: info.Mode().Perm(), Time: info.ModTime().UnixNano()}
	if info.IsDir() || part(name) != "objects" && part(name) != "s3_failed" {
		return a, nil
	}
	var buf [maxRecord]byte
	n, err := unix.Lgetxattr(path, objectRecord, buf[:])
	switch {
	case err == nil:
		a.Record = append(a.Record, buf[:n]...)
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ERANGE):
		// Without a record that counts it is an object, too.
	default:
		return a, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// Set gives the file or folder below dir that a is about what it had. A folder that is
// not there is made. Folders have to come after what is in them, for their time.
func (a Attributes) Set(dir string) error {
	if !filepath.IsLocal(filepath.FromSlash(strings.TrimSuffix(a.Name, "/"))) {
		return fmt.Errorf("backup: attributes of %q: not below the data directory", a.Name)
	}
	path := filepath.Join(dir, filepath.FromSlash(a.Name))
	if strings.HasSuffix(a.Name, "/") {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, a.Mode.Perm()); err != nil {
		return err
	}
	if len(a.Record) > 0 {
		if err := unix.Lsetxattr(path, objectRecord, a.Record, 0); err != nil {
			return fmt.Errorf("%s: setxattr: %w", path, err)
		}
	}
	return os.Chtimes(path, time.Time{}, time.Unix(0, a.Time))
}

// writeAttributes writes them, files before the folders that they are in.
func writeAttributes(w io.Writer, all []Attributes) error {
	enc := json.NewEncoder(w)
	for i := len(all) - 1; i >= 0; i-- { // a walk tells of a folder before it does so of what is in it
		if err := enc.Encode(all[i]); err != nil {
			return err
		}
	}
	return nil
}

// maxLine bounds a line of AttributesFile: a name of 4,096 bytes, each escaped, and a
// record in base64.
const maxLine = 64 << 10

// ReadAttributes calls f for each line of AttributesFile, in order.
func ReadAttributes(r io.Reader, f func(Attributes) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var a Attributes
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return fmt.Errorf("backup: %s: %w", AttributesFile, err)
		}
		if err := f(a); err != nil {
			return err
		}
	}
	return lines.Err()
}
