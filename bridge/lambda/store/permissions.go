package store

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda"
)

// maxPolicy is the most bytes of a function's policy (Lambda quotas).
const maxPolicy = 20 << 10

// A Permission is a statement of the policy of a function, a version or an alias: that a
// service may call it. It restricts nobody.
type Permission struct {
	ID            string `json:"id"`
	Action        string `json:"action"`
	Service       string `json:"service"` // iot.amazonaws.com
	SourceARN     string `json:"source_arn,omitempty"`
	SourceAccount string `json:"source_account,omitempty"`
}

var (
	statementPattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,100}$`)
	actionPattern    = regexp.MustCompile(`^(lambda:[*]|lambda:[a-zA-Z]+|[*])$`)
	servicePattern   = regexp.MustCompile(`^[a-z0-9.-]{1,128}\.amazonaws\.com(\.cn)?$`)
	accountPattern   = regexp.MustCompile(`^[0-9]{12}$`)
)

func (p *Permission) check() error {
	switch {
	case !statementPattern.MatchString(p.ID):
		return fmt.Errorf("%w: StatementId %.120q, want 1 to 100 letters, digits, - and _", ErrInvalid, p.ID)
	case !actionPattern.MatchString(p.Action):
		return fmt.Errorf("%w: Action %.100q, want one of lambda, such as lambda:InvokeFunction", ErrInvalid, p.Action)
	case !servicePattern.MatchString(p.Service):
		return fmt.Errorf("%w: Principal %.200q, want a service such as iot.amazonaws.com: users of the bridge call "+
			"functions by their own policies, and other accounts do not", ErrInvalid, p.Service)
	case p.SourceARN != "" && !arn.Is(p.SourceARN):
		return fmt.Errorf("%w: SourceArn %.200q, want an ARN", ErrInvalid, p.SourceARN)
	case p.SourceAccount != "" && !accountPattern.MatchString(p.SourceAccount):
		return fmt.Errorf("%w: SourceAccount %.20q, want 12 digits", ErrInvalid, p.SourceAccount)
	}
	return nil
}

// document is the statement in the form of AWS's policies.
func (p *Permission) document(resource string) map[string]any {
	doc := map[string]any{"Sid": p.ID, "Effect": "Allow", "Principal": map[string]string{"Service": p.Service},
		"Action": p.Action, "Resource": resource}
	conditions := map[string]any{}
	if p.SourceARN != "" {
		conditions["ArnLike"] = map[string]string{"AWS:SourceArn": p.SourceARN}
	}
	if p.SourceAccount != "" {
		conditions["StringEquals"] = map[string]string{"AWS:SourceAccount": p.SourceAccount}
	}
	if len(conditions) > 0 {
		doc["Condition"] = conditions
	}
	return doc
}

// A Policy is what a qualifier of a function has of permissions.
type policy struct {
	Revision   string       `json:"revision"`
	Statements []Permission `json:"statements"`
}

func (s *Store) policyDocument(name, qualifier string, p *policy) (string, error) {
	var all []map[string]any
	for i := range p.Statements {
		all = append(all, p.Statements[i].document(s.ARN(name, qualifier)))
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Id": "default", "Statement": all})
	return string(text), err
}

// AddPermission adds a statement to the policy of a function's qualifier, "" for the
// function itself, and returns it in the form of AWS's policies. A revision, if it is not
// "", must be the policy's.
func (s *Store) AddPermission(name, qualifier, revision string, add Permission) (statement string, err error) {
	if err := add.check(); err != nil {
		return "", err
	}
	_, err = s.update(name, func(r *record) error {
		if r.resolve(qualifier) == nil {
			return fmt.Errorf("%w: %s", lambda.ErrNotFound, s.ARN(name, qualifier))
		}
		p := r.policy(qualifier)
		if err := is(p.Revision, revision); err != nil {
			return err
		}
		if slices.ContainsFunc(p.Statements, func(x Permission) bool { return x.ID == add.ID }) {
			return fmt.Errorf("the statement id (%s) provided: %w", add.ID, ErrExists)
		}
		p.Revision, p.Statements = uuid.NewString(), append(slices.Clone(p.Statements), add)
		text, err := s.policyDocument(name, qualifier, &p)
		if err == nil && len(text) > maxPolicy {
			err = fmt.Errorf("%w: the policy would have %d bytes, want at most %d", ErrPolicyFull, len(text), maxPolicy)
		}
		if err != nil {
			return err
		}
		r.Policies[qualifier] = &p
		return nil
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(add.document(s.ARN(name, qualifier)))
	return string(text), err
}

// policy is a copy of that of a qualifier.
func (r *record) policy(qualifier string) policy {
	if r.Policies == nil {
		r.Policies = map[string]*policy{}
	}
	if p := r.Policies[qualifier]; p != nil {
		return *p
	}
	return policy{}
}

// RemovePermission takes a statement away; lambda.ErrNotFound if there is none.
func (s *Store) RemovePermission(name, qualifier, revision, id string) error {
	_, err := s.update(name, func(r *record) error {
		p := r.policy(qualifier)
		at := slices.IndexFunc(p.Statements, func(x Permission) bool { return x.ID == id })
		if at < 0 {
			return fmt.Errorf("%w: statement %.120s is not found in the policy of %s", lambda.ErrNotFound, id,
				s.ARN(name, qualifier))
		}
		if err := is(p.Revision, revision); err != nil {
			return err
		}
		p.Revision, p.Statements = uuid.NewString(), slices.Delete(slices.Clone(p.Statements), at, at+1)
		if r.Policies[qualifier] = &p; len(p.Statements) == 0 {
			delete(r.Policies, qualifier)
		}
		return nil
	})
	return err
}

// Policy returns the policy of a function's qualifier; lambda.ErrNotFound if it has none.
func (s *Store) Policy(name, qualifier string) (document, revision string, err error) {
	r, err := s.get(name)
	if err != nil {
		return "", "", err
	}
	p := r.Policies[qualifier]
	if p == nil {
		return "", "", fmt.Errorf("%w: the resource %s has no policy", lambda.ErrNotFound, s.ARN(name, qualifier))
	}
	document, err = s.policyDocument(name, qualifier, p)
	return document, p.Revision, err
}
