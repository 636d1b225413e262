package access

import (
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A certSession has the rights of a certificate: of one MQTT connection, or by
// HTTPS. They follow the registry: once an update has returned, every answer is
// by what it left. It implements gateway.Session and Caller.
type certSession struct {
	topicRights
	a        *Authorizer
	id       string // of the certificate
	clientID string
	known    authz.Context // what the registry does not know

	mu      sync.Mutex // one reads the registry at a time
	current atomic.Pointer[certRights]
}

// certRights are what the registry said at a revision. They do not change.
type certRights struct {
	who      *registry.Identity // nil: it could not be read
	revision uint64             // of the registry, up to which this is known to hold
	thing    string
	policy   *authz.Evaluator // nil: nothing is allowed
}

// newCertSession returns a session whose rights are not read yet; known is what
// there is to know beside the certificate and whose bridge this is.
func newCertSession(a *Authorizer, cert *x509.Certificate, clientID string, known authz.Context) *certSession {
	s := &certSession{a: a, id: pki.Fingerprint(cert.Raw), clientID: clientID, known: known}
	s.known.Account, s.known.Region, s.known.Certificate = a.o.Account, a.o.Region, authz.NewCertificate(s.id, cert)
	s.topicRights = topicRights{s}
	return s
}

// read reads the rights anew. When the registry does not answer, nothing is
// allowed until the registry changes.
func (s *certSession) read() (*certRights, error) {
	j := &certRights{revision: s.a.o.Registry.Revision()} // from before the read: what changes during it shows later
	who, err := s.a.o.Registry.Identity(s.id, s.clientID)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		j.who = &registry.Identity{Certificate: registry.Certificate{ID: s.id}, ClientID: s.clientID}
	case err == nil:
		j.who, j.revision = who, who.Revision
		if who.Thing != nil {
			j.thing = who.Thing.Name
		}
		if who.Certificate.Status == registry.Active {
			j.policy = who.Evaluator(s.known)
		}
	}
	s.current.Store(j)
	return j, err
}

// rights returns the rights that hold now. It reads the registry only after
// changes that concern the session.
func (s *certSession) rights() *certRights {
	if j := s.current.Load(); j.revision == s.a.o.Registry.Revision() {
		return j
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.current.Load()
	if j.who != nil {
		if revision, ok := s.a.o.Registry.Unchanged(j.who, j.revision); ok {
			same := *j
			same.revision = revision
			s.current.Store(&same)
			return &same
		}
	}
	j, err := s.read()
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		s.a.o.Log.Error("registry cannot be read, client is refused", "client", s.clientID, "principal", s.id, "err",
			err)
	}
	return j
}

// May implements Caller.
func (s *certSession) May(action, resource string) bool {
	j := s.rights()
	return j.policy != nil && j.policy.Allows(action, resource)
}

// mayConnect says whether the client might still connect.
func (s *certSession) mayConnect() bool { return s.May(authz.Connect, s.clientID) }

// Certificate is the id of the certificate.
func (s *certSession) Certificate() string { return s.id }

// Principal is the certificate's id.
func (s *certSession) Principal() string { return s.id }

// Owner is the certificate's id alone: what earlier releases stored of other
// kinds of owners, without their kind, is nobody's then.
func (s *certSession) Owner() string { return s.id }

// Thing implements gateway.Session.
func (s *certSession) Thing() string { return s.rights().thing }

// AsThing returns the one thing that the certificate is attached to, and its rights
// as if the thing was connected; no rights if there is not one.
func (s *certSession) AsThing() (name string, rights gateway.Session, err error) {
	var things []string
	err = view(s.a.o.Registry, func(tx records) error {
		things = tx.CertificateThings(s.id)
		return nil
	})
	if err != nil || len(things) != 1 {
		return "", nil, err
	}
	thing := &certSession{a: s.a, id: s.id, clientID: things[0], known: s.known}
	thing.topicRights = topicRights{thing}
	if _, err := thing.read(); err != nil {
		return "", nil, err
	}
	return thing.clientID, thing, nil
}
