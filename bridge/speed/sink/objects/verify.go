package objects

import (
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Verify reads all objects and parts of the store in dir, which nobody changes
// meanwhile, and tells lost of those whose content has not the checksum that was
// kept of it, or whose record is damaged. read hears of bytes that were read.
// A file that somebody else wrote has no such checksum; a *.gz is unpacked then,
// so that its own is checked. The error is of the folder itself.
func Verify(dir string, read func(int), lost func(error)) error {
	return each(dir, lost, func(path string) error { return verifyFile(path, io.Discard, read) })
}

// Salvage is Verify, and copies what is sound into the folder to, with what is
// known of it.
func Salvage(dir, to string, read func(int), lost func(error)) error {
	return each(dir, lost, func(path string) error {
		into := filepath.Join(to, strings.TrimPrefix(path, dir))
		if err := os.MkdirAll(filepath.Dir(into), 0o700); err != nil {
			return err
		}
		return copyFile(path, into, read)
	})
}

// each calls f for all files below dir but those that are half written, and lost
// with its error.
func each(dir string, lost func(error), f func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			lost(err)
			return nil
		case e.IsDir() && path == filepath.Join(dir, tmp):
			return fs.SkipDir
		case !e.Type().IsRegular():
			return nil
		}
		if err := f(path); err != nil {
			lost(fmt.Errorf("%s: %w", path, err))
		}
		return nil
	})
}

// verifyFile copies a file to w, and says what is wrong with it.
func verifyFile(path string, w io.Writer, read func(int)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	sum := crc64.New(nvme)
	if _, err := io.Copy(io.MultiWriter(w, sum, reader(read)), f); err != nil {
		return err
	}
	r, err := getRecord(f)
	switch {
	case err != nil:
		return err
	case r != nil && r.Modified == st.ModTime().UnixNano(): // nobody wrote it since
		return verifySum(r, st, sum)
	case strings.HasSuffix(path, ".gz"):
		return verifyGzip(f)
	}
	return nil
}

func verifyGzip(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(f)
	if err == nil {
		_, err = io.Copy(io.Discard, z)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the file ends too early")
	}
	return err
}

func verifySum(r *record, st os.FileInfo, sum hash.Hash) error {
	if r.Size != st.Size() {
		return fmt.Errorf("the file has %d bytes, the object had %d", st.Size(), r.Size)
	}
	if want := r.Sums[CRC64NVME]; want != "" && want != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
		return errors.New("the content is damaged: it has another checksum than when it was stored")
	}
	return nil
}

// reader tells of bytes.
type reader func(int)

func (r reader) Write(p []byte) (int, error) { r(len(p)); return len(p), nil }

// copyFile copies a sound file with its time and record.
func copyFile(from, to string, read func(int)) (err error) {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	if err := verifyFile(from, out, read); err != nil {
		return err
	}
	if err := copyRecord(from, to); err != nil {
		return err
	}
	return out.Sync()
}

func copyRecord(from, to string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.Chtimes(to, time.Time{}, st.ModTime()); err != nil {
		return err
	}
	var buf [maxRecord + 1]byte
	n, err := unix.Getxattr(from, attribute, buf[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err == nil {
		err = unix.Setxattr(to, attribute, buf[:n], 0)
	}
	return err
}
