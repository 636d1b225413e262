package provision

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// ErrResource is in the chain of the errors about what a plan finds in the
// registry: something that is there and must not be, or is not there.
var ErrResource = errors.New("provisioning: resource")

// resources is what a plan needs of a transaction of the registry.
type resources interface {
	certificates
	policies
	things
	CertificatePEM(id string) ([]byte, error)
	AttachPolicy(policy, certificate string) error
	AttachThing(thing, certificate string) error
}

type certificates interface {
	Certificate(id string) (registry.Certificate, error)
	RegisterCertificate(text []byte, status registry.Status) (registry.Certificate, error)
	RegisterSigned(text, ca []byte, status registry.Status) (registry.Certificate, error)
	SetCertificateStatus(id string, status registry.Status) error
}

type policies interface {
	Policy(name string) (registry.Policy, error)
	CreatePolicy(name string, doc []byte) error
}

type things interface {
	memberships
	Thing(name string) (registry.Thing, error)
	CreateThing(th registry.Thing) error
	UpdateThing(name string, expected uint64, f func(*registry.Thing) error) error
	SetBillingGroup(thing, group string) error
}

type memberships interface {
	AddToGroup(thing, group string) error
	RemoveFromGroup(thing, group string) error
}

// Applied is what a plan has made, or found.
type Applied struct {
	Thing       string // "": none
	Certificate string // id; "": none
	PEM         []byte // the certificate's
	Policies    []string
	// Resources are kind and name, such as thing/pump-1, by the names that the
	// template has for them.
	Resources map[string]string
}

// target is what the audit log says was made.
func (m *Applied) target() string {
	if m.Thing == "" && m.Certificate != "" {
		return "certificates/" + m.Certificate
	}
	return "things/" + m.Thing
}

// apply makes what a plan has, in one transaction. Where things are there
// already, its overrides say what becomes of them.
func (s *Service) apply(tx resources, p *Plan) (*Applied, error) {
	out := &Applied{Resources: map[string]string{}}
	if p.Certificate == (CertificatePlan{}) {
		out.Thing, out.Resources[p.Thing.resource] = p.Thing.Name, "thing/"+p.Thing.Name
		return out, thing(tx, p.Thing)
	}
	c, err := s.certificate(tx, &p.Certificate)
	if err != nil {
		return nil, err
	}
	out.Certificate, out.Resources[p.Certificate.resource] = c.ID, "cert/"+c.ID
	if out.PEM, err = tx.CertificatePEM(c.ID); err != nil {
		return nil, err
	}
	for i := range p.Policies {
		name, err := policy(tx, &p.Policies[i])
		if err != nil {
			return nil, err
		}
		if err := tx.AttachPolicy(name, c.ID); err != nil {
			return nil, err
		}
		out.Policies, out.Resources[p.Policies[i].resource] = append(out.Policies, name), "policy/"+name
	}
	if p.Thing == nil {
		return out, nil
	}
	if err := thing(tx, p.Thing); err != nil {
		return nil, err
	}
	out.Thing, out.Resources[p.Thing.resource] = p.Thing.Name, "thing/"+p.Thing.Name
	return out, tx.AttachThing(p.Thing.Name, c.ID)
}

// certificate finds or registers the plan's certificate and gives it its state.
func (s *Service) certificate(tx certificates, p *CertificatePlan) (c registry.Certificate, err error) {
	fresh := true
	switch {
	case p.ID != "":
		c, err = tx.Certificate(p.ID)
		fresh = c.Status == registry.PendingActivation
	case p.Request != "":
		issued, err := s.issuer.IssueFromCSR([]byte(p.Request), "")
		if err != nil {
			return c, err
		}
		c, err = tx.RegisterCertificate(issued.CertPEM, p.Status)
		if err != nil {
			return c, err
		}
	case p.CAPEM != "":
		c, err = tx.RegisterSigned([]byte(p.PEM), []byte(p.CAPEM), p.Status)
	default:
		c, err = tx.RegisterCertificate([]byte(p.PEM), p.Status)
	}
	if p.PEM != "" && errors.Is(err, registry.ErrExists) {
		fresh = false
		c, err = tx.Certificate(c.ID)
	}
	if err != nil || c.Status == p.Status {
		return c, err
	}
	// What waits to be activated is not somebody's decision, that an override
	// would be needed to change.
	if !fresh {
		switch p.Override {
		case Fail:
			return c, fmt.Errorf("%w: certificate %s is %s", ErrResource, c.ID, c.Status)
		case Replace:
		default:
			return c, nil
		}
	}
	return c, tx.SetCertificateStatus(c.ID, p.Status)
}

