package declare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// RulesOptions are what Rules needs.
type RulesOptions struct {
	Dir      string // of the files of rules
	Compiler *rules.Compiler
	Registry registry.Store
	Engine   *rules.Engine
	Log      *slog.Logger
}

// Rules is the one owner of which topic rules are in force: those that files of
// bridge.d declare, and those that were made through the API and are kept in the
// registry. A name is in one of the two places only.
//
// What the API changes is on the disk before it is in force, and in force
// before the call returns. Its methods may be called from several goroutines;
// changes wait for each other, which takes a sync of the registry; what only reads
// does not, but for Named where no rules were put in force.
type Rules struct {
	opts RulesOptions

	mu     sync.Mutex           // held over a change; guards what follows
	made   map[string]madeRule  // through the API, by name; nil: not read yet
	files  map[string]*ruleFile // by path
	inFile map[string]string    // the path of the file that declares a rule

	all      atomic.Pointer[[]*rules.Rule]    // those in force and those broken, by name
	troubles atomic.Pointer[map[string]error] // what is wrong with rules, by name
}

// A madeRule is a rule of the registry. One that no longer compiles, since
// this version or this configuration refuses it, has why, and a rule without
// more than its document.
type madeRule struct {
	rule   *rules.Rule
	broken error
}

// NewRules returns the owner of the rules of an engine, which has none yet.
func NewRules(o RulesOptions) *Rules { return &Rules{opts: o} }

// A refused error is the caller's fault, of one of the registry's kinds.
type refused struct {
	error
	kind error
}

func (r refused) Unwrap() []error { return []error{r.error, r.kind} }

// Rules returns all rules by name, those included that are disabled and those
// that no longer compile.
func (s *Rules) Rules() []*rules.Rule {
	if all := s.all.Load(); all != nil {
		return *all
	}
	return nil
}

// Loaded says whether the rules were ever put in force.
func (s *Rules) Loaded() bool { return s.all.Load() != nil }

// Rule returns a rule; one that is not there is registry.ErrNotFound.
func (s *Rules) Rule(name string) (*rules.Rule, error) {
	all := s.Rules()
	byName := func(r *rules.Rule, name string) int { return strings.Compare(r.Name, name) }
	i, ok := slices.BinarySearchFunc(all, name, byName)
	if !ok {
		return nil, fmt.Errorf("rule %s: %w", name, registry.ErrNotFound)
	}
	return all[i], nil
}

// Named returns a rule in force; one that is not is registry.ErrNotFound. Where
// no rules were put in force, since no bridge runs, it is the one that would be.
func (s *Rules) Named(name string) (*rules.Rule, error) {
	if r := s.opts.Engine.Rule(name); r != nil {
		return r, nil
	}
	if !s.Loaded() {
		return s.stored(name)
	}
	if _, err := s.Rule(name); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("rule %s is not in force: %w", name, errors.Join(registry.ErrNotFound, s.Trouble(name)))
}

// Trouble returns what is wrong with a rule: why it no longer compiles, or why
// the file that it came from is refused as it is now; nil if nothing is.
func (s *Rules) Trouble(name string) error {
	if all := s.troubles.Load(); all != nil {
		return (*all)[name]
	}
	return nil
}

// noteTroubles keeps what is wrong for Trouble, which does not wait for changes. mu
// is held.
func (s *Rules) noteTroubles() {
	all := map[string]error{}
	for name, path := range s.inFile {
		if f := s.files[path]; f != nil && f.err != nil {
			all[name] = f.err
		}
	}
	for name, m := range s.made {
		if m.broken != nil {
			all[name] = m.broken
		}
	}
	s.troubles.Store(&all)
}

// Create makes a rule of a topic rule payload. A name that is taken is
// registry.ErrExists, a document that is wrong registry.ErrInvalid.
func (s *Rules) Create(ctx context.Context, name string, doc []byte) error {
	return s.change(name, registry.ErrExists, func() error {
		if _, ok := s.made[name]; ok {
			return refused{fmt.Errorf("rule %s exists already", name), registry.ErrExists}
		}
		return s.put(ctx, name, doc, records.CreateRule)
	})
}

// Replace gives a rule another document. No such rule is registry.ErrNotFound,
// one of a file registry.ErrConflict, a wrong document registry.ErrInvalid.
func (s *Rules) Replace(ctx context.Context, name string, doc []byte) error {
	return s.change(name, registry.ErrConflict, func() error {
		return s.put(ctx, name, doc, records.ReplaceRule)
	})
}

