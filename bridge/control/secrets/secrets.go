// Package secrets keeps what get_secret of rules answers: a file for each secret, in one
// folder that is its owner's alone. A file that changes holds for the next message.
//
// README.md says how files are named. Values are in no error, and Redact takes them
// out of texts of others before those are logged or shown.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal/secretfile"
)

// Limits.
const (
	// MaxValue bounds a value (Secrets Manager quotas).
	MaxValue = 64 << 10
	// maxKept bounds how many files are remembered, and known as values for Redact.
	maxKept = 1000
	// lookAgain is when a file is read again that seems not to have changed: the
	// folder may have become somebody else's to write to.
	lookAgain = time.Minute
)

// Errors of calls.
var (
	ErrName     = errors.New("secrets: want 1 to 200 of A-Z a-z 0-9 / _ + = . @ -")
	ErrNotFound = errors.New("secrets: not found")
	ErrTooLarge = fmt.Errorf("secrets: want 1 to %d bytes", MaxValue)
	ErrKind     = errors.New("secrets: it is there with a value of the other kind; delete it first")
	ErrText     = errors.New("secrets: want UTF-8 text; -binary is for other bytes")
)

// Options of a Store.
type Options struct {
	Dir             string // need not be there
	Account, Region string // of ARNs
}

// A Store reads and writes secrets. Several goroutines may use it; the folder is
// read anew, so that other programs may write to it.
type Store struct {
	o Options

	mu      sync.Mutex // guards what follows, also while a file is read
	kept    map[string]file
	known   known
	scanned time.Time // when Redact last looked at the folder
}

// A file is one as it was read.
type file struct {
	info  fs.FileInfo
	value []byte
	at    time.Time
}

// Open returns the secrets of a folder. Nothing is read.
func Open(o Options) *Store { return &Store{o: o, kept: map[string]file{}} }

// Secret returns a secret's current value; nil if there is none of that kind. id is a
// name, or an ARN of the bridge's own account and region, with or without the six
// characters that Secrets Manager puts at its end. It implements iotsql.Secrets.
func (s *Store) Secret(_ context.Context, id string, binary bool) ([]byte, error) {
	names := s.names(id)
	for _, name := range names {
		if !validName(name) {
			continue
		}
		v, err := s.read(fileName(name, binary))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
	}
	return nil, nil
}

// names are those that an id may mean, in order.
func (s *Store) names(id string) []string {
	if !strings.HasPrefix(id, "arn:") {
		return []string{id}
	}
	name, ok := strings.CutPrefix(id, "arn:aws:secretsmanager:"+s.o.Region+":"+s.o.Account+":secret:")
	if !ok {
		return nil
	}
	if at := len(name) - 7; at > 0 && name[at] == '-' && !strings.ContainsAny(name[at+1:], "/_+=.@-") {
		return []string{name, name[:at]}
	}
	return []string{name}
}

// read returns what is in a file, which the caller does not change.
func (s *Store) read(name string) ([]byte, error) {
	path := filepath.Join(s.o.Dir, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Lstat(path)
	if err != nil {
		delete(s.kept, name)
		return nil, err
	}
	if k, ok := s.kept[name]; ok && same(k.info, info) && time.Since(k.at) < lookAgain {
		return k.value, nil
	}
	value, err := readFile(path)
	if err != nil {
		delete(s.kept, name)
		return nil, err
	}
	if len(s.kept) >= maxKept {
		clear(s.kept)
	}
	s.kept[name] = file{info, value, time.Now()}
	s.known.add(value)
	return value, nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// readFile reads a file that is its owner's alone. A text's last line end is no part
// of it: editors and echo put it there.
func readFile(path string) ([]byte, error) {
	value, err := secretfile.Read(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(strings.TrimSuffix(path, previousSuffix), binarySuffix) {
		value = trimLine(value)
	}
	if len(value) == 0 || len(value) > MaxValue {
		return nil, fmt.Errorf("%s: %w", path, ErrTooLarge)
	}
	return value, nil
}

func trimLine(v []byte) []byte {
	if n := len(v) - 1; n >= 0 && v[n] == '\n' {
		if v = v[:n]; n > 0 && v[n-1] == '\r' {
			v = v[:n-1]
		}
	}
	return v
}
