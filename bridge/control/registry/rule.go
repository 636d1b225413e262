package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// Limits of topic rules.
const (
	maxRules        = 20_000    // our choice; AWS has 1,000 unless it is asked for more (service quotas)
	maxRuleDocument = 256 << 10 // bytes, our choice: a statement is at most 64 KB
)

// ruleName is CreateTopicRule's pattern.
var ruleName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// A Rule is a topic rule that was made through the API. The registry keeps its
// document and does not read it: what a statement means is for the rules
// engine, and a rule that no longer compiles is not to be lost.
type Rule struct {
	Name     string    `json:"-"`
	Document []byte    `json:"-"` // the payload as given
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
}

func (r *Rule) check() error {
	if !ruleName.MatchString(r.Name) {
		return fmt.Errorf("rule name %q: %w: want 1 to 128 of a-z A-Z 0-9 _", r.Name, ErrInvalid)
	}
	if n := len(r.Document); n == 0 || n > maxRuleDocument {
		return fmt.Errorf("rule %s: document of %d bytes, want 1 to %d: %w", r.Name, n, maxRuleDocument, ErrInvalid)
	}
	return nil
}

// CreateRule makes a rule from Name, Document and Disabled and returns it as it
// is kept. A rule of that name is ErrExists, more than maxRules are ErrLimit.
//
// Changes of rules are no events for Watch, since no connection depends on them.
func (t *Tx) CreateRule(r Rule) (Rule, error) {
	if err := r.check(); err != nil {
		return Rule{}, err
	}
	if t.has(bRules, r.Name) {
		return Rule{}, fmt.Errorf("rule %s: %w", r.Name, ErrExists)
	}
	// The bucket's sequence counts the rules there are.
	b := t.tx.Table(bRules)
	if b.Sequence() >= maxRules {
		return Rule{}, fmt.Errorf("rule %s: there are %d: %w", r.Name, b.Sequence(), ErrLimit)
	}
	if err := b.SetSequence(b.Sequence() + 1); err != nil {
		return Rule{}, err
	}
	r.Created = time.Now().UTC()
	return r, t.putRule(&r)
}

// ReplaceRule gives a rule another Document and Disabled; Created stays. No
// rule of that name is ErrNotFound.
func (t *Tx) ReplaceRule(r Rule) (Rule, error) {
	if err := r.check(); err != nil {
		return Rule{}, err
	}
	old, err := t.Rule(r.Name)
	if err != nil {
		return Rule{}, err
	}
	r.Created = old.Created
	return r, t.putRule(&r)
}

func (t *Tx) putRule(r *Rule) error {
	if err := t.tx.Table(bRuleDocuments).Put([]byte(r.Name), r.Document); err != nil {
		return err
	}
	return t.put(bRules, r.Name, r)
}

// SetRuleDisabled disables or enables a rule.
func (t *Tx) SetRuleDisabled(name string, disabled bool) (Rule, error) {
	r, err := t.Rule(name)
	if err != nil || r.Disabled == disabled {
		return r, err
	}
	r.Disabled = disabled
	return r, t.put(bRules, name, &r)
}

// DeleteRule deletes a rule.
func (t *Tx) DeleteRule(name string) error {
	if _, err := t.Rule(name); err != nil {
		return err
	}
	b := t.tx.Table(bRules)
	if err := b.SetSequence(b.Sequence() - 1); err != nil {
		return err
	}
	if err := t.tx.Table(bRuleDocuments).Delete([]byte(name)); err != nil {
		return err
	}
	if err := t.deleteTags("rule/" + name); err != nil {
		return err
	}
	return b.Delete([]byte(name))
}

// Rule returns a rule; the caller may keep it.
func (t *Tx) Rule(name string) (Rule, error) {
	r := Rule{Name: name}
	err := t.get(bRules, "rule", name, &r)
	r.Document = bytes.Clone(t.tx.Table(bRuleDocuments).Get([]byte(name)))
	return r, err
}

// Rules lists rules by name; see Things for after, n and next.
func (t *Tx) Rules(after string, n int) (page []Rule, next string, err error) {
	next, err = t.page(bRules, after, n, func(key string, raw []byte) (bool, error) {
		r := Rule{Name: key, Document: bytes.Clone(t.tx.Table(bRuleDocuments).Get([]byte(key)))}
		if err := json.Unmarshal(raw, &r); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, r)
		return true, nil
	})
	return page, next, err
}
