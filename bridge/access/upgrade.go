package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// Who a client is known to be before its CONNECT, as gateway.Via's Identity.
type (
	// A keyIdentity signed the request of its WebSocket with an access key.
	keyIdentity struct {
		id       string
		insecure bool // there is no TLS
	}
	// A certIdentity showed a certificate in the TLS handshake below HTTP.
	certIdentity struct{ certificate *x509.Certificate }
)

var (
	errAnonymous = errors.New("want a signature in the query or a client certificate")
	errOrigin    = errors.New("a page of another site may not use the browser's certificate")
)

// Upgrade says who asks for a WebSocket, and logs who is refused. The error is for
// the client.
func (a *Authorizer) Upgrade(r *http.Request) (gateway.Via, error) {
	via, err := a.upgrading(r)
	if err != nil {
		s := signIn{way: signInWebSocket, remote: r.RemoteAddr, err: err}
		s.key, s.who = shownBy(r)
		a.o.Refusals.logRefusal(r.RemoteAddr, "", a.ownKey(s.key), fmt.Errorf("%w: %w", errUpgrade, err))
		a.refuse(s)
	}
	return via, err
}

// upgrading says who asks for a WebSocket: a signature counts first, then a
// custom authorizer that is named, then the certificate of the TLS connection,
// and then the default authorizer, or the one that the CONNECT will name.
func (a *Authorizer) upgrading(r *http.Request) (gateway.Via, error) {
	via := gateway.Via{Protocol: "wss"}
	query := r.URL.Query()
	if query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm") {
		v := sigv4.Verifier{Secret: a.Secret, Region: a.o.Region, Permissive: a.o.Permissive}
		id, err := v.VerifyWebSocket(r)
		if err != nil {
			return via, err
		}
		via.Identity, via.Ends, via.EndReason = keyIdentity{id.KeyID, r.TLS == nil},
			time.Now().Add(sigv4.WebSocketLife), gateway.ReasonWebSocket
		// A second before its key, so that the will of the client still has the
		// key's rights.
		if end := a.keyEnd(id.KeyID).Add(-time.Second); end.After(time.Time{}) && end.Before(via.Ends) {
			via.Ends = end
		}
		a.used(id.KeyID, id.Service)
		return via, nil
	}
	cert, attempt := certificate(r), attemptOf(r)
	switch {
	case a.o.Custom.Any() && (cert == nil || attempt.Named()):
		via.Identity = unauthenticated{attempt}
		return via, a.o.Custom.Check(attempt)
	case cert == nil:
		return via, errAnonymous
	case !a.o.SameOrigin(r):
		return via, errOrigin
	}
	via.Identity = certIdentity{cert}
	return via, nil
}

// keyEnd is when a key ends, zero if it does not by itself.
func (a *Authorizer) keyEnd(id string) time.Time {
	if k := a.o.People.Key(id); k != nil {
		return k.Ends
	}
	if a.isTemporary(id) {
		if k, err := a.temporaryKey(id); err == nil {
			return k.Expires
		}
	}
	return time.Time{}
}

// shownBy is the access key that a request for a WebSocket shows, which may not hold,
// or the certificate.
func shownBy(r *http.Request) (key, certificateID string) {
	if key, _, _ := strings.Cut(r.URL.Query().Get("X-Amz-Credential"), "/"); key != "" {
		return key, ""
	}
	if cert := certificate(r); cert != nil {
		return "", pki.Fingerprint(cert.Raw)
	}
	return "", ""
}
