// Package store keeps functions on disk: their packages, configurations, versions
// and aliases. A Store finds them for a lambda.Manager. FORMAT.md says what the
// files hold.
package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/lambda"
)

// Errors of the store; lambda.ErrNotFound is one too.
var (
	// ErrExists is that of a function or alias that is there already.
	ErrExists = errors.New("it exists already")
	// ErrInvalid is that of what a function cannot be.
	ErrInvalid = errors.New("invalid")
	// ErrRevision is that of a change to another revision than is there.
	ErrRevision = errors.New("the revision is another one")
	// ErrInUse is that of a version that an alias names.
	ErrInUse = errors.New("an alias names it")
	// ErrFull is that of packages or functions that would be more than there may be.
	ErrFull = errors.New("limit exceeded")
	// ErrPolicyFull is that of a policy that would be larger than one may be.
	ErrPolicyFull = errors.New("limit exceeded")
)

// format is that of a function's file.
const format = 1

// Options of a Store.
type Options struct {
	Dir             string // of the data directory: its folder lambda
	Account, Region string // of ARNs
	// Directories hold what may be a function's code in the place of a package.
	Directories []string
	MaxCode     int64         // bytes of all packages as they are sent; 0: 2 GiB
	MaxFuncs    int           // functions; 0: 1000
	MaxMemory   int           // MB of one function; 0: 3008
	MaxTimeout  time.Duration // 0: 900 s
}

// A Store has the functions. Its methods may be called from several goroutines.
type Store struct {
	o    Options
	root string

	// change is held over a change and its write to the disk; then mu for what it
	// made.
	change sync.Mutex

	mu      sync.RWMutex // guards what follows
	all     map[string]*record
	damaged map[string]error
	using   map[string]int // trees by hash, of processes
}

// A record is a function's file. It does not change: a change makes another one.
type record struct {
	Format   int                `json:"format"`
	Name     string             `json:"name"`
	Latest   *Version           `json:"latest"`
	Versions []*Version         `json:"versions,omitempty"`
	Next     int                `json:"next"`
	Aliases  map[string]*Alias  `json:"aliases,omitempty"`
	Reserved *int               `json:"reserved,omitempty"`
	Async    map[string]*Async  `json:"async,omitempty"`
	Policies map[string]*policy `json:"policies,omitempty"` // by qualifier, "" of the function itself
	Tags     map[string]string  `json:"tags,omitempty"`
}

// A Version is one of a function's versions. It must not be changed.
type Version struct {
	Function    string            `json:"-"`
	Version     string            `json:"version"`
	Description string            `json:"description,omitempty"`
	Runtime     string            `json:"runtime"`
	Handler     string            `json:"handler"`
	Role        string            `json:"role"`
	Timeout     int               `json:"timeout"` // s
	Memory      int               `json:"memory"`  // MB
	Environment map[string]string `json:"environment,omitempty"`
	Hash        string            `json:"hash"` // hex
	Size        int64             `json:"size"`
	Dir         string            `json:"dir,omitempty"`
	Arch        string            `json:"arch"`
	Modified    time.Time         `json:"modified"`
	Revision    string            `json:"revision"`
}

// CodeSHA256 is the package's hash as AWS writes it.
func (v *Version) CodeSHA256() string {
	b, _ := hex.DecodeString(v.Hash) // ours
	return base64.StdEncoding.EncodeToString(b)
}

