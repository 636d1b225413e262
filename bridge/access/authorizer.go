package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// Options are those of an Authorizer.
type Options struct {
	Account, Region string // of ARNs in policies
	Permissive      bool   // any signature by any key is taken
	Registry        *registry.Registry
	Issuer          temporaryKeys
	Keys            *Keyring
	Custom          *CustomAuthorizers
	Provision       firstConnections
	Refusals        *Refusals
	// SameOrigin says whether a request is of no browser, or of one whose page is
	// from this bridge.
	SameOrigin func(r *http.Request) bool
	// Known is told as whom the sender of a request is authenticated.
	Known func(r *http.Request, owner string)
	Log   *slog.Logger
}

// temporaryKeys derives the keys of the credential provider from their ids.
type temporaryKeys interface {
	TemporaryID(parts ...string) string
	Temporary(id string) pki.AccessKey
}

// firstConnections provisions a device by the template of its CA;
// provision.ErrNoTemplate if there is none.
type firstConnections interface {
	FirstConnection(cert *x509.Certificate) (*provision.Made, error)
}

// An Authorizer judges clients by the registry: MQTT connections, requests for a
// WebSocket, and requests that are signed or not. It implements
// gateway.Authorizer. Several goroutines may use it.
type Authorizer struct{ o Options }

// New returns an Authorizer.
func New(o Options) *Authorizer { return &Authorizer{o} }

// Connect implements gateway.Authorizer.
func (a *Authorizer) Connect(ctx context.Context, c *gateway.Connect) (gateway.Session, error) {
	var cert *x509.Certificate
	switch who := c.Via.Identity.(type) {
	case keyHolder:
		return a.connectKey(who, c)
	case stranger:
		return a.connectStranger(ctx, c, who.attempt)
	case certHolder:
		cert = who.certificate
	case nil:
		if c.TLS != nil && len(c.TLS.PeerCertificates) > 0 {
			cert = c.TLS.PeerCertificates[0]
		}
	}
	if cert == nil && a.o.Custom.Any() {
		return a.connectStranger(ctx, c, nil)
	}
	if cert == nil {
		return nil, fmt.Errorf("%w: no client certificate", gateway.ErrNotAuthorized)
	}
	s := &session{a: a, id: pki.Fingerprint(cert.Raw), clientID: c.ClientID}
	s.known = authz.Context{
		Account: a.o.Account, Region: a.o.Region, Certificate: authz.NewCertificate(s.id, cert),
		SourceIP: sourceIP(c), Persistent: !c.CleanSession,
	}
	if c.Will != nil {
		s.known.Will = c.Will.Topic
	}
	j, err := s.read()
	if errors.Is(err, registry.ErrNotFound) {
		registered, provisioned, failed := a.autoRegister(cert)
		switch {
		case errors.Is(failed, registry.ErrInvalid):
			return nil, fmt.Errorf("%w: certificate %s cannot be registered: %w", gateway.ErrBadCredentials, s.id, failed)
		case failed != nil:
			return nil, fmt.Errorf("%w: %w", gateway.ErrUnavailable, failed)
		case !registered:
			return nil, fmt.Errorf("%w: certificate %s is not registered", gateway.ErrBadCredentials, s.id)
		case !provisioned:
			return nil, fmt.Errorf("%w: certificate %s is registered now and waits to be activated", gateway.ErrBadCredentials, s.id)
		}
		j, err = s.read()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
	case j.policy == nil:
		return nil, fmt.Errorf("%w: certificate %s is not active", gateway.ErrBadCredentials, s.id)
	case !s.mayStay():
		return nil, fmt.Errorf("%w: no policy of certificate %s lets it connect as %q", gateway.ErrNotAuthorized, s.id, c.ClientID)
	}
	return s, nil
}

// A session is one connection's rights. They follow the registry: once an
// update has returned, every answer is by what it left.
type session struct {
	a        *Authorizer
	id       string // of the certificate
	clientID string
	known    authz.Context // what the registry does not know

	mu      sync.Mutex // one reads the registry at a time
	current atomic.Pointer[judgement]
}

// A judgement is what the registry said. It does not change.
type judgement struct {
	who      *registry.Identity // nil: it could not be read
	revision uint64             // of the registry, up to which this is known to hold
	thing    string
	policy   *authz.Evaluator // nil: nothing is allowed
}

// read makes the judgement anew. When the registry does not answer, the
// judgement is to refuse all until the registry changes.
func (s *session) read() (*judgement, error) {
	j := &judgement{revision: s.a.o.Registry.Revision()} // from before the read: what changes during it shows later
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

// judge returns the judgement that holds now. It reads the registry only after
// changes that concern the session.
func (s *session) judge() *judgement {
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
		s.a.o.Log.Error("registry cannot be read, client is refused", "client", s.clientID, "principal", s.id, "err", err)
	}
	return j
}

// May implements aws.Caller.
func (s *session) May(action, resource string) bool {
	j := s.judge()
	return j.policy != nil && j.policy.Allows(action, resource)
}

// mayStay says whether the client might still connect.
func (s *session) mayStay() bool { return s.May(authz.Connect, s.clientID) }

// Certificate is the id of the certificate.
func (s *session) Certificate() string { return s.id }

// Principal is the certificate's id.
func (s *session) Principal() string { return s.id }

// Owner is the certificate's id alone: what earlier releases stored of other
// kinds of owners, without their kind, is nobody's then.
func (s *session) Owner() string { return s.id }

func (s *session) Thing() string { return s.judge().thing }

func (s *session) MayPublish(topic string, retain bool) bool {
	return s.May(authz.Publish, topic) && (!retain || s.May(authz.RetainPublish, topic))
}

func (s *session) MaySubscribe(filter string) bool { return s.May(authz.Subscribe, filter) }

func (s *session) MayReceive(topic string) bool { return s.May(authz.Receive, topic) }
