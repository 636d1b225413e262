package server

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/websocket"
)

// Who a client is known to be before its CONNECT, as gateway.Via's Identity.
type (
	// A keyHolder signed the request of its WebSocket with an access key.
	keyHolder struct {
		id       string
		insecure bool // there is no TLS
	}
	// A certHolder showed a certificate in the TLS handshake below HTTP.
	certHolder struct{ certificate *x509.Certificate }
)

// websocketPath is AWS's.
const websocketPath = "/mqtt"

// front is the handler of the HTTPS listener: MQTT over WebSocket, and beside it
// the AWS APIs. Where signatures are not verified, pages of other sites are kept
// away: they could do all by the browser of whoever looks at them.
func (s *Server) front() http.Handler {
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// It may have had a Content-Length as well, which net/http does not
			// tell: then nobody but the client knows where the next request
			// begins, and the connection has to end (RFC 9112, 6.1).
			w.Header().Set("Connection", "close")
		}
		if r.URL.Path == websocketPath && s.broker == nil {
			s.serveWebSocket(w, r)
			return
		}
		if alias, ok := credentialsAlias(r); ok {
			s.serveCredentials(w, r, alias)
			return
		}
		s.aws.ServeHTTP(w, r)
	})
	if s.cfg.HTTPS.Permissive {
		return newHosts(s.cfg.MQTT.ServerNames).onlyKnown(all)
	}
	return all
}

// serveWebSocket makes an MQTT connection of a request. The policies are asked
// when its CONNECT has come.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	h, err := websocket.Parse(r)
	if err != nil {
		if e, ok := errors.AsType[*websocket.Error](err); ok {
			if e.Status == http.StatusUpgradeRequired && r.ProtoMajor == 1 {
				w.Header().Set("Connection", "Upgrade")
				w.Header().Set("Upgrade", "websocket")
				w.Header().Set("Sec-WebSocket-Version", "13")
			}
			s.refuseUpgrade(w, r, e.Status, "InvalidRequestException", e.Text)
		}
		return
	}
	via, err := s.upgrading(r)
	if err != nil {
		s.refusals.tell(r.RemoteAddr, "", fmt.Errorf("%w: %w", errUpgrade, err))
		s.refuseUpgrade(w, r, http.StatusForbidden, "ForbiddenException", err.Error())
		return
	}
	c, err := h.Accept(w)
	if err != nil {
		s.log.Debug("a WebSocket was not made", "remote", r.RemoteAddr, "err", err)
		return
	}
	s.carrier.carry(c, via)
}

// refuseUpgrade answers in the form of AWS's errors.
func (s *Server) refuseUpgrade(w http.ResponseWriter, r *http.Request, status int, code, text string) {
	s.carrier.refuse(status)
	s.log.Debug("WebSocket refused", "remote", r.RemoteAddr, "status", status, "err", text)
	w.Header().Set("X-Amzn-Errortype", code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": text}) // the client is gone if this fails
}

var (
	errAnonymous = errors.New("want a signature in the query or a client certificate")
	errOrigin    = errors.New("a page of another site may not use the browser's certificate")
)

// upgrading says who asks for a WebSocket: a signature counts first, then a
// custom authorizer that is named, then the certificate of the TLS connection,
// and then the default authorizer, or the one that the CONNECT will name.
func (s *Server) upgrading(r *http.Request) (gateway.Via, error) {
	via := gateway.Via{Protocol: "wss"}
	query := r.URL.Query()
	if query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm") {
		v := sigv4.Verifier{Secret: s.authorizer.secret, Region: s.cfg.Region, Permissive: s.cfg.HTTPS.Permissive}
		id, err := v.VerifyWebSocket(r)
		if err != nil {
			return via, err
		}
		via.Identity, via.Ends, via.EndReason = keyHolder{id.KeyID, peerOf(r) == nil}, time.Now().Add(sigv4.WebSocketLife), gateway.ReasonWebSocket
		if s.authorizer.isTemporary(id.KeyID) {
			// A second before its key, so that the will of the client still has
			// the key's rights.
			if k, err := s.authorizer.temporaryKey(id.KeyID); err == nil && k.Expires.Add(-time.Second).Before(via.Ends) {
				via.Ends = k.Expires.Add(-time.Second)
			}
		}
		return via, nil
	}
	certificate, attempt := peerOf(r).certificate(), attemptOf(r)
	switch {
	case s.authorizer.custom.Any() && (certificate == nil || attempt.Named()):
		via.Identity = stranger{attempt}
		return via, s.authorizer.custom.Check(attempt)
	case certificate == nil:
		return via, errAnonymous
	case !sameOrigin(r):
		return via, errOrigin
	}
	via.Identity = certHolder{certificate}
	return via, nil
}

// sameOrigin says whether r is of no browser, or of one whose page is from this
// listener: a certificate is shown whatever page asks for it.
func sameOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	return len(origins) == 0 || len(origins) == 1 && ownOrigin(r, origins[0])
}

// ownOrigin says whether origin is where r was sent to. A browser sends scheme,
// host and port and nothing else (RFC 6454, 6.2), so the texts are compared: a
// page over plain HTTP may be anybody's on the way, and is another origin.
func ownOrigin(r *http.Request, origin string) bool {
	scheme := "https://"
	if peerOf(r) == nil {
		scheme = "http://"
	}
	return strings.EqualFold(origin, scheme+r.Host)
}
