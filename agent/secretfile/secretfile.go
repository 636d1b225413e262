// Package secretfile reads files that hold secrets, for both programs: private
// keys, passwords, access keys. It imports nothing else of ours. A file that others
// than its owner can read or write is refused, and one in a folder in which others
// can put another in its place; so is a symbolic link, which may lead to where the
// one who reads it may and the one who made it may not. What is refused says the
// command that mends it.
package secretfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// ErrExposed is in the chain of every error about a file or folder that others
// can get at.
var ErrExposed = errors.New("others can get at what is private")

// maxSize is far above any secret's.
const maxSize = 1 << 20

// Read returns what is in a file with a secret, at most 1 MiB.
func Read(path string) ([]byte, error) {
	// Opened as it is, so that what is checked is what is read.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
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
		return nil, fmt.Errorf("%w: %s: mode %04o lets others read or write it, run: chmod 600 %s", ErrExposed, path, mode, quoted(path))
	}
	if err := Folder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("%s: more than %d bytes", path, maxSize)
	}
	return text, err
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
// what is there. They may look into it: its files are their owner's.
func Folder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%w: folder %s: mode %04o lets others put another file in its place, run: chmod go-w %s", ErrExposed, path, mode, quoted(path))
	}
	return nil
}

// quoted is a path for a shell.
func quoted(path string) string {
	for _, r := range path {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '/', r == '.', r == '_', r == '-', r == '+', r == '@', r == ':', r == '~':
		default:
			return fmt.Sprintf("%q", path)
		}
	}
	return path
}
