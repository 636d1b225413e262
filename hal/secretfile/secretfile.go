// Package secretfile reads files that hold secrets, for both programs: private
// keys, passwords, access keys. It imports nothing else of ours. A file is refused
// that others can read or write, or that belongs to somebody else than who reads it
// or root; and so is one on a way on which others can put another in its place: each
// folder from the root on has such an owner and is nobody else's to write to, but for
// those above the file's whose sticky bit lets nobody move what is another's, such
// as /tmp. So is a symbolic link, which may lead to where the one who reads it may
// and the one who made it may not; on the way, those that root made in folders of
// root are the system's, such as /var/run. What is refused says the command that
// mends it.
package secretfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrExposed is in the chain of every error about a file or folder that others
// can get at.
var ErrExposed = errors.New("others can get at what is private")

// maxSize is far above any secret's.
const maxSize = 1 << 20

// maxLinks is how many a way may have, as of the kernel.
const maxLinks = 40

// A reader is a user, and who else's files and folders are to be trusted. Root is 0
// but in tests.
type reader struct{ uid, root, owner uint32 }

func me() reader {
	uid := uint32(os.Geteuid())
	return reader{uid: uid, owner: uid}
}

// forOwnerOf is the reader as who works for a file's or folder's owner, if he is root.
func (r reader) forOwnerOf(path string) reader {
	if info, err := os.Stat(path); err == nil && r.uid == r.root {
		r.owner = ownerOf(info)
	}
	return r
}

func (r reader) trusts(uid uint32) bool { return uid == r.uid || uid == r.root || uid == r.owner }

func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// Read returns what is in a file with a secret, at most 1 MiB.
func Read(path string) ([]byte, error) { return me().read(path) }

// ReadConfig is Read for a file that root may read for the user it belongs to: a
// program's configuration, when a command is given to the program.
func ReadConfig(path string) ([]byte, error) { return me().forOwnerOf(path).read(path) }

func (r reader) read(path string) ([]byte, error) {
	dir, err := r.folder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	// Opened as it is, where the way to it was looked at, so that what is checked
	// is what is read.
	f, err := os.OpenFile(filepath.Join(dir, filepath.Base(path)), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link: name the file itself, or put it there", ErrExposed, path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s: mode %04o lets others read or write it, run: chmod 600 %s", ErrExposed, path,
			mode, quoted(path))
	}
	if uid := ownerOf(info); !r.trusts(uid) {
		return nil, fmt.Errorf("%w: %s belongs to user %d, run: chown %d %s", ErrExposed, path, uid, r.uid,
			quoted(path))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("%s: more than %d bytes", path, maxSize)
	}
	return text, err
}

// Line returns the first line of a file that Read lets through, such as a password.
// It is not empty.
func Line(path string) (string, error) {
	text, err := Read(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("the first line of %s is empty", path)
	}
	return line, nil
}

// KeyPair is tls.LoadX509KeyPair with a private key that Read lets through.
func KeyPair(certificate, key string) (tls.Certificate, error) {
	private, err := Read(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	public, err := os.ReadFile(certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(public, private)
}

// Folder refuses a folder in which others can put their files in the place of
// what is there, or another folder in its place. They may look into it: its files
// are their owner's. Root may work in that of another user.
func Folder(path string) error {
	_, err := me().forOwnerOf(path).folder(path)
	return err
}

// folder is Folder, and returns the way without symbolic links.
func (r reader) folder(path string) (at string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return "", err
	}
	at = "/"
	info, err := os.Lstat(at)
	if err != nil {
		return "", err
	}
	if err := r.safe(at, info); err != nil {
		return "", err
	}
	way, links := strings.Split(path, "/"), 0
	for len(way) > 0 {
		name := way[0]
		way = way[1:]
		next := filepath.Join(at, name) // ".." of a link's target, too: at has none
		from := info
		if info, err = os.Lstat(next); err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := r.safe(next, info); err != nil {
				return "", err
			}
			at = next
			continue
		}
		if links++; links > maxLinks || ownerOf(info) != r.root || ownerOf(from) != r.root {
			return "", fmt.Errorf("%w: folder %s is a symbolic link: name the folder that it leads to", ErrExposed,
				next)
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if info = from; filepath.IsAbs(to) {
			at = "/"
			if info, err = os.Lstat(at); err != nil {
				return "", err
			}
		}
		way = append(strings.Split(to, "/"), way...)
	}
	return at, writable(at, info)
}

// safe refuses a folder that others can change. One with a sticky bit lets them
// add to it alone.
func (r reader) safe(path string, info fs.FileInfo) error {
	if uid := ownerOf(info); !r.trusts(uid) {
		return fmt.Errorf("%w: folder %s belongs to user %d, who can put another file in its place, run: chown %d %s",
			ErrExposed, path, uid, r.uid, quoted(path))
	}
	if info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	return writable(path, info)
}

func writable(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%w: folder %s: mode %04o lets others put another file in its place, run: chmod go-w %s",
			ErrExposed, path, mode, quoted(path))
	}
	return nil
}

// quoted is a path for a shell.
func quoted(path string) string {
	for _, r := range path {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '/', r == '.', r == '_', r == '-',
			r == '+', r == '@', r == ':', r == '~':
		default:
			return fmt.Sprintf("%q", path)
		}
	}
	return path
}