// An Alias names a version.
type Alias struct {
	Name        string `json:"-"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
	Revision    string `json:"revision"`
}

// Async is how calls that nobody waits for are made again.
type Async struct {
	Retries   int       `json:"retries"` // after the first try
	MaxAge    int       `json:"max_age"` // s
	OnFailure string    `json:"on_failure,omitempty"`
	OnSuccess string    `json:"on_success,omitempty"`
	Modified  time.Time `json:"modified"`
}

// DefaultAsync is that of functions without one: two more tries, within six hours.
var DefaultAsync = Async{Retries: 2, MaxAge: 21600}

// folders of a store.
var folders = []string{"functions", "code", "trees", "runtime", "root", "logs"}

// Open opens the store, and makes it at the first time.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, root: o.Dir, all: map[string]*record{}, damaged: map[string]error{}, using: map[string]int{}}
	if s.o.MaxCode == 0 {
		s.o.MaxCode = 2 << 30
	}
	if s.o.MaxFuncs == 0 {
		s.o.MaxFuncs = 1000
	}
	if s.o.MaxMemory == 0 {
		s.o.MaxMemory = 3008
	}
	if s.o.MaxTimeout == 0 {
		s.o.MaxTimeout = 900 * time.Second
	}
	// Trees are not synced: after a power cut they may be torn.
	if err := removeTree(s.Path("trees")); err != nil {
		return nil, err
	}
	for _, name := range folders {
		if err := os.MkdirAll(s.Path(name), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(s.Path("runtime"), 0o755); err != nil { // functions read it
		return nil, err
	}
	files, err := filepath.Glob(s.Path("functions", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		name, ok := strings.CutSuffix(filepath.Base(path), ".json")
		if !ok {
			if strings.HasSuffix(path, ".new") {
				_ = os.Remove(path) // the next start tries again
			}
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		r, err := parse(name, text)
		if err != nil {
			s.damaged[name] = fmt.Errorf("%s: %w", path, err)
			continue
		}
		s.all[name] = r
	}
	return s, errors.Join(s.sweep(), durable.SyncFolder(s.root))
}

// parse reads a function's file.
func parse(name string, text []byte) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	switch {
	case r.Format > format:
		return nil, fmt.Errorf("format %d: a newer version wrote it, this one reads %d", r.Format, format)
	case r.Format < 1 || r.Name != name || r.Latest == nil || r.Latest.Version != Latest:
		return nil, errors.New("it is not a function's file")
	}
	for _, v := range r.versions() {
		if v == nil || v.Dir == "" && !isHash(v.Hash) {
			return nil, errors.New("a version has no package")
		}
		v.Function = name
	}
	for alias, a := range r.Aliases {
		if a == nil || r.version(a.Version) == nil {
			return nil, fmt.Errorf("the alias %q names no version", alias)
		}
		a.Name = alias
	}
	for _, p := range r.Policies {
		if p == nil {
			return nil, errors.New("a policy is empty")
		}
	}
	for _, a := range r.Async {
		if a == nil {
			return nil, errors.New("an asynchronous configuration is empty")
		}
	}
	return r, nil
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

// Path is where something of the store is.
func (s *Store) Path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// Damaged are functions whose files cannot be read, by name.
func (s *Store) Damaged() map[string]error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.damaged)
}

// versions are all, $LATEST first.
func (r *record) versions() []*Version { return append([]*Version{r.Latest}, r.Versions...) }

func (r *record) version(name string) *Version {
	for _, v := range r.versions() {
		if v.Version == name {
			return v
		}
	}
	return nil
}

// resolve finds the version of a qualifier: a version or an alias, "" for $LATEST.
func (r *record) resolve(qualifier string) *Version {
	if a := r.Aliases[qualifier]; a != nil {
		qualifier = a.Version
	}
	if qualifier == "" {
		qualifier = Latest
	}
	return r.version(qualifier)
}

// get returns a function's record.
func (s *Store) get(name string) (*record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.all[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(name, ""))
}

// write makes r the function's record, durably; change is held.
func (s *Store) write(r *record) error {
	r.Format = format
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Write(s.Path("functions", r.Name+".json"), text, 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	s.all[r.Name] = r
	s.mu.Unlock()
	return nil
}

// update changes a copy of a function's record by f, and writes it.
func (s *Store) update(name string, f func(*record) error) (*record, error) {
	s.change.Lock()
	defer s.change.Unlock()
	old, err := s.get(name)
	if err != nil {
		return nil, err
	}
	r := *old
	r.Versions, r.Aliases = slices.Clone(old.Versions), maps.Clone(old.Aliases)
	r.Async, r.Tags = maps.Clone(old.Async), maps.Clone(old.Tags)
	r.Policies = maps.Clone(old.Policies)
	latest := *old.Latest
	r.Latest = &latest
	if err := f(&r); err != nil {
		return nil, err
	}
	return &r, s.write(&r)
}

// sweep removes packages that no function names; change is held, or nobody else is
// there yet. Trees that processes have stay until those end.
func (s *Store) sweep() error {
	s.mu.RLock()
	used := map[string]bool{}
	for _, r := range s.all {
		for _, v := range r.versions() {
			used[v.Hash] = true
		}
	}
	keep := len(s.damaged) > 0 // they may name any
	using := maps.Clone(s.using)
	s.mu.RUnlock()
	if keep {
		return nil
	}
	var errs []error
	zips, _ := os.ReadDir(s.Path("code"))
	for _, z := range zips {
		if hash, ok := strings.CutSuffix(z.Name(), ".zip"); !ok || !used[hash] {
			errs = append(errs, os.Remove(s.Path("code", z.Name())))
		}
	}
	trees, _ := os.ReadDir(s.Path("trees"))
	for _, t := range trees {
		if hash := t.Name(); !used[hash] && using[hash] == 0 {
			errs = append(errs, removeTree(s.Path("trees", hash)))
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a folder whose parts may be read-only.
func removeTree(path string) error {
	_ = filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(at, 0o700) // RemoveAll says what fails
		}
		return nil
	})
	return os.RemoveAll(path)
}
