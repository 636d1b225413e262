package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/lambda"
)

// A Configuration is what is told of a function; nil members stay as they are.
type Configuration struct {
	Description, Runtime, Handler, Role *string
	Timeout, Memory                     *int // s, MB
	Environment                         *map[string]string
}

const (
	defaultTimeout = 3   // s
	defaultMemory  = 128 // MB
	maxDescription = 256
)

// apply changes v and checks it.
func (s *Store) apply(c Configuration, v *Version) error {
	set(&v.Description, c.Description)
	set(&v.Runtime, c.Runtime)
	set(&v.Handler, c.Handler)
	set(&v.Role, c.Role)
	set(&v.Timeout, c.Timeout)
	set(&v.Memory, c.Memory)
	set(&v.Environment, c.Environment)
	most := int(s.o.MaxTimeout / time.Second)
	switch {
	case !lambda.Runtimes(v.Runtime):
		return fmt.Errorf("%w: runtime %.40q, want provided.al2023, provided.al2, python3.N or nodejsN.x", ErrInvalid,
			v.Runtime)
	case !handlerPattern.MatchString(v.Handler):
		return fmt.Errorf("%w: handler %.150q, want 1 to 128 characters without space", ErrInvalid, v.Handler)
	case !rolePattern.MatchString(v.Role):
		return fmt.Errorf("%w: role %.200q, want arn:aws:iam::000000000000:role/NAME", ErrInvalid, v.Role)
	case v.Timeout < 1 || v.Timeout > most:
		return fmt.Errorf("%w: timeout %d, want 1 to %d (lambda.max_timeout)", ErrInvalid, v.Timeout, most)
	case v.Memory < defaultMemory || v.Memory > s.o.MaxMemory:
		return fmt.Errorf("%w: memory %d, want %d to %d (lambda.max_memory)", ErrInvalid, v.Memory, defaultMemory,
			s.o.MaxMemory)
	case len(v.Description) > maxDescription:
		return fmt.Errorf("%w: a description of %d bytes, want at most %d", ErrInvalid, len(v.Description),
			maxDescription)
	}
	if err := lambda.CheckEnvironment(v.Environment); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func set[T any](at *T, to *T) {
	if to != nil {
		*at = *to
	}
}

// stamp makes v a new revision.
func stamp(v *Version) {
	v.Modified, v.Revision = time.Now().UTC().Truncate(time.Millisecond), uuid.NewString()
}

// arch is that of this machine, in AWS's words.
func arch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}

// Create makes a function; ErrExists if there is one.
func (s *Store) Create(name string, c Configuration, code Code, publish bool, tags map[string]string) (*Version,
	error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("%w: name %.100q, want 1 to 64 letters, digits, - and _", ErrInvalid, name)
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	taken, n := s.all[name] != nil || s.damaged[name] != nil, len(s.all)
	s.mu.RUnlock()
	switch {
	case taken:
		return nil, fmt.Errorf("function %s: %w", name, ErrExists)
	case n >= s.o.MaxFuncs:
		return nil, fmt.Errorf("%w: %d functions", ErrFull, n)
	}
	v := &Version{Function: name, Version: Latest, Timeout: defaultTimeout, Memory: defaultMemory, Arch: arch()}
	if err := s.apply(c, v); err != nil {
		return nil, err
	}
	if err := s.put(code, v); err != nil {
		return nil, err
	}
	stamp(v)
	r := &record{Name: name, Latest: v, Next: 1, Tags: tags}
	if publish {
		v = r.publish("")
	}
	return v, s.write(r)
}

// publish makes a version of $LATEST.
func (r *record) publish(description string) *Version {
	v := *r.Latest
	v.Version, v.Description = strconv.Itoa(r.Next), cmp.Or(description, v.Description)
	r.Next++
	r.Versions = append(r.Versions, &v)
	return &v
}

// UpdateConfiguration changes a function's configuration; with a revision only that
// one.
func (s *Store) UpdateConfiguration(name string, c Configuration, revision string) (*Version, error) {
	r, err := s.update(name, func(r *record) error {
		if err := is(r.Latest.Revision, revision); err != nil {
			return err
		}
		defer stamp(r.Latest)
		return s.apply(c, r.Latest)
	})
	return latest(r, err)
}

