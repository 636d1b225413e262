package declare

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A ruleFile is what Rules knows of a file of rules.
type ruleFile struct {
	sum  [sha256.Size]byte
	good []*rules.Rule // of the content whose sum it is; nil if that is wrong
	held []*rules.Rule // in force: good, or what is left of an earlier content
	err  error         // why good is not in force
}

// apply puts the rules of the files in force, in the place of all that files
// declared before. A file counts as a whole: one that is wrong, or declares a
// rule that is declared elsewhere, has its err, and what it held before stays.
// Where two files declare the same rule, the one that held it before has it,
// else the first by name; a rule that was made through the API stays.
func (s *Rules) apply(files []file) (map[string]*ruleFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return nil, err
	}
	next, inFile := make(map[string]*ruleFile, len(files)), map[string]string{}
	hold := func(path string, rs []*rules.Rule) {
		for _, r := range rs {
			if inFile[r.Name] == "" && s.made[r.Name].rule == nil {
				inFile[r.Name] = path
				next[path].held = append(next[path].held, r)
			}
		}
	}
	var changed []file
	for _, f := range files {
		old := s.files[f.path]
		if old == nil {
			old = &ruleFile{}
		}
		n := s.read(f, old)
		next[f.path] = n
		switch {
		case n.err != nil:
			hold(f.path, old.held)
		case n.sum == old.sum && old.err == nil:
			hold(f.path, n.good)
		default:
			changed = append(changed, f)
		}
	}
	for _, f := range changed {
		n := next[f.path]
		for _, r := range n.good {
			switch other := inFile[r.Name]; {
			case s.made[r.Name].rule != nil:
				n.err = takenError{fmt.Errorf(
					"rule %s was made through the API; delete it there, or give this one another name", r.Name)}
			case other != "":
				n.err = takenError{fmt.Errorf("rule %s is in %s already", r.Name, other)}
			}
		}
		if n.err == nil {
			hold(f.path, n.good)
		} else if old := s.files[f.path]; old != nil {
			hold(f.path, old.held)
		}
	}
	s.files, s.inFile = next, inFile
	return next, s.set()
}

// keep leaves the rules of files as they are. At the start those that were
// made through the API come into force.
func (s *Rules) keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.open(), s.set())
}

// stored returns a rule of the registry or of the files, without putting
// anything in force.
func (s *Rules) stored(name string) (*rules.Rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return nil, err
	}
	if m, ok := s.made[name]; ok {
		return m.rule, m.broken
	}
	files, err := readFolder(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.err != nil {
			continue
		}
		all, err := s.parseFile(f)
		if err != nil {
			s.opts.Log.Warn("a file of rules is refused", "file", f.path, "err", err)
			continue
		}
		for _, r := range all {
			if r.Name == name {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("rule %s: %w", name, registry.ErrNotFound)
}

// read compiles what a file says. Content that is known to be good is not
// compiled again, so that its rules stay the same ones.
func (s *Rules) read(f file, old *ruleFile) *ruleFile {
	n := &ruleFile{sum: f.sum, err: f.err}
	if n.err != nil {
		return n
	}
	if old.good != nil && old.sum == f.sum {
		n.good = old.good
		return n
	}
	if n.good, n.err = s.parseFile(f); n.err != nil {
		return n
	}
	if n.err = never(n.good); n.err != nil && s.files == nil {
		// A rule that was in force before the start stays so: its other actions do.
		s.opts.Log.Warn("an action of a file of rules can only fail", "file", f.path, "err", n.err)
		n.err = nil
	}
	if n.err != nil {
		n.good = nil
	}
	return n
}

// never says which actions of rules can only fail.
func never(all []*rules.Rule) error {
	var errs []error
	for _, r := range all {
		errs = append(errs, r.Never())
	}
	return errors.Join(errs...)
}

// parseFile reads one rule, which is named after its file unless the document
// names it, or an array of documents that each name theirs.
func (s *Rules) parseFile(f file) ([]*rules.Rule, error) {
	all, names := []*rules.Rule{}, map[string]bool{}
	add := func(name string, doc []byte) error {
		r, err := s.opts.Compiler.Parse(name, doc)
		if err != nil {
			return err
		}
		if names[r.Name] {
			return fmt.Errorf("rule %s is in this file twice", r.Name)
		}
		names[r.Name] = true
		r.File, r.Created = f.path, f.modified
		all = append(all, r)
		return nil
	}
	if !bytes.HasPrefix(bytes.TrimSpace(f.doc), []byte("[")) {
		if err := add(strings.TrimSuffix(filepath.Base(f.path), ".json"), f.doc); err != nil {
			return nil, err
		}
		return all, nil
	}
	var docs []json.RawMessage
	if err := strictjson.Decode(f.doc, &docs); err != nil {
		return nil, err
	}
	for i, doc := range docs {
		var named struct {
			RuleName         string          `json:"ruleName"`
			TopicRulePayload json.RawMessage `json:"topicRulePayload"`
		}
		if json.Unmarshal(doc, &named) != nil || named.RuleName == "" || named.TopicRulePayload == nil {
			return nil, fmt.Errorf(`[%d]: want {"ruleName": …, "topicRulePayload": {"sql": …, "actions": …}}`, i)
		}
		if err := add(named.RuleName, doc); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return all, nil
}
