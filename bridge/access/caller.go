package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A Caller may do what policy allows it to, by HTTPS.
type Caller interface {
	Principal() string
	// Owner names the caller among those of all kinds.
	Owner() string
	// May says whether policy allows an action of package authz.
	May(action, resource string) bool
}

// A KeyCaller has the rights of an access key.
type KeyCaller interface {
	Caller
	// Whole says whether these are all there are.
	Whole() bool
}

// ErrForbidden is what an unsigned request is refused with.
var ErrForbidden = errors.New("forbidden")

// A peer is the other end of a connection that carries HTTP.
type peer struct {
	mu     sync.Mutex  // guards what follows
	holder *session    // by its certificate; nil: not asked for yet
	last   *remembered // that an authorizer let in; nil: none
}

// peerKey is that of a connection's *peer in the context of its requests.
type peerKey struct{}

// WithPeer makes the context of a connection's requests.
func WithPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, new(peer))
}

// peerOf is the other end of a request's connection.
func peerOf(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p
	}
	return new(peer)
}

// certificate is what a client showed in the TLS handshake, nil for none.
func certificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// caller is the holder of the connection's certificate, nil for none. Its
// rights follow the registry, as those of MQTT connections do.
func (p *peer) caller(a *Authorizer, r *http.Request) (Caller, error) {
	cert := certificate(r)
	if cert == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holder == nil {
		s := &session{a: a, id: pki.Fingerprint(cert.Raw)}
		s.known = authz.Context{Account: a.o.Account, Region: a.o.Region, Certificate: authz.NewCertificate(s.id, cert), SourceIP: addressOf(r.RemoteAddr)}
		if _, err := s.read(); err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
		p.holder = s
	}
	if p.holder.judge().policy == nil {
		return nil, ErrForbidden
	}
	return p.holder, nil
}

// AsThing returns the one thing that the certificate is attached to, and its rights
// as if the thing was connected; no rights if there is not one.
func (s *session) AsThing() (name string, rights gateway.Session, err error) {
	var things []string
	err = s.a.o.Registry.View(func(tx *registry.Tx) error {
		things = tx.CertificateThings(s.id)
		return nil
	})
	if err != nil || len(things) != 1 {
		return "", nil, err
	}
	thing := &session{a: s.a, id: s.id, clientID: things[0], known: s.known}
	if _, err := thing.read(); err != nil {
		return "", nil, err
	}
	return thing.clientID, thing, nil
}

// Unsigned says who sent a request that is not signed, nil for nobody: whom an
// authorizer knows that the client names, the holder of a certificate, or whom
// the default authorizer knows.
func (a *Authorizer) Unsigned(r *http.Request) (Caller, error) {
	if a.o.Custom.Any() && (certificate(r) == nil || attemptOf(r).Named()) {
		return a.guestOf(r)
	}
	if certificate(r) != nil && !a.o.SameOrigin(r) {
		return nil, fmt.Errorf("%w: %w", ErrForbidden, errOrigin)
	}
	return peerOf(r).caller(a, r)
}

// addressOf is a remote address without its port, "" if it is none.
func addressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return ""
	}
	return host
}

// sourceIP is the address of an MQTT client without its port, "" if it has none.
func sourceIP(c *gateway.Connect) string {
	if c.Remote == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(c.Remote.String())
	if err != nil {
		return c.Remote.String()
	}
	return host
}
