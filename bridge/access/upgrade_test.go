package access

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// upgrade is a request for a WebSocket that k signed; without an id nobody did.
func upgrade(k sigv4test.Key) *http.Request {
	target := "/mqtt"
	if k.ID != "" {
		target += "?" + sigv4test.Python1.Query("localhost", k, region, time.Now())
	}
	r := by(nil, target)
	r.Method, r.Host = "GET", "localhost"
	return r
}

// first is the key of the first start.
func (s *site) first() sigv4test.Key {
	s.t.Helper()
	a, err := s.pki.ReadAccess()
	if err != nil {
		s.t.Fatal(err)
	}
	return sigv4test.Key{ID: a.First, Secret: a.Keys[a.First].Secret}
}

// A signature counts before a certificate, a certificate before nothing, and a
// page of another site gets none by the browser's certificate.
func TestUpgrade(t *testing.T) {
	s := newSite(t)
	cert, k := s.thing("pump-1", ""), s.first()
	via, err := s.Upgrade(upgrade(k))
	if who, ok := via.Identity.(keyIdentity); err != nil || !ok || who.id != k.ID || who.insecure ||
		via.Protocol != "wss" ||
		via.EndReason != gateway.ReasonWebSocket || time.Until(via.Ends) > sigv4.WebSocketLife {
		t.Errorf("signed: %+v %v", via, err)
	}
	wrong := k
	wrong.Secret = "wrong"
	if _, err := s.Upgrade(upgrade(wrong)); err == nil {
		t.Error("signed with a wrong secret")
	}
	if via, err := s.Upgrade(by(cert, "/mqtt")); via.Identity != (certIdentity{cert}) || err != nil {
		t.Errorf("a certificate: %+v %v", via, err)
	}
	if _, err := s.Upgrade(upgrade(sigv4test.Key{})); !errors.Is(err, errAnonymous) {
		t.Errorf("nobody: %v", err)
	}
	page := by(cert, "/mqtt")
	page.Header.Set("Origin", "https://evil.example")
	if _, err := s.Upgrade(page); !errors.Is(err, errOrigin) {
		t.Errorf("a page of another site: %v", err)
	}
}

// Where there are authorizers, one is asked about whom no signature or certificate
// names, when the CONNECT has come.
func TestUpgradeUnauthenticated(t *testing.T) {
	d := newService(t)
	s := newSite(t, config.Authorizer{Name: "doors", URL: d.URL, SigningDisabled: true, Default: true})
	via, err := s.Upgrade(upgrade(sigv4test.Key{}))
	if err != nil || d.Calls() != 0 {
		t.Fatalf("%v, asked %d times", err, d.Calls())
	}
	for password, ok := range map[string]bool{"open sesame": true, "wrong": false} {
		x, err := s.Connect(t.Context(), &gateway.Connect{ClientID: "x", Password: []byte(password), Via: via})
		if (err == nil) != ok || ok && x.Principal() != "visitor1" {
			t.Errorf("%s: %v %v", password, x, err)
		}
	}
	if via, err := s.Upgrade(by(s.thing("pump-1", ""), "/mqtt")); via.Identity == (unauthenticated{}) || err != nil {
		t.Errorf("a certificate: %+v %v", via, err)
	}
}

// A WebSocket of a temporary key ends before the key does.
func TestUpgradeByTemporaryKey(t *testing.T) {
	const role = "arn:aws:iam::000000000000:role/upload"
	s := newSite(t)
	cert, err := s.Unsigned(by(s.thing("pump-1", ""), "/"))
	if err != nil {
		t.Fatal(err)
	}
	key := registry.TemporaryKey{ID: "ASIATEST", Role: role, Certificate: cert.Principal(), Thing: "pump-1",
		Expires: time.Now().Add(15 * time.Minute)}
	s.update(func(tx *registry.Tx) error { return tx.AddTemporaryKey(key) })
	secret := s.pki.Temporary(key.ID)
	via, err := s.Upgrade(upgrade(sigv4test.Key{ID: key.ID, Secret: secret.Secret, Token: secret.Token}))
	if err != nil || !via.Ends.Before(key.Expires) {
		t.Errorf("ends %v after the key, %v", via.Ends.Sub(key.Expires), err)
	}
}
