package registry

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/authz"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// An Identity is all that the registry knows for the decision about one
// connection. It doesn't change; ask again when Unchanged says no.
type Identity struct {
	Certificate Certificate // Status must be Active to connect
	ClientID    string

	// Thing is the registered thing of the client id's name, if the certificate
	// is attached to it; else nil.
	Thing *authz.Thing

	// Documents are those in effect, of the certificate and of the thing's
	// groups. Policies and Groups name where they are from.
	Documents []*authz.Document
	Policies  []string
	Groups    []string // the thing's and all above them

	Revision uint64 // of the registry when it was read
}

// Evaluator compiles the policies in effect for a connection. ctx brings what
// the registry doesn't know; its ClientID and Thing are set here.
func (id *Identity) Evaluator(ctx authz.Context) *authz.Evaluator {
	ctx.ClientID, ctx.Thing = id.ClientID, id.Thing
	return authz.Compile(id.Documents, ctx)
}

// affectedBy says whether an event may have changed the identity, so that it
// must be read and compiled anew.
func (id *Identity) affectedBy(e Event) bool {
	switch e.Kind {
	case CertificateChanged:
		return e.Name == id.Certificate.ID
	case ThingChanged:
		return e.Name == id.ClientID
	case PolicyChanged:
		return slices.Contains(id.Policies, e.Name)
	case GroupChanged:
		return slices.Contains(id.Groups, e.Name)
	case AuthorizerChanged, ChangeStored, RecordKept, IndexingChanged:
		return false
	}
	return true
}

// Identity returns what a certificate is when it connects as clientID, in one
// read and with no scan: its cost doesn't grow with the registry. An unknown
// certificate is ErrNotFound; one that is not ACTIVE is returned, its
// documents left out, for the caller to refuse. A policy that cannot be read
// is an error, since leaving it out could leave out a Deny.
func (r *Registry) Identity(certificate, clientID string) (*Identity, error) {
	var id *Identity
	err := r.engine.View(func(tx table.Tx) (err error) {
		t := &Tx{reg: r, tx: tx}
		c, err := t.Certificate(certificate)
		if err != nil {
			return err
		}
		if c.Status != Active {
			id = &Identity{Certificate: c, ClientID: clientID, Revision: tx.ID()}
			return nil
		}
		id, err = t.who(certificate, clientID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return id, nil
}

// who is Identity without regard to the certificate's state.
func (t *Tx) who(certificate, clientID string) (id *Identity, err error) {
	id = &Identity{ClientID: clientID, Revision: t.tx.ID()}
	if id.Certificate, err = t.Certificate(certificate); err != nil {
		return nil, err
	}
	if clientID != "" && t.linked(bThingCerts, clientID, certificate) {
		if err := t.identityThing(id); err != nil {
			return nil, err
		}
	}
	id.Policies = append(id.Policies, t.links(bCertPolicies, certificate)...)
	slices.Sort(id.Policies)
	id.Policies = slices.Compact(id.Policies)
	return id, t.readDocuments(id)
}

// readDocuments adds the documents of id's policies.
func (t *Tx) readDocuments(id *Identity) error {
	for _, p := range id.Policies {
		d, err := t.document(p)
		if err != nil {
			return err
		}
		id.Documents = append(id.Documents, d)
	}
	return nil
}

// identityThing fills in the thing and its groups.
func (t *Tx) identityThing(id *Identity) error {
	th, err := t.Thing(id.ClientID)
	if errors.Is(err, ErrNotFound) {
		return nil // a client id that looks like a link
	}
	if err != nil {
		return err
	}
	id.Thing = &authz.Thing{Name: th.Name, Type: th.Type, Attributes: th.Attributes, Attached: true}
	if id.Groups, err = t.lineages(th.Groups); err != nil {
		return err
	}
	for _, g := range id.Groups {
		id.Policies = append(id.Policies, t.links(bGroupPolicies, g)...)
	}
	return nil
}

// maxDocs bounds the parsed documents that are kept: beyond it they are
// dropped and parsed again, about 0.1 ms each.
const maxDocs = 10_000

// document returns the policy's default document, parsed once.
func (t *Tx) document(policy string) (*authz.Document, error) {
	p, err := t.Policy(policy)
	if err != nil {
		return nil, err
	}
	v, err := p.version(0)
	if err != nil {
		return nil, err
	}
	t.reg.docMu.Lock()
	d := t.reg.docs[v.Document]
	t.reg.docMu.Unlock()
	if d != nil {
		return d, nil
	}
	text := t.tx.Table(bDocuments).Get(documentKey(v.Document))
	if d, err = authz.Parse(text); err != nil {
		return nil, fmt.Errorf("policy %s version %d: %w: %w", policy, v.Number, ErrCorrupt, err)
	}
	d.Name = fmt.Sprintf("%s:%d", policy, v.Number)
	t.reg.docMu.Lock()
	defer t.reg.docMu.Unlock()
	if len(t.reg.docs) >= maxDocs {
		clear(t.reg.docs)
	}
	t.reg.docs[v.Document] = d
	return d, nil
}
