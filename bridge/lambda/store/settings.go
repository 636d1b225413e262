package store

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda"
)

// Function implements lambda.Functions.
func (s *Store) Function(text, qualifier string) (*lambda.Function, error) {
	name, qualifier, err := s.both(text, qualifier)
	if err != nil {
		return nil, err
	}
	r, err := s.get(name)
	if err != nil {
		return nil, err
	}
	v := r.resolve(qualifier)
	if v == nil {
		return nil, fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(name, qualifier))
	}
	f := &lambda.Function{Name: name, Version: v.Version, Revision: v.Revision, ARN: s.ARN(name, qualifier),
		Runtime: v.Runtime, Handler: v.Handler, Role: v.Role, Timeout: time.Duration(v.Timeout) * time.Second,
		Memory: v.Memory, Environment: v.Environment, Reserved: -1,
		Open: func() (string, func(), error) { return s.open(v) }}
	if r.Reserved != nil {
		f.Reserved = *r.Reserved
	}
	return f, nil
}

// Reserved implements lambda.Functions.
func (s *Store) Reserved() (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.all {
		if r.Reserved != nil {
			n += *r.Reserved
		}
	}
	return n
}

// Concurrency returns a function's reserved concurrency; nil for none.
func (s *Store) Concurrency(name string) (*int, error) {
	r, err := s.get(name)
	if err != nil {
		return nil, err
	}
	return r.Reserved, nil
}

// SetConcurrency reserves concurrency of total, of which one at least is left for
// the other functions; nil gives it back.
func (s *Store) SetConcurrency(name string, n *int, total int) error {
	_, err := s.update(name, func(r *record) error {
		if n != nil {
			others := s.Reserved()
			if r.Reserved != nil {
				others -= *r.Reserved
			}
			if *n < 0 || others+*n > total-1 {
				return fmt.Errorf("%w: reserved concurrency %d, want 0 to %d: lambda.max_concurrency is %d, "+
					"others have %d,"+
					" and 1 is for the rest", ErrInvalid, *n, max(0, total-1-others), total, others)
			}
		}
		r.Reserved = n
		return nil
	})
	return err
}

// PutAlias makes an alias, or with update changes one: an empty version or nil
// description stays.
func (s *Store) PutAlias(function, name, version string, description *string, revision string, update bool) (*Alias,
	error) {
	var a Alias
	_, err := s.update(function, func(r *record) error {
		old := r.Aliases[name]
		switch {
		case !aliasPattern.MatchString(name) || numberPattern.MatchString(name):
			return fmt.Errorf("%w: alias %.150q, want letters, digits, - and _, and not a number", ErrInvalid, name)
		case update && old == nil:
			return fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(function, name))
		case !update && old != nil:
			return fmt.Errorf("alias %s: %w", s.ARN(function, name), ErrExists)
		}
		if old != nil {
			if err := is(old.Revision, revision); err != nil {
				return err
			}
			a = *old
		}
		if a.Name = name; version != "" {
			a.Version = version
		}
		set(&a.Description, description)
		if r.version(a.Version) == nil {
			return fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(function, a.Version))
		}
		if len(a.Description) > maxDescription {
			return fmt.Errorf("%w: a description of %d bytes", ErrInvalid, len(a.Description))
		}
		a.Revision = uuid.NewString()
		if r.Aliases == nil {
			r.Aliases = map[string]*Alias{}
		}
		r.Aliases[name] = &a
		return nil
	})
	return &a, err
}

// Aliases returns those of a function by name; with a version, those that name it.
func (s *Store) Aliases(function, version string) (all []*Alias, err error) {
	r, err := s.get(function)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(r.Aliases)) {
		if a := r.Aliases[name]; version == "" || a.Version == version {
			all = append(all, a)
		}
	}
	return all, nil
}

// Alias returns one.
func (s *Store) Alias(function, name string) (*Alias, error) {
	r, err := s.get(function)
	if err != nil {
		return nil, err
	}
	if a := r.Aliases[name]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(function, name))
}

// DeleteAlias removes one; one that is not there is no error.
func (s *Store) DeleteAlias(function, name string) error {
	_, err := s.update(function, func(r *record) error {
		delete(r.Aliases, name)
		delete(r.Policies, name)
		return nil
	})
	return err
}

// Async returns how calls of a function that nobody waits for are made again, and
// whether somebody has said so.
func (s *Store) Async(text, qualifier string) (a Async, set bool, err error) {
	name, qualifier, err := s.both(text, qualifier)
	if err != nil {
		return Async{}, false, err
	}
	r, err := s.get(name)
	if err != nil {
		return Async{}, false, err
	}
	if r.resolve(qualifier) == nil {
		return Async{}, false, fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(name, qualifier))
	}
	if a := r.Async[orLatest(qualifier)]; a != nil {
		return *a, true, nil
	}
	return DefaultAsync, false, nil
}

func orLatest(qualifier string) string {
	if qualifier == "" {
		return Latest
	}
	return qualifier
}

// SetAsync says it; nil takes it back. ErrNotFound if there is nothing to take back.
func (s *Store) SetAsync(name, qualifier string, a *Async) error {
	_, err := s.update(name, func(r *record) error {
		at := orLatest(qualifier)
		switch {
		case r.resolve(qualifier) == nil, a == nil && r.Async[at] == nil:
			return fmt.Errorf("%w: The function %s doesn't have an EventInvokeConfig", lambda.ErrNotFound,
				s.ARN(name, at))
		case a == nil:
			delete(r.Async, at)
			return nil
		case a.Retries < 0 || a.Retries > 2:
			return fmt.Errorf("%w: MaximumRetryAttempts %d, want 0 to 2", ErrInvalid, a.Retries)
		case a.MaxAge < 60 || a.MaxAge > 21600:
			return fmt.Errorf("%w: MaximumEventAgeInSeconds %d, want 60 to 21600", ErrInvalid, a.MaxAge)
		case a.OnFailure != "" && !arn.Is(a.OnFailure):
			return fmt.Errorf("%w: OnFailure %.200q, want an ARN", ErrInvalid, a.OnFailure)
		case a.OnSuccess != "" && !arn.Is(a.OnSuccess):
			return fmt.Errorf("%w: OnSuccess %.200q, want an ARN", ErrInvalid, a.OnSuccess)
		}
		if r.Async == nil {
			r.Async = map[string]*Async{}
		}
		r.Async[at] = a
		return nil
	})
	return err
}
