package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/customauth"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// Ways in, as the audit log calls what was refused.
const (
	signInMQTT        = "Connect"
	signInWebSocket   = "OpenWebSocket"
	signInAPI         = "CallAPI"
	signInCredentials = "GetCredentials"
)

// mostSignIns are the refused sign-ins of one address and kind that have a record in
// a minute. Our choice.
const mostSignIns = 5

// errRequest is wrapped by the reasons for which a request is refused, since it is
// nobody's who is known.
var errRequest = errors.New("request refused")

// A signIn is an attempt that was refused.
type signIn struct {
	way, remote, clientID string
	who                   string // a certificate's id, a user, an access key; "" for nobody
	key                   string // access key that it shows; "" for none
	proven                bool   // the signature by key holds
	err                   error
}

// refusedKinds are the kinds of reasons for which a sign-in is refused; the first
// that applies counts.
var refusedKinds = []struct {
	is   error
	kind string
}{
	{sigv4.ErrUnknownKey, "key"},
	{sigv4.ErrMismatch, "signature"},
	{sigv4.ErrTime, "signature"},
	{sigv4.ErrBoth, "signature"},
	{sigv4.ErrIncomplete, "signature"},
	{gateway.ErrBadCredentials, "certificate"},
	{gateway.ErrNotAuthorized, "rights"},
}

// refuse has the audit log keep a refused sign-in, so many of an address and kind. A
// client that could not be judged, by no fault of its own, is not refused for good
// and is in the log of the bridge alone.
func (a *Authorizer) refuse(s signIn) {
	if a.o.SignIns == nil || errors.Is(s.err, gateway.ErrUnavailable) || errors.Is(s.err, customauth.ErrFailed) {
		return
	}
	kind := "other"
	for _, k := range refusedKinds {
		if errors.Is(s.err, k.is) {
			kind = k.kind
			break
		}
	}
	r := audit.Record{Source: audit.SourceSignIn, Action: s.way, Who: s.who, Key: s.key, From: s.remote,
		Client: s.clientID, Error: s.err.Error()}
	if s.key != "" && !s.proven {
		r.Who, r.Key = audit.Claimed(s.key), ""
	}
	a.o.SignIns.Refused(s.way+" "+kind+" "+admission.AddressIn(s.remote).String()+" "+a.ownKey(s.key), mostSignIns, r)
}

// ownKey is an access key if it is one of the bridge's, so that refusals are counted
// for each, and "" for any other: those anybody can make up, without end.
func (a *Authorizer) ownKey(id string) string {
	if _, _, ok := a.Secret(id); ok || id != "" && a.o.Keys.o.Stored(id) != "" {
		return id
	}
	return ""
}

// refuseConnect is refuse for the CONNECT of an MQTT client.
func (a *Authorizer) refuseConnect(c *gateway.Connect, err error) {
	s := signIn{way: signInMQTT, clientID: c.ClientID, err: err}
	if c.Remote != nil {
		s.remote = c.Remote.String()
	}
	switch who := c.Via.Identity.(type) {
	case keyIdentity:
		s.who, s.key, s.proven = a.key(who.id, authz.Context{}).Principal(), who.id, true
	case certIdentity:
		s.who = pki.Fingerprint(who.certificate.Raw)
	case nil:
		if c.TLS != nil {
			s.who = fingerprintOf(c.TLS.PeerCertificates)
		}
	}
	a.refuse(s)
}

// RefusedRequest is told of a request to the AWS APIs that is of nobody who is
// known. keyID is whom its signature claims to be of, "" for none.
func (a *Authorizer) RefusedRequest(r *http.Request, keyID string, err error) {
	a.refuseRequest(r, signInAPI, keyID, err)
}

// refuseRequest logs who is refused by HTTPS, and has the audit log keep it.
func (a *Authorizer) refuseRequest(r *http.Request, way, keyID string, err error) {
	s := signIn{way: way, remote: r.RemoteAddr, key: keyID, err: err}
	if keyID == "" && r.TLS != nil {
		s.who = fingerprintOf(r.TLS.PeerCertificates)
	}
	a.o.Refusals.logRefusal(r.RemoteAddr, "", a.ownKey(keyID), fmt.Errorf("%w: %w", errRequest, err))
	a.refuse(s)
}

func fingerprintOf(shown []*x509.Certificate) string {
	if len(shown) == 0 {
		return ""
	}
	return pki.Fingerprint(shown[0].Raw)
}
