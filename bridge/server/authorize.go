package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// An authorizer judges MQTT connections by the registry: the certificate by
// its fingerprint and state, then the policies attached to it. It implements
// gateway.Authorizer.
type authorizer struct {
	registry *registry.Registry
	cfg      *config.Config
	log      *slog.Logger
}

// Connect implements gateway.Authorizer.
func (a *authorizer) Connect(_ context.Context, c *gateway.Connect) (gateway.Session, error) {
	if c.TLS == nil || len(c.TLS.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: no client certificate", gateway.ErrNotAuthorized)
	}
	s := &session{a: a, cert: c.TLS.PeerCertificates[0], connect: c}
	s.id = pki.Fingerprint(s.cert.Raw)
	j, err := s.judge()
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, fmt.Errorf("%w: certificate %s is not registered", gateway.ErrNotAuthorized, s.id)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
	case !j.active:
		return nil, fmt.Errorf("%w: certificate %s is not active", gateway.ErrNotAuthorized, s.id)
	case !j.policy.Allows(authz.Connect, c.ClientID):
		return nil, fmt.Errorf("%w: no policy of certificate %s lets it connect as %q", gateway.ErrNotAuthorized, s.id, c.ClientID)
	}
	return s, nil
}

// A session is one connection's rights. They follow the registry while the
// connection lives.
type session struct {
	a       *authorizer
	id      string // of the certificate
	cert    *x509.Certificate
	connect *gateway.Connect
	current atomic.Pointer[judgement]
}

// A judgement is what the registry said at one time.
type judgement struct {
	revision uint64 // of the registry
	active   bool
	thing    string
	policy   *authz.Evaluator
}

// judge returns the current judgement, read anew if the registry has changed.
func (s *session) judge() (*judgement, error) {
	if j := s.current.Load(); j != nil && j.revision == s.a.registry.Revision() {
		return j, nil
	}
	who, err := s.a.registry.Identity(s.id, s.connect.ClientID)
	if err != nil {
		return nil, err
	}
	ctx := authz.Context{
		Account: s.a.cfg.Account, Region: s.a.cfg.Region, Certificate: authz.NewCertificate(s.id, s.cert),
		SourceIP: hostOf(s.connect.Remote), Persistent: !s.connect.CleanSession,
	}
	if w := s.connect.Will; w != nil {
		ctx.Will = w.Topic
	}
	j := &judgement{revision: who.Revision, active: who.Certificate.Status == registry.Active, policy: who.Evaluator(ctx)}
	if who.Thing != nil {
		j.thing = who.Thing.Name
	}
	s.current.Store(j)
	return j, nil
}

// may decides; what cannot be read is refused.
func (s *session) may(action, resource string) bool {
	j, err := s.judge()
	if err != nil {
		s.a.log.Warn("policy could not be read", "client", s.connect.ClientID, "err", err)
		return false
	}
	return j.active && j.policy.Allows(action, resource)
}

// Principal is the certificate's id.
func (s *session) Principal() string { return s.id }

func (s *session) Thing() string {
	if j, err := s.judge(); err == nil {
		return j.thing
	}
	return ""
}

func (s *session) MayPublish(topic string, retain bool) bool {
	return s.may(authz.Publish, topic) && (!retain || s.may(authz.RetainPublish, topic))
}

func (s *session) MaySubscribe(filter string) bool { return s.may(authz.Subscribe, filter) }

func (s *session) MayReceive(topic string) bool { return s.may(authz.Receive, topic) }
