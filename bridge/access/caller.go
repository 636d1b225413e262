package access

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/admission"
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
	// Person has the rights of the key's user, nil for a key of a file or of the
	// credential provider.
	Person() *people.Rights
}

// ErrForbidden is what an unsigned request is refused with.
var ErrForbidden = errors.New("forbidden")

// A peer is what is cached for a connection that carries HTTP.
type peer struct {
	mu      sync.Mutex     // guards what follows
	session *certSession   // of its certificate; nil: not read yet
	last    *cachedSession // of a custom authorizer; nil: none
}

// peerKey is that of a connection's *peer in the context of its requests.
type peerKey struct{}

// WithPeer makes the context of a connection's requests, in which what is found
// out about its client is cached. It is an http.Server's ConnContext.
func WithPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, new(peer))
}

// peerOf is the cache of a request's connection.
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

// caller has the rights of the connection's certificate, nil for none. Its
// rights follow the registry, as those of MQTT connections do.
func (p *peer) caller(a *Authorizer, r *http.Request) (Caller, error) {
	cert := certificate(r)
	if cert == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		s := newCertSession(a, cert, "", authz.Context{SourceIP: admission.Host(r.RemoteAddr)})
		if _, err := s.read(); err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
		p.session = s
	}
	if p.session.rights().policy == nil {
		return nil, ErrForbidden
	}
	return p.session, nil
}

// Unsigned says who sent a request that is not signed, nil for nobody: whom an
// authorizer knows that the client names, the holder of a certificate, or whom
// the default authorizer knows.
func (a *Authorizer) Unsigned(r *http.Request) (Caller, error) {
	if a.o.Custom.Any() && (certificate(r) == nil || attemptOf(r).Named()) {
		return a.customCaller(r)
	}
	if certificate(r) != nil && !a.o.SameOrigin(r) {
		return nil, fmt.Errorf("%w: %w", ErrForbidden, errOrigin)
	}
	return peerOf(r).caller(a, r)
}

// A cachedSession is the verdict on what one HTTPS connection showed last.
type cachedSession struct {
	of      [sha256.Size]byte // what the client showed
	session *customSession
	until   time.Time
}

// customCaller asks a custom authorizer about an HTTPS request, or takes its
// cached answer about the same on this connection.
func (a *Authorizer) customCaller(r *http.Request) (Caller, error) {
	attempt := attemptOf(r)
	p := peerOf(r)
	key, err := json.Marshal(attempt.HTTP.Same())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	if s := p.cached(sum); s != nil {
		return s, nil
	}
	v, err := a.o.Custom.Ask(r.Context(), attempt)
	if err != nil {
		a.o.Log.LogAttrs(r.Context(), slog.LevelDebug, "request refused", slog.String("remote", r.RemoteAddr),
			slog.Any("err", err))
		return nil, ErrForbidden
	}
	s := newCustomSession(a, attempt, v, authz.Context{Account: a.o.Account, Region: a.o.Region,
		SourceIP: admission.Host(r.RemoteAddr), Insecure: !attempt.TLS})
	if v.Cache {
		p.cache(sum, s, min(v.Refresh, v.Disconnect))
	}
	return s, nil
}

// cached returns the session of a client that showed the same before, nil for
// none.
func (p *peer) cached(sum [sha256.Size]byte) *customSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || p.last.of != sum || !time.Now().Before(p.last.until) {
		return nil
	}
	return p.last.session
}

// cache keeps the session for the connection; it replaces the one before.
func (p *peer) cache(sum [sha256.Size]byte, s *customSession, life time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = &cachedSession{sum, s, time.Now().Add(life)}
}

// connectContext is what policies see of an MQTT client, by its CONNECT alone.
func connectContext(c *gateway.Connect) authz.Context {
	known := authz.Context{ClientID: c.ClientID, Persistent: !c.CleanSession}
	if c.Remote != nil {
		known.SourceIP = admission.Host(c.Remote.String())
	}
	if c.Will != nil {
		known.Will = c.Will.Topic
	}
	return known
}
