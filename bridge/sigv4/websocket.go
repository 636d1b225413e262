package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// deviceServices are those that devices sign the request of a WebSocket for:
// the AWS IoT SDK for Python 1 the first, all others the second.
var deviceServices = []string{"iotdata", "iotdevicegateway"}

// VerifyWebSocket verifies the query of a request to speak MQTT over WebSocket,
// as the AWS IoT device SDKs sign it. The rule was found with the signatures of
// the SDKs for Python 1 and 2 and for JavaScript 1 and 2: the query counts as
// it was sent, escaped, and the session token is added to it after signing; who
// signs the token too, or signs the query encoded anew, is understood as well.
// Host is signed as it was received, with or without a port. SDKs of version 2
// sign Connection beside it, so a proxy must keep that header.
//
// The path is /mqtt and nothing else. No other part of the query has a meaning
// to who calls this, so none can be put in.
func (v *Verifier) VerifyWebSocket(r *http.Request) (Identity, error) {
	if r.Method != http.MethodGet || r.ContentLength != 0 {
		return Identity{}, fmt.Errorf("%w: want GET without a body", ErrIncomplete)
	}
	path, raw, err := target(r)
	if err != nil {
		return Identity{}, err
	}
	if path != "/mqtt" {
		return Identity{}, fmt.Errorf("%w: want the path /mqtt", ErrIncomplete)
	}
	sig, id, err := v.Begin(r)
	switch {
	case err != nil:
		return id, err
	case !sig.said.presigned:
		return id, fmt.Errorf("%w: want it in the query", ErrMissing)
	case v.Permissive:
		return id, nil
	case sig.said.expires > WebSocketLife:
		return id, fmt.Errorf("%w: X-Amz-Expires: want at most %d seconds", ErrIncomplete, WebSocketLife/time.Second)
	case !slices.Contains(deviceServices, id.Service):
		return id, fmt.Errorf("%w: Credential should be scoped to one of the services %s", ErrMismatch,
			strings.Join(deviceServices, ", "))
	}
	s := sig.said
	headers, err := s.canonicalHeaders(r)
	if err != nil {
		return id, err
	}
	none := sha256.Sum256(nil)
	hash := hex.EncodeToString(none[:])
	canonical, err := s.canonicalRequests(r, hash)
	if err != nil {
		return id, err
	}
	for _, query := range asSent(raw) {
		canonical = append(canonical, strings.Join([]string{r.Method, path, query, headers,
			strings.Join(s.headers, ";"), hash}, "\n"))
	}
	match := 0
	for _, c := range canonical {
		match |= subtle.ConstantTimeCompare([]byte(s.sign(sig.secret, c)), []byte(s.signature))
	}
	sameToken := subtle.ConstantTimeCompare([]byte(sig.token), []byte(s.token))
	switch {
	case match == 0:
		return id, ErrMismatch
	case sameToken == 0:
		return id, ErrUnknownKey
	}
	return id, nil
}

// asSent returns the pairs of a query sorted and otherwise as they are, without
// the signature: first without the session token, then with it.
func asSent(raw string) [2]string {
	named := func(pair, name string) bool { return strings.HasPrefix(pair, name+"=") }
	pairs := slices.DeleteFunc(strings.Split(raw, "&"), func(p string) bool {
		return p == "" || named(p, "X-Amz-Signature")
	})
	slices.Sort(pairs)
	all := strings.Join(pairs, "&")
	bare := strings.Join(slices.DeleteFunc(pairs, func(p string) bool { return named(p, "X-Amz-Security-Token") }), "&")
	return [2]string{bare, all}
}

// WebSocketLife is how long a connection may last whose request was signed (AWS
// IoT Core quotas, message broker and protocol limits), and how long such a
// request may be good for.
const WebSocketLife = 24 * time.Hour
