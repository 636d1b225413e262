package secrets

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/agent/durable"
)

// An Info is what a list says of a secret. It has no value.
type Info struct {
	Name     string    `json:"name"`
	Binary   bool      `json:"binary"`
	Changed  time.Time `json:"changed"`
	Previous bool      `json:"previous"`        // the value of before is kept (AWSPREVIOUS)
	Error    string    `json:"error,omitempty"` // why get_secret does not get it
}

// List returns all secrets by name.
func (s *Store) List() ([]Info, error) {
	all, err := os.ReadDir(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return []Info{}, nil
	}
	if err != nil {
		return nil, err
	}
	list := []Info{}
	for _, e := range all {
		name, binary, previous, ok := parseName(e.Name())
		info, err := e.Info()
		if !ok || previous || err != nil { // err: it is gone meanwhile
			continue
		}
		i := Info{Name: name, Binary: binary, Changed: info.ModTime().UTC()}
		path := filepath.Join(s.o.Dir, e.Name())
		if _, err := os.Lstat(path + previousSuffix); err == nil {
			i.Previous = true
		}
		if _, err := readFile(path); err != nil {
			i.Error = err.Error()
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Put gives a secret a value, and makes it if it is not there. The value of before is
// kept as the previous one. Both are durable when Put returns; one that is ended on
// the way leaves the old value or the new one.
func (s *Store) Put(name string, value []byte, binary bool) error {
	switch {
	case !validName(name):
		return ErrName
	case len(value) == 0 || len(value) > MaxValue:
		return ErrTooLarge
	case !binary && !utf8.Valid(value):
		return ErrText
	}
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(s.path(name, !binary)); err == nil {
		return ErrKind
	}
	path := s.path(name, binary)
	before, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := durable.Write(path+previousSuffix, stored(before, binary), 0o600); err != nil {
			return err
		}
	}
	return durable.Write(path, stored(value, binary), 0o600)
}

// stored is what readFile makes the value of.
func stored(value []byte, binary bool) []byte {
	if !binary && bytes.HasSuffix(value, []byte("\n")) {
		return append(bytes.Clone(value), '\n')
	}
	return value
}

func (s *Store) path(name string, binary bool) string {
	return filepath.Join(s.o.Dir, fileName(name, binary))
}

// find returns the file of a secret.
func (s *Store) find(name string) (path string, err error) {
	if !validName(name) {
		return "", ErrName
	}
	for _, binary := range []bool{false, true} {
		path = s.path(name, binary)
		if _, err = os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	return "", fmt.Errorf("%w: no such secret: %s", ErrNotFound, name)
}

// Restore makes the previous value the current one, and the current the previous.
func (s *Store) Restore(name string) error {
	path, err := s.find(name)
	if err != nil {
		return err
	}
	before, err := readFile(path + previousSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s has no previous value", ErrNotFound, name)
	}
	if err != nil {
		return err
	}
	_, binary, _, _ := parseName(filepath.Base(path))
	return s.Put(name, before, binary)
}

// Delete removes a secret with its previous value.
func (s *Store) Delete(name string) error {
	path, err := s.find(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path + previousSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncFolder(s.o.Dir)
}

// alphabet has 64 characters that need no quotes in a shell, a URL or JSON.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// Random returns a text of n random characters, 6 bits each.
func Random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = alphabet[b[i]%64]
	}
	return string(b)
}
