package registry

import (
	"errors"
	"fmt"
)

// A Provision is what a new device needs to connect.
type Provision struct {
	Thing       Thing  // Name, and what else is known
	Certificate []byte // PEM, registered as ACTIVE unless it already is
	Policy      string // put on the certificate
	Document    []byte // the policy is made of it if there is none of that name
}

// Provision creates a thing, registers its certificate, and attaches it to the
// thing and a policy to it. Doing it again with the same content changes
// nothing. A certificate that is registered and not ACTIVE is ErrConflict.
func (t *Tx) Provision(p Provision) (Certificate, error) {
	if err := t.CreateThing(p.Thing); err != nil {
		return Certificate{}, err
	}
	c, err := t.RegisterCertificate(p.Certificate, Active)
	if errors.Is(err, ErrExists) {
		c, err = t.Certificate(c.ID)
	}
	if err != nil {
		return c, err
	}
	if c.Status != Active {
		return c, fmt.Errorf("certificate %s is %s: %w", c.ID, c.Status, ErrConflict)
	}
	if len(p.Document) > 0 && !t.has(bPolicies, p.Policy) {
		if err := t.CreatePolicy(p.Policy, p.Document); err != nil {
			return c, err
		}
	}
	if err := t.AttachPolicy(p.Policy, c.ID); err != nil {
		return c, err
	}
	return c, t.AttachThing(p.Thing.Name, c.ID)
}
