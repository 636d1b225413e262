package store

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

const (
	// MaxZip bounds a package that is sent, and maxUnpacked what is in it: 50 MB and
	// 250 MB (Lambda quotas).
	MaxZip      = 50 << 20
	maxUnpacked = 250 << 20
	// maxFiles bounds the files of a package, and these and the folders that they lie
	// in, which cost more than their bytes. It is ours.
	maxFiles = 50_000
	// maxPath and maxSegment bound a file's name and each part of it, in bytes, so that
	// it can be made: PATH_MAX, with the folder that it is in, is four times as much,
	// and NAME_MAX is 255. maxDepth bounds the parts, each of which is a folder to make
	// and to remove. maxPath and maxDepth are ours.
	maxPath    = 1024
	maxSegment = 255
	maxDepth   = 64
	// maxLink bounds a link's text, in bytes: PATH_MAX.
	maxLink = 4096
)

// contents reads the directory of a package and returns an error if it cannot be a
// function's: too large, names that lead out of it, are too long or too deep, or files
// of other kinds than files, folders and links within it.
func contents(data []byte) (*zip.Reader, error) {
	if len(data) > MaxZip {
		return nil, fmt.Errorf("%w: the package has %d bytes, want at most %d", ErrInvalid, len(data), MaxZip)
	}
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, fmt.Errorf("%w: Could not unzip uploaded file: %w", ErrInvalid, err)
	}
	if len(r.File) > maxFiles {
		return nil, fmt.Errorf("%w: the package has %d files, want at most %d", ErrInvalid, len(r.File), maxFiles)
	}
	total, folders := uint64(0), map[string]bool{}
	for _, f := range r.File {
		if total += f.UncompressedSize64; f.UncompressedSize64 > maxUnpacked || total > maxUnpacked {
			return nil, fmt.Errorf("%w: Unzipped size must be smaller than %d bytes", ErrInvalid, maxUnpacked)
		}
		name := strings.TrimSuffix(f.Name, "/")
		if !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
			return nil, fmt.Errorf("%w: the package has a file named %.100q, which leads out of it", ErrInvalid, f.Name)
		}
		if err := bounded(name); err != nil {
			return nil, err
		}
		for in := path.Dir(name); in != "." && !folders[in]; in = path.Dir(in) {
			folders[in] = true
		}
		if n := len(r.File) + len(folders); n > maxFiles {
			return nil, fmt.Errorf("%w: the package has %d files and folders or more, want at most %d", ErrInvalid, n,
				maxFiles)
		}
		switch f.Mode().Type() {
		case 0, fs.ModeDir:
		case fs.ModeSymlink:
			if f.UncompressedSize64 > maxLink {
				return nil, fmt.Errorf("%w: the link %.100q has %d bytes", ErrInvalid, f.Name, f.UncompressedSize64)
			}
		default:
			return nil, fmt.Errorf("%w: %.100q is neither a file, a folder nor a link", ErrInvalid, f.Name)
		}
	}
	return r, nil
}

// bounded returns an error for a name that is too long or too deep.
func bounded(name string) error {
	if len(name) > maxPath {
		return fmt.Errorf("%w: the package has a file named %.100q..., whose name has %d bytes, want at most %d",
			ErrInvalid, name, len(name), maxPath)
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxSegment {
			return fmt.Errorf("%w: the package has a file or folder named %.100q..., of %d bytes, want at most %d",
				ErrInvalid, part, len(part), maxSegment)
		}
		depth++
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: the package has a file named %.100q, which lies %d deep, want at most %d", ErrInvalid,
			name, depth, maxDepth)
	}
	return nil
}

// unpack writes a package's files into a folder, which is empty. Everybody may read
// them, and run those that have an x bit for anybody.
func unpack(r *zip.Reader, dir string) error {
	root, err := os.OpenRoot(dir) // refuses what leads out by a link
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	for _, f := range r.File {
		name := strings.TrimSuffix(f.Name, "/")
		if f.Mode().IsDir() {
			if err := root.MkdirAll(name, 0o755); err != nil {
				return fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			continue
		}
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		n, err := writeFile(root, f, name, left)
		if err != nil {
			return fmt.Errorf("%w: %.100q: %w", ErrInvalid, f.Name, err)
		}
		left -= n
	}
	return nil
}

func writeFile(root *os.Root, f *zip.File, name string, left int64) (n int64, err error) {
	in, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	if f.Mode().Type() == fs.ModeSymlink {
		to, err := io.ReadAll(io.LimitReader(in, maxLink+1))
		if err != nil {
			return 0, err
		}
		target := string(to)
		if path.IsAbs(target) || target == "" || len(target) > maxLink || strings.ContainsRune(target, 0) ||
			!fs.ValidPath(path.Join(path.Dir(name), target)) {
			return 0, fmt.Errorf("a link to %.100q, which is not in the package", target)
		}
		return int64(len(target)), root.Symlink(target, name)
	}
	mode := fs.FileMode(0o444)
	if f.Mode()&0o111 != 0 {
		mode = 0o555
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, io.LimitReader(in, left+1))
	if n > left {
		err = errors.Join(err, errors.New("it is larger than it says"))
	}
	return n, errors.Join(err, out.Chmod(mode), out.Close())
}
