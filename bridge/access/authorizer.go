// Package access knows who a connection is and what it may do: by a client
// certificate, an access key, a temporary key, or a custom authorizer. It says so
// to the gateway for MQTT, to the listener for a request for a WebSocket, and to
// the AWS APIs.
//
// An [Authorizer] judges clients, with the keys and grants of a [Keyring], the keys
// of [Users] and the authorizers of a [CustomAuthorizers]. A [Revoker] ends the connections whose
// right to be there has gone, and [Refusals] logs who was refused, why, and what
// to do about it.
//
// Nothing that an Authorizer has allowed is kept beyond the change that takes it
// away: each session asks the registry, the grants or its authorizer's last
// verdict when it is used. Where one of these cannot be read, nothing is allowed.
package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A Registry says who a certificate is and what it may, and whether that still
// holds.
type Registry interface {
	registry.Store
	Identity(certificate, clientID string) (*registry.Identity, error)
	Revision() uint64
	Unchanged(id *registry.Identity, since uint64) (revision uint64, ok bool)
}

// Options are those of an Authorizer.
type Options struct {
	Account, Region string // of ARNs in policies
	Permissive      bool   // any signature by any key is taken
	Registry        Registry
	Issuer          temporaryKeys
	Keys            *Keyring
	Functions       *FunctionKeys // nil: functions have no keys
	People          Users
	Custom          *CustomAuthorizers
	Provision       firstConnections
	Refusals        *Refusals
	SignIns         *audit.Refusals // keeps who was not let in; nil: nobody does
	// SameOrigin says whether a request is of no browser, or of one whose page is
	// from this bridge.
	SameOrigin func(r *http.Request) bool
	// Authenticated is told as whom the sender of a request is authenticated.
	Authenticated func(r *http.Request, owner string)
	Log           *slog.Logger
}

// Users have access keys; a people.Directory has them.
type Users interface {
	Key(id string) *people.Key // nil for none that holds
	Generation() uint64        // grows with every change
	Used(id, service string)
}

// temporaryKeys derives the keys of the credential provider from their ids.
type temporaryKeys interface {
	TemporaryID(parts ...string) string
	Temporary(id string) pki.AccessKey
}

// firstConnections provisions a device by the template of its CA;
// provision.ErrNoTemplate if there is none.
type firstConnections interface {
	FirstConnection(ctx context.Context, cert *x509.Certificate) (*provision.Applied, error)
}

// An Authorizer judges clients by the registry: MQTT connections, requests for a
// WebSocket, and requests that are signed or not. It implements
// gateway.Authorizer. Several goroutines may use it.
type Authorizer struct{ o Options }

// New returns an Authorizer.
func New(o Options) *Authorizer { return &Authorizer{o} }

// Connect implements gateway.Authorizer.
func (a *Authorizer) Connect(ctx context.Context, c *gateway.Connect) (gateway.Session, error) {
	s, err := a.connect(ctx, c)
	if err != nil {
		a.refuseConnect(c, err)
	}
	return s, err
}

func (a *Authorizer) connect(ctx context.Context, c *gateway.Connect) (gateway.Session, error) {
	var cert *x509.Certificate
	switch who := c.Via.Identity.(type) {
	case keyIdentity:
		return a.connectKey(who, c)
	case unauthenticated:
		return a.connectUnauthenticated(ctx, c, who.attempt)
	case certIdentity:
		cert = who.certificate
	case nil:
		if c.TLS != nil && len(c.TLS.PeerCertificates) > 0 {
			cert = c.TLS.PeerCertificates[0]
		}
	}
	if cert == nil && a.o.Custom.Any() {
		return a.connectUnauthenticated(ctx, c, nil)
	}
	if cert == nil {
		return nil, fmt.Errorf("%w: no client certificate", gateway.ErrNotAuthorized)
	}
	return a.connectCertificate(cert, c)
}

// connectCertificate is Connect for a client with a certificate, which may be
// registered by this.
func (a *Authorizer) connectCertificate(cert *x509.Certificate, c *gateway.Connect) (gateway.Session, error) {
	s := newCertSession(a, cert, c.ClientID, connectContext(c))
	j, err := s.read()
	if errors.Is(err, registry.ErrNotFound) {
		registered, provisioned, failed := a.autoRegister(cert, c)
		switch {
		case errors.Is(failed, registry.ErrInvalid):
			return nil, fmt.Errorf("%w: certificate %s cannot be registered: %w", gateway.ErrBadCredentials, s.id,
				failed)
		case failed != nil:
			return nil, fmt.Errorf("%w: %w", gateway.ErrUnavailable, failed)
		case !registered:
			return nil, fmt.Errorf("%w: certificate %s is not registered", gateway.ErrBadCredentials, s.id)
		case !provisioned:
			return nil, fmt.Errorf("%w: certificate %s is registered now and waits to be activated",
				gateway.ErrBadCredentials, s.id)
		}
		j, err = s.read()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
	case j.policy == nil:
		return nil, fmt.Errorf("%w: certificate %s is not active", gateway.ErrBadCredentials, s.id)
	case !s.mayConnect():
		return nil, fmt.Errorf("%w: no policy of certificate %s lets it connect as %q", gateway.ErrNotAuthorized, s.id,
			c.ClientID)
	}
	return s, nil
}

// Adopts says whether a client may have the session of its client id that was
// stored before sessions had owners. Where that id is a thing with certificates it
// is the thing's alone: others whose policies allow the id, such as a claim of that
// time, would get what waits for it, or end it.
func (a *Authorizer) Adopts(x gateway.Session, clientID string) bool {
	if x.Thing() == clientID {
		return true
	}
	others := true
	err := view(a.o.Registry, func(tx records) error {
		others = len(tx.ThingCertificates(clientID)) > 0
		return nil
	})
	return err == nil && !others
}
