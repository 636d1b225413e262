package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// An authorizer judges MQTT connections by the registry: the certificate by
// its fingerprint and state, then the policies in effect for it. It implements
// gateway.Authorizer.
type authorizer struct {
	registry *registry.Registry
	pki      *pki.PKI
	keys     *keyring
	custom   *customAuthorizers
	cfg      *config.Config
	log      *slog.Logger

	refusals  *refusals
	provision *provision.Service
}

// Connect implements gateway.Authorizer.
func (a *authorizer) Connect(ctx context.Context, c *gateway.Connect) (gateway.Session, error) {
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
	if cert == nil && a.custom.Any() {
		return a.connectStranger(ctx, c, nil)
	}
	if cert == nil {
		return nil, fmt.Errorf("%w: no client certificate", gateway.ErrNotAuthorized)
	}
	s := &session{a: a, id: pki.Fingerprint(cert.Raw), clientID: c.ClientID}
	s.known = authz.Context{
		Account: a.cfg.Account, Region: a.cfg.Region, Certificate: authz.NewCertificate(s.id, cert),
		SourceIP: hostOf(c.Remote), Persistent: !c.CleanSession,
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
	a        *authorizer
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
	j := &judgement{revision: s.a.registry.Revision()} // from before the read: what changes during it shows later
	who, err := s.a.registry.Identity(s.id, s.clientID)
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
	if j := s.current.Load(); j.revision == s.a.registry.Revision() {
		return j
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.current.Load()
	if j.who != nil {
		if revision, ok := s.a.registry.Unchanged(j.who, j.revision); ok {
			same := *j
			same.revision = revision
			s.current.Store(&same)
			return &same
		}
	}
	j, err := s.read()
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		s.a.log.Error("registry cannot be read, client is refused", "client", s.clientID, "principal", s.id, "err", err)
	}
	return j
}

func (s *session) may(action, resource string) bool {
	j := s.judge()
	return j.policy != nil && j.policy.Allows(action, resource)
}

// mayStay says whether the client might still connect.
func (s *session) mayStay() bool { return s.may(authz.Connect, s.clientID) }

// Principal is the certificate's id.
func (s *session) Principal() string { return s.id }

// Owner is the certificate's id alone: what earlier releases stored of other
// kinds of owners, without their kind, is nobody's then.
func (s *session) Owner() string { return s.id }

func (s *session) Thing() string { return s.judge().thing }

func (s *session) MayPublish(topic string, retain bool) bool {
	return s.may(authz.Publish, topic) && (!retain || s.may(authz.RetainPublish, topic))
}

func (s *session) MaySubscribe(filter string) bool { return s.may(authz.Subscribe, filter) }

func (s *session) MayReceive(topic string) bool { return s.may(authz.Receive, topic) }

// A staying session says whether its client might still connect.
type staying interface {
	gateway.Session
	mayStay() bool
}

// registryChanged has the connections ended that might not be made any more,
// such as those of a revoked certificate. All rights end with the update: the
// sessions look them up when they are used. It is called within
// registry.Update, once for each event, so what may take long is left to
// endForbiddenOnes.
func (s *Server) registryChanged(e registry.Event) {
	if e.Kind == registry.ChangeStored {
		s.registryEvents.Wake()
		return
	}
	if e.Kind == registry.AuthorizerChanged {
		s.authorizer.custom.load()
		return
	}
	select {
	case s.changed <- struct{}{}:
	default: // a look is due that will see this too
	}
}

// endForbiddenOnes looks at all connections after changes of the registry.
func (s *Server) endForbiddenOnes(ctx context.Context) error {
	for {
		select {
		case <-s.changed:
			s.endForbidden()
		case <-ctx.Done():
			return nil
		}
	}
}

// endForbidden ends the connections of clients that may not be connected.
func (s *Server) endForbidden() {
	var sessions []staying
	s.gateway.Each(func(c *gateway.Client) { sessions = append(sessions, c.Session().(staying)) })
	stay := make(map[staying]bool, len(sessions))
	for _, x := range sessions { // outside of the gateway's lock: it may take a while
		stay[x] = x.mayStay()
	}
	// Called even if all may stay, since it makes the gateway ask again about
	// connections that are just being set up.
	n := s.gateway.Disconnect(func(c *gateway.Client) bool {
		x := c.Session().(staying)
		ok, known := stay[x]
		return !ok && (known || !x.mayStay())
	}, gateway.ReasonForbidden)
	if n > 0 {
		s.log.Info("clients may not be connected any more", "disconnected", n)
	}
}
