package registry

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
)

// A Policy is a named policy with up to MaxPolicyVersions documents, of which
// the default one is in effect.
type Policy struct {
	Name     string          `json:"-"`
	Default  int             `json:"default"`
	Next     int             `json:"next"` // number of the next version: none is given twice
	Versions []PolicyVersion `json:"versions"`
	Created  time.Time       `json:"created"`
}

// A PolicyVersion is one document of a policy.
type PolicyVersion struct {
	Number  int       `json:"number"` // from 1
	Created time.Time `json:"created"`

	// Document is the entry of the document. It is never given twice, also not
	// to a policy made again under an old name, so parsed documents can be kept by it.
	Document uint64 `json:"document"`
}

func (p *Policy) version(number int) (*PolicyVersion, error) {
	if number == 0 {
		number = p.Default
	}
	for i := range p.Versions {
		if p.Versions[i].Number == number {
			return &p.Versions[i], nil
		}
	}
	return nil, fmt.Errorf("policy %s version %d: %w", p.Name, number, ErrNotFound)
}

func documentKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// addVersion stores a document as the policy's next version.
func (t *Tx) addVersion(p *Policy, doc []byte) error {
	if _, err := authz.Parse(doc); err != nil {
		return fmt.Errorf("policy %s: %w", p.Name, err)
	}
	b := t.tx.Table(bDocuments)
	id, err := b.NextSequence()
	if err != nil {
		return err
	}
	p.Versions = append(p.Versions, PolicyVersion{Number: p.Next, Created: time.Now().UTC(), Document: id})
	p.Next++
	return b.Put(documentKey(id), doc)
}

// CreatePolicy makes a policy whose version 1 is doc. An error of authz.Parse
// keeps authz.ErrMalformed in its chain. A policy of that name is ErrExists.
func (t *Tx) CreatePolicy(name string, doc []byte) error {
	if !policyName.MatchString(name) {
		return fmt.Errorf("policy name %q: %w: want 1 to 128 of a-z A-Z 0-9 _ + = , . @ -", name, ErrInvalid)
	}
	if t.has(bPolicies, name) {
		return fmt.Errorf("policy %s: %w", name, ErrExists)
	}
	p := Policy{Name: name, Default: 1, Next: 1, Created: time.Now().UTC()}
	if err := t.addVersion(&p, doc); err != nil {
		return err
	}
	t.changed(PolicyChanged, name)
	return t.put(bPolicies, name, &p)
}

// CreatePolicyVersion adds a document and returns its number. It takes effect
// only with setDefault, or SetDefaultVersion later. At MaxPolicyVersions it is
// ErrLimit.
func (t *Tx) CreatePolicyVersion(name string, doc []byte, setDefault bool) (number int, err error) {
	p, err := t.Policy(name)
	if err != nil {
		return 0, err
	}
	if len(p.Versions) >= MaxPolicyVersions {
		return 0, fmt.Errorf("policy %s has %d versions: %w", name, len(p.Versions), ErrLimit)
	}
	number = p.Next
	if err := t.addVersion(&p, doc); err != nil {
		return 0, err
	}
	if setDefault {
		p.Default = number
		t.changed(PolicyChanged, name)
	}
	return number, t.put(bPolicies, name, &p)
}

// PutPolicy makes doc the policy's document in effect: it creates the policy,
// adds a version, for which the oldest other one goes when there are
// MaxPolicyVersions, or does nothing if doc is already the default.
func (t *Tx) PutPolicy(name string, doc []byte) error {
	if !t.has(bPolicies, name) {
		return t.CreatePolicy(name, doc)
	}
	p, err := t.Policy(name)
	if err != nil {
		return err
	}
	now, err := t.PolicyDocument(name, 0)
	if err != nil {
		return err
	}
	if string(now) == string(doc) {
		return nil
	}
	if len(p.Versions) >= MaxPolicyVersions {
		for _, v := range p.Versions {
			if v.Number != p.Default {
				if err := t.DeletePolicyVersion(name, v.Number); err != nil {
					return err
				}
				break
			}
		}
	}
	_, err = t.CreatePolicyVersion(name, doc, true)
	return err
}

// SetDefaultVersion puts another version in effect.
func (t *Tx) SetDefaultVersion(name string, number int) error {
	p, err := t.Policy(name)
	if err != nil {
		return err
	}
	v, err := p.version(number)
	if err != nil || v.Number == p.Default {
		return err
	}
	p.Default = v.Number
	t.changed(PolicyChanged, name)
	return t.put(bPolicies, name, &p)
}

// DeletePolicyVersion deletes a version that is not the default (ErrConflict).
func (t *Tx) DeletePolicyVersion(name string, number int) error {
	p, err := t.Policy(name)
	if err != nil {
		return err
	}
	v, err := p.version(number)
	if err != nil {
		return err
	}
	if v.Number == p.Default {
		return fmt.Errorf("policy %s version %d is the default: %w", name, number, ErrConflict)
	}
	if err := t.tx.Table(bDocuments).Delete(documentKey(v.Document)); err != nil {
		return err
	}
	p.Versions = slices.DeleteFunc(p.Versions, func(o PolicyVersion) bool { return o.Number == number })
	return t.put(bPolicies, name, &p)
}

