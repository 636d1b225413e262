package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/agent/durable"
)

// Code is what a function is made of: a zip, or the path of a folder.
type Code struct {
	Zip []byte
	Dir string
}

// hashZip is the hash of a package, hex.
func hashZip(zip []byte) string {
	sum := sha256.Sum256(zip)
	return hex.EncodeToString(sum[:])
}

// put makes a package durable and unpacks it, so that what is wrong with it is told
// now; change is held. It sets the code of v.
func (s *Store) put(c Code, v *Version) error {
	if c.Dir != "" {
		dir, err := s.directory(c.Dir)
		if err != nil {
			return err
		}
		v.Dir, v.Hash, v.Size = dir, hashZip([]byte(dir)), 0
		return nil
	}
	r, err := contents(c.Zip)
	if err != nil {
		return err
	}
	hash := hashZip(c.Zip)
	v.Dir, v.Hash, v.Size = "", hash, int64(len(c.Zip))
	at := s.Path("code", hash+".zip")
	if _, err := os.Stat(at); err == nil {
		return nil
	}
	if used := s.codeSize(); used+v.Size > s.o.MaxCode {
		return fmt.Errorf("%w: code storage: %d bytes are used of %d", ErrFull, used, s.o.MaxCode)
	}
	if err := s.makeTree(hash, func(dir string) error { return unpack(r, dir) }); err != nil {
		return err
	}
	return durable.Write(at, c.Zip, 0o600)
}

// codeSize is the size of all packages, in bytes.
func (s *Store) codeSize() (n int64) {
	all, _ := os.ReadDir(s.Path("code"))
	for _, e := range all {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}

// directory returns the folder at a path, links resolved, if it is within one of
// those that may be functions.
func (s *Store) directory(path string) (string, error) {
	dir, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: %s is not a folder", ErrInvalid, path)
	}
	for _, d := range s.o.Directories {
		within, err := filepath.EvalSymlinks(d)
		if err == nil && (dir == within || strings.HasPrefix(dir, within+string(filepath.Separator))) {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("%w: %s is in none of lambda.directories", ErrInvalid, path)
}

// makeTree has fill fill a folder, which then is the tree of a package.
func (s *Store) makeTree(hash string, fill func(dir string) error) error {
	at, beside := s.Path("trees", hash), s.Path("trees", hash+".new")
	if _, err := os.Stat(at); err == nil {
		return nil
	}
	err := removeTree(beside)
	if err == nil {
		err = os.Mkdir(beside, 0o755)
	}
	if err == nil {
		err = errors.Join(fill(beside), readable(beside))
	}
	if err == nil {
		err = os.Rename(beside, at)
	}
	if err != nil {
		return errors.Join(err, removeTree(beside))
	}
	return nil
}

// readable lets everybody into a folder and those below it, whatever the umask:
// functions have users of their own.
func readable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	})
}

// open returns the folder of a version's code. It stays until release is called.
func (s *Store) open(v *Version) (dir string, release func(), err error) {
	if v.Dir != "" {
		return v.Dir, func() {}, nil
	}
	s.change.Lock()
	defer s.change.Unlock()
	err = s.makeTree(v.Hash, func(dir string) error {
		zip, err := s.zip(v)
		if err != nil {
			return err
		}
		r, err := contents(zip)
		if err != nil {
			return err
		}
		return unpack(r, dir)
	})
	if err != nil {
		return "", nil, fmt.Errorf("function %s: package %s: %w", v.Function, v.Hash, err)
	}
	s.mu.Lock()
	s.using[v.Hash]++
	s.mu.Unlock()
	return s.Path("trees", v.Hash), func() { s.release(v.Hash) }, nil
}

// release gives a tree back, which goes if its function is gone.
func (s *Store) release(hash string) {
	s.mu.Lock()
	if s.using[hash]--; s.using[hash] == 0 {
		delete(s.using, hash)
	}
	s.mu.Unlock()
	s.change.Lock()
	defer s.change.Unlock()
	_ = s.sweep() // the next one, or the next start, tries again
}

// zip returns a version's package; fs.ErrNotExist for a folder.
func (s *Store) zip(v *Version) ([]byte, error) {
	if v.Dir != "" {
		return nil, fs.ErrNotExist
	}
	zip, err := os.ReadFile(s.Path("code", v.Hash+".zip"))
	if err == nil && hashZip(zip) != v.Hash {
		err = errors.New("it is damaged: its hash is another one")
	}
	return zip, err
}