// policy finds or makes the plan's policy and returns its name: without one, the
// hash of the document.
func policy(tx policies, p *PolicyPlan) (string, error) {
	sum := sha256.Sum256([]byte(p.Document))
	name := cmp.Or(p.Name, hex.EncodeToString(sum[:]))
	_, err := tx.Policy(name)
	if p.Document != "" && errors.Is(err, registry.ErrNotFound) {
		err = tx.CreatePolicy(name, []byte(p.Document))
	}
	return name, err
}

// thing makes the plan's thing, or changes the one that is there.
func thing(tx things, p *ThingPlan) error {
	old, err := tx.Thing(p.Name)
	if errors.Is(err, registry.ErrNotFound) {
		err := tx.CreateThing(registry.Thing{Name: p.Name, Type: p.Type, Attributes: p.Attributes,
			BillingGroup: p.BillingGroup})
		if err != nil {
			return err
		}
		return join(tx, p.Name, nil, p.Groups)
	}
	if err != nil {
		return err
	}
	want := old
	want.Groups = slices.Clone(old.Groups)
	for _, x := range []struct {
		name    string
		differs bool
		replace func()
		merge   func()
	}{
		{"ThingTypeName", p.Type != "" && p.Type != old.Type, func() { want.Type = p.Type }, nil},
		{"BillingGroup", p.BillingGroup != "" && p.BillingGroup != old.BillingGroup, func() {
			want.BillingGroup = p.BillingGroup
		}, nil},
		{"AttributePayload", len(p.Attributes) > 0 && !maps.Equal(p.Attributes, old.Attributes), func() {
			want.Attributes = p.Attributes
		}, func() {
			want.Attributes = maps.Clone(p.Attributes)
			for k, v := range old.Attributes {
				if _, ok := want.Attributes[k]; !ok {
					want.Attributes[k] = v
				}
			}
		}},
		{"ThingGroups", len(p.Groups) > 0 && !sameNames(p.Groups, old.Groups), func() {
			want.Groups = p.Groups
		}, func() {
			want.Groups = append(want.Groups, p.Groups...)
		}},
	} {
		if !x.differs {
			continue
		}
		switch p.Override[x.name] {
		case Fail:
			return fmt.Errorf("%w: thing %s is there with another %s", ErrResource, p.Name, x.name)
		case Replace:
			x.replace()
		case Merge:
			x.merge()
		}
	}
	if want.Type != old.Type || !maps.Equal(want.Attributes, old.Attributes) {
		err := tx.UpdateThing(p.Name, 0, func(th *registry.Thing) error {
			th.Type, th.Attributes = want.Type, want.Attributes
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := tx.SetBillingGroup(p.Name, want.BillingGroup); err != nil {
		return err
	}
	return join(tx, p.Name, old.Groups, want.Groups)
}

// join takes a thing out of the groups that it is in and should not be, and puts
// it into the others.
func join(tx memberships, thing string, in, want []string) error {
	for _, g := range in {
		if !slices.Contains(want, g) {
			if err := tx.RemoveFromGroup(thing, g); err != nil {
				return err
			}
		}
	}
	for _, g := range want {
		if err := tx.AddToGroup(thing, g); err != nil {
			return err
		}
	}
	return nil
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