// DeletePolicy deletes a policy that is attached to nothing (else ErrInUse)
// and has no other version than its default (else ErrConflict).
func (t *Tx) DeletePolicy(name string) error {
	p, err := t.Policy(name)
	if err != nil {
		return err
	}
	if t.anyLink(bPolicyTargets, name) {
		return inUse("policy "+name, t.links(bPolicyTargets, name))
	}
	if len(p.Versions) > 1 {
		return fmt.Errorf("policy %s has %d versions: %w", name, len(p.Versions), ErrConflict)
	}
	for _, v := range p.Versions {
		if err := t.tx.Table(bDocuments).Delete(documentKey(v.Document)); err != nil {
			return err
		}
	}
	if err := t.deleteTags("policy/" + name); err != nil {
		return err
	}
	t.changed(PolicyChanged, name)
	return t.tx.Table(bPolicies).Delete([]byte(name))
}

// Policy returns a policy without its documents.
func (t *Tx) Policy(name string) (Policy, error) {
	p := Policy{Name: name}
	err := t.get(bPolicies, "policy", name, &p)
	return p, err
}

// PolicyDocument returns the document of a version as it was given, 0 for the
// default version.
func (t *Tx) PolicyDocument(name string, number int) ([]byte, error) {
	p, err := t.Policy(name)
	if err != nil {
		return nil, err
	}
	v, err := p.version(number)
	if err != nil {
		return nil, err
	}
	doc := t.tx.Table(bDocuments).Get(documentKey(v.Document))
	if doc == nil {
		return nil, fmt.Errorf("policy %s version %d: no document: %w", name, v.Number, ErrCorrupt)
	}
	return slices.Clone(doc), nil
}

// Policies lists policies by name; see Things.
func (t *Tx) Policies(after string, n int) (page []Policy, next string, err error) {
	next, err = t.page(bPolicies, after, n, func(key string, raw []byte) (bool, error) {
		p := Policy{Name: key}
		if err := json.Unmarshal(raw, &p); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, p)
		return true, nil
	})
	return page, next, err
}

// Targets of a policy carry their kind, since a group could be named like a
// certificate.
const (
	targetCertificate = "cert/"
	targetGroup       = "thinggroup/"
)

// AttachPolicy puts a policy on a certificate. Both must be there; again is no
// error; more than MaxCertificatePolicies is ErrLimit.
func (t *Tx) AttachPolicy(policy, certificate string) error {
	if !t.has(bCertificates, certificate) {
		return fmt.Errorf("certificate %q: %w", certificate, ErrNotFound)
	}
	return t.attach(bCertPolicies, policy, certificate, targetCertificate, MaxCertificatePolicies, CertificateChanged)
}

// DetachPolicy undoes AttachPolicy; what is not attached is ErrNotFound.
func (t *Tx) DetachPolicy(policy, certificate string) error {
	return t.detach(bCertPolicies, policy, certificate, targetCertificate, CertificateChanged)
}

// AttachGroupPolicy puts a policy on a thing group: it is in effect for the
// things in it and in the groups below. More than MaxGroupPolicies is ErrLimit.
func (t *Tx) AttachGroupPolicy(policy, group string) error {
	g, err := t.Group(group)
	if err != nil {
		return err
	}
	if g.Query != "" {
		return fmt.Errorf("thing group %s is dynamic: %w: devices write what it selects by, so it gives no rights",
			group, ErrInvalid)
	}
	return t.attach(bGroupPolicies, policy, group, targetGroup, MaxGroupPolicies, GroupChanged)
}

// DetachGroupPolicy undoes AttachGroupPolicy; what is not attached is ErrNotFound.
func (t *Tx) DetachGroupPolicy(policy, group string) error {
	return t.detach(bGroupPolicies, policy, group, targetGroup, GroupChanged)
}

func (t *Tx) attach(bucket []byte, policy, to, kind string, limit int, event Kind) error {
	if !t.has(bPolicies, policy) {
		return fmt.Errorf("policy %q: %w", policy, ErrNotFound)
	}
	if t.linked(bucket, to, policy) {
		return nil
	}
	if n := len(t.links(bucket, to)); n >= limit {
		return fmt.Errorf("%s%s has %d policies: %w", kind, to, n, ErrLimit)
	}
	t.changed(event, to)
	if err := t.addLink(bucket, to, policy); err != nil {
		return err
	}
	return t.addLink(bPolicyTargets, policy, kind+to)
}

func (t *Tx) detach(bucket []byte, policy, from, kind string, event Kind) error {
	if !t.linked(bucket, from, policy) {
		return fmt.Errorf("policy %q at %s%s: %w", policy, kind, from, ErrNotFound)
	}
	t.changed(event, from)
	if err := t.removeLink(bucket, from, policy); err != nil {
		return err
	}
	return t.removeLink(bPolicyTargets, policy, kind+from)
}

// CertificatePolicies returns the names of the policies on a certificate.
func (t *Tx) CertificatePolicies(certificate string) []string {
	return t.links(bCertPolicies, certificate)
}

// GroupPolicies returns the names of the policies on a thing group.
func (t *Tx) GroupPolicies(group string) []string { return t.links(bGroupPolicies, group) }

// PolicyTargets lists what a policy is attached to, as cert/{id} and
// thinggroup/{name}: the last part of the target's ARN. See Things for paging.
func (t *Tx) PolicyTargets(policy, after string, n int) (page []string, next string) {
	return t.pageLinks(bPolicyTargets, policy, after, n)
}