// Delete deletes a rule; errors are as of Replace.
func (s *Rules) Delete(ctx context.Context, name string) error {
	return s.change(name, registry.ErrConflict, func() error {
		err := inRegistry.Update(ctx, s.opts.Registry, func(tx records) error { return tx.DeleteRule(name) })
		if err != nil {
			return err
		}
		delete(s.made, name)
		return nil
	})
}

// SetDisabled disables or enables a rule; errors are as of Replace, and a rule
// that no longer compiles cannot be enabled.
func (s *Rules) SetDisabled(ctx context.Context, name string, disabled bool) error {
	return s.change(name, registry.ErrConflict, func() error {
		if why := s.made[name].broken; why != nil && !disabled {
			return refused{why, registry.ErrInvalid}
		}
		var stored registry.Rule
		err := inRegistry.Update(ctx, s.opts.Registry, func(tx records) (err error) {
			stored, err = tx.SetRuleDisabled(name, disabled)
			return err
		})
		if err == nil {
			s.made[name] = s.compile(stored)
		}
		return err
	})
}

// change runs f, which changes what is made, and puts that in force. A rule of
// a file is refused with kind.
func (s *Rules) change(name string, kind error, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return err
	}
	if path := s.inFile[name]; path != "" {
		return refused{fmt.Errorf("rule %s is declared in %s, which is where to change it", name, path), kind}
	}
	if err := f(); err != nil {
		return err
	}
	if err := s.set(); err != nil {
		return fmt.Errorf("rule %s is changed on disk, and will be in force at the next change or start: %w", name, err)
	}
	return nil
}

func (s *Rules) put(ctx context.Context, name string, doc []byte,
	store func(records, registry.Rule) (registry.Rule, error)) error {
	r, err := s.parse(name, doc)
	if err == nil {
		err = r.Never()
	}
	if err != nil {
		return refused{err, registry.ErrInvalid}
	}
	stored := registry.Rule{Name: name, Document: doc, Disabled: r.Disabled}
	err = inRegistry.Update(ctx, s.opts.Registry, func(tx records) (err error) {
		stored, err = store(tx, stored)
		return err
	})
	if err == nil {
		r.Created = stored.Created
		s.made[name] = madeRule{rule: r}
	}
	return err
}

// parse compiles a document that is to make the rule name and no other.
func (s *Rules) parse(name string, doc []byte) (*rules.Rule, error) {
	r, err := s.opts.Compiler.Parse(name, doc)
	if err == nil && r.Name != name {
		err = fmt.Errorf("rule %s: the document is of rule %s", name, r.Name)
	}
	return r, err
}

// compile makes a stored rule, as well as it can be.
func (s *Rules) compile(stored registry.Rule) madeRule {
	m := madeRule{}
	if m.rule, m.broken = s.parse(stored.Name, stored.Document); m.broken != nil {
		m.rule = &rules.Rule{Name: stored.Name}
		_ = json.Unmarshal(stored.Document, &m.rule.Payload) // what can be had of it
	}
	m.rule.Created, m.rule.Disabled, m.rule.Payload.RuleDisabled = stored.Created, stored.Disabled, stored.Disabled
	return m
}

// open reads the rules of the registry, once. mu is held.
func (s *Rules) open() error {
	if s.made != nil {
		return nil
	}
	made := map[string]madeRule{}
	err := inRegistry.View(s.opts.Registry, func(tx records) error {
		for after := ""; ; {
			page, next, err := tx.Rules(after, registry.MaxPage)
			for _, stored := range page {
				m := s.compile(stored)
				if m.broken != nil {
					s.opts.Log.Error("a rule does not compile any more and is not in force", "rule", stored.Name, "err",
						m.broken)
				} else if err := m.rule.Never(); err != nil {
					s.opts.Log.Warn("an action of a rule can only fail", "rule", stored.Name, "err", err)
				}
				made[stored.Name] = m
			}
			if after = next; err != nil || next == "" {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	s.made = made
	return nil
}

// set puts in force what is made and what files hold. mu is held. If it fails,
// which the log's disk can make it do, the next change or start tries again.
func (s *Rules) set() error {
	s.noteTroubles()
	var live, broken []*rules.Rule
	for _, m := range s.made {
		if m.broken == nil {
			live = append(live, m.rule)
		} else {
			broken = append(broken, m.rule)
		}
	}
	for _, f := range s.files {
		live = append(live, f.held...)
	}
	if err := s.opts.Engine.Set(live); err != nil {
		return errors.Join(errors.New("the rules in force are those of before"), err)
	}
	all := slices.Concat(live, broken)
	slices.SortFunc(all, func(x, y *rules.Rule) int { return strings.Compare(x.Name, y.Name) })
	s.all.Store(&all)
	return nil
}
