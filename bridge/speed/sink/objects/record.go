package objects

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// attribute is the extended attribute that has a record.
	attribute = "user.tidemill.object"
	// maxRecord is what ext4 with blocks of 4 KiB takes beside its own (an inode's
	// attributes have one block, less 32 bytes and the name).
	maxRecord = 3800
)

// Attributes are what an object has beside its content.
type Attributes struct {
	Headers map[string]string // of the answer to a GET, "Content-Type", by their names
	User    map[string]string // x-amz-meta-*, without that and in lower case
}

// Info is what is known of an object without its content.
type Info struct {
	Key      string
	Size     int64
	ETag     string // without quotes
	Modified time.Time
	Sums     map[Algorithm]string // in base64
	Attributes
	// Kept says whether the store wrote the object and nobody else since.
	// Otherwise there is no more to it than the file has: the ETag stands for its
	// inode, size and time.
	Kept     bool
	Parts    int    // that it was made of; 0: put as a whole
	PartSize int64  // of all parts but the last, which is no larger; 0: they differ
	upload   string // that made it
}

// record is Info in the extended attribute.
type record struct {
	Size     int64                `json:"size"`
	Modified int64                `json:"time"` // of the file, ns since 1970
	ETag     string               `json:"etag"`
	Sums     map[Algorithm]string `json:"sums,omitempty"`
	Headers  map[string]string    `json:"headers,omitempty"`
	User     map[string]string    `json:"user,omitempty"`
	Parts    int                  `json:"parts,omitempty"`
	PartSize int64                `json:"part_size,omitempty"`
	Upload   string               `json:"upload,omitempty"`
}

var errRecord = errors.New("the record of the object is damaged")

// encode is "1 CRC-32C JSON".
func (r *record) encode() ([]byte, error) {
	doc, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(nil, "1 %08x ", crc32.Checksum(doc, castagnoli))
	if b = append(b, doc...); len(b) > maxRecord {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrAttributes, len(b), maxRecord)
	}
	return b, nil
}

func decodeRecord(b []byte) (*record, error) {
	head, rest, ok := bytes.Cut(b, []byte(" "))
	sum, doc, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || string(head) != "1" {
		return nil, errRecord
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || len(sum) != 8 || uint32(want) != crc32.Checksum(doc, castagnoli) {
		return nil, errRecord
	}
	r := &record{}
	if err := json.Unmarshal(doc, r); err != nil {
		return nil, errRecord
	}
	return r, nil
}

// setRecord gives r to the open file f, whose size and time it takes.
func setRecord(f *os.File, r *record) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	r.Size, r.Modified = st.Size(), st.ModTime().UnixNano()
	b, err := r.encode()
	if err != nil {
		return err
	}
	if err := unix.Fsetxattr(int(f.Fd()), attribute, b, 0); err != nil {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			return ErrNoAttributes
		}
		return fmt.Errorf("fsetxattr: %w", err)
	}
	return nil
}

// getRecord reads the record of the open file f; nil for none.
func getRecord(f *os.File) (*record, error) {
	var buf [maxRecord + 1]byte
	n, err := unix.Fgetxattr(int(f.Fd()), attribute, buf[:])
	switch {
	case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case errors.Is(err, unix.ERANGE):
		return nil, errRecord
	case err != nil:
		return nil, fmt.Errorf("fgetxattr: %w", err)
	}
	return decodeRecord(buf[:n])
}

// infoOf is what is known of the open file f, which is key's. A record that is
// of another content than the file's now, or damaged, does not count; Verify
// tells of that.
func infoOf(f *os.File, key string) (Info, error) {
	st, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	i := Info{Key: key, Size: st.Size(), Modified: st.ModTime()}
	r, err := getRecord(f)
	if err != nil && !errors.Is(err, errRecord) {
		return Info{}, err
	}
	if r == nil || r.Size != i.Size || r.Modified != i.Modified.UnixNano() {
		i.ETag = tagOf(st)
		return i, nil
	}
	i.ETag, i.Sums, i.Kept, i.Parts, i.upload = r.ETag, r.Sums, true, r.Parts, r.Upload
	i.Headers, i.User, i.PartSize = r.Headers, r.User, r.PartSize
	return i, nil
}

// tagOf is the ETag of a file without a record. It ends as no MD5 does, so that
// no client takes it for one.
func tagOf(st os.FileInfo) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(st.Size()))
	b = binary.BigEndian.AppendUint64(b, uint64(st.ModTime().UnixNano()))
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		b = binary.BigEndian.AppendUint64(b, sys.Ino)
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x-0", sum[:16])
}