// UpdateCode changes a function's code. dry has nothing changed.
func (s *Store) UpdateCode(name string, code Code, revision string, publish, dry bool) (*Version, error) {
	var v *Version
	errDry := errors.New("dry")
	_, err := s.update(name, func(r *record) error {
		if err := is(r.Latest.Revision, revision); err != nil {
			return err
		}
		if err := s.put(code, r.Latest); err != nil {
			return err
		}
		stamp(r.Latest)
		if v = r.Latest; publish {
			v = r.publish("")
		}
		if dry {
			return errDry
		}
		return nil
	})
	if errors.Is(err, errDry) {
		err = nil
	}
	if err == nil {
		s.change.Lock()
		defer s.change.Unlock()
		err = s.sweep()
	}
	return v, err
}

func latest(r *record, err error) (*Version, error) {
	if err != nil {
		return nil, err
	}
	return r.Latest, nil
}

func is(revision, want string) error {
	if want != "" && want != revision {
		return fmt.Errorf("%w: it is %s", ErrRevision, revision)
	}
	return nil
}

// Publish makes a version of $LATEST, if that has changed since the last one was
// made.
func (s *Store) Publish(name, description, codeSHA256, revision string) (v *Version, err error) {
	_, err = s.update(name, func(r *record) error {
		if err := is(r.Latest.Revision, revision); err != nil {
			return err
		}
		if have := r.Latest.CodeSHA256(); codeSHA256 != "" && codeSHA256 != have {
			return fmt.Errorf("%w: CodeSHA256 is %s", ErrInvalid, have)
		}
		if n := len(r.Versions); n > 0 && r.Versions[n-1].Revision == r.Latest.Revision {
			v = r.Versions[n-1]
			return nil
		}
		v = r.publish(description)
		return nil
	})
	return v, err
}

// Version returns a version by a name or ARN and a qualifier.
func (s *Store) Version(text, qualifier string) (*Version, error) {
	name, qualifier, err := s.both(text, qualifier)
	if err != nil {
		return nil, err
	}
	r, err := s.get(name)
	if err != nil {
		return nil, err
	}
	if v := r.resolve(qualifier); v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(name, qualifier))
}

// Versions returns all of a function, $LATEST first.
func (s *Store) Versions(name string) ([]*Version, error) {
	r, err := s.get(name)
	if err != nil {
		return nil, err
	}
	return r.versions(), nil
}

// List returns $LATEST of all functions, by name.
func (s *Store) List() (all []*Version) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		all = append(all, s.all[name].Latest)
	}
	return all
}

// Tags returns a function's.
func (s *Store) Tags(name string) (map[string]string, error) {
	r, err := s.get(name)
	if err != nil {
		return nil, err
	}
	return r.Tags, nil
}

// Delete removes a function, or with a qualifier one of its versions. Processes that
// run keep their code.
func (s *Store) Delete(name, qualifier string) error {
	if qualifier != "" {
		_, err := s.update(name, func(r *record) error { return r.drop(qualifier) })
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.get(name); err != nil {
		return err
	}
	path := s.Path("functions", name+".json")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.SyncFolder(s.Path("functions")); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.all, name)
	s.mu.Unlock()
	return s.sweep()
}

// drop takes a published version out.
func (r *record) drop(version string) error {
	for _, a := range r.Aliases {
		if a.Version == version {
			return fmt.Errorf("%w: %s", ErrInUse, a.Name)
		}
	}
	for i, v := range r.Versions {
		if v.Version == version {
			r.Versions = slices.Delete(r.Versions, i, i+1)
			delete(r.Policies, version)
			return nil
		}
	}
	if version == Latest || r.Aliases[version] != nil {
		return fmt.Errorf("%w: only published versions can be deleted, not %s", ErrInvalid, version)
	}
	return fmt.Errorf("%w: %s:%s", lambda.ErrNotFound, r.Name, version)
}
