package access

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// by is a request over TLS of a client with a certificate; nil: with none.
func by(cert *x509.Certificate, target string) *http.Request {
	r := httptest.NewRequest("POST", target, nil)
	r.TLS = &tls.ConnectionState{ServerName: "localhost"}
	if cert != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{cert}
	}
	return r.WithContext(WithPeer(r.Context(), nil))
}

// An unsigned request has the rights of its certificate, as they are now, and of
// nobody without one.
func TestUnsigned(t *testing.T) {
	s := newSite(t)
	cert := s.thing("pump-1", all("iot:Publish", "topic/secret"))
	r := by(cert, "/topics/a")
	c, err := s.Unsigned(r)
	if err != nil || !c.May("iot:Publish", "a") || c.May("iot:Publish", "secret") || c.Principal() != c.Owner() {
		t.Fatalf("%v %v", c, err)
	}
	again, err := s.Unsigned(r)
	if err != nil || again != c {
		t.Errorf("read anew for the same connection: %v", err)
	}
	if c, err := s.Unsigned(by(nil, "/topics/a")); c != nil || err != nil {
		t.Errorf("nobody: %v %v", c, err)
	}
	foreign := by(cert, "/topics/a")
	foreign.Header.Set("Origin", "https://evil.example")
	if _, err := s.Unsigned(foreign); !errors.Is(err, ErrForbidden) {
		t.Errorf("a page of another site: %v", err)
	}
	s.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(c.Principal(), registry.Revoked) })
	if c.May("iot:Publish", "a") {
		t.Error("a revoked certificate publishes")
	}
	if _, err := s.Unsigned(r); !errors.Is(err, ErrForbidden) {
		t.Errorf("a revoked certificate: %v", err)
	}
}

// A batch is a thing's where the certificate is attached to that one alone.
func TestAsThing(t *testing.T) {
	s := newSite(t)
	c, err := s.Unsigned(by(s.thing("pump-1", ""), "/"))
	if err != nil {
		t.Fatal(err)
	}
	asThing := c.(interface {
		AsThing() (string, gateway.Session, error)
	}).AsThing
	if name, rights, err := asThing(); name != "pump-1" || err != nil || !rights.MayPublish("dt/pump-1/x", false) ||
		rights.MayPublish("dt/pump-2/x", false) {
		t.Errorf("%q %v %v", name, rights, err)
	}
	s.update(func(tx *registry.Tx) error {
		if err := tx.CreateThing(registry.Thing{Name: "pump-2"}); err != nil {
			return err
		}
		return tx.AttachThing("pump-2", c.Principal())
	})
	if name, rights, err := asThing(); name != "" || rights != nil || err != nil {
		t.Errorf("of two things: %q %v %v", name, rights, err)
	}
}

// What an authorizer said of a request counts for the same on its connection, and
// for nothing else.
func TestCustomCallerIsCached(t *testing.T) {
	d := newService(t)
	s := newSite(t, config.Authorizer{Name: "doors", URL: d.URL, TokenKey: "x-token", SigningDisabled: true,
		Default: true, Cache: true})
	r := by(nil, "/topics/a")
	ask := func(r *http.Request, token string) (Caller, error) {
		r.Header.Set("X-Token", token)
		return s.Unsigned(r)
	}
	c, err := ask(r, "sesame")
	if err != nil || !c.May("iot:Publish", "open") || c.May("iot:Publish", "secret") ||
		c.Owner() != "authorizer/doors/visitor1" {
		t.Fatalf("%v %v", c, err)
	}
	for _, x := range []struct {
		r     *http.Request
		token string
		ok    bool
		calls int
	}{
		{r, "sesame", true, 1},
		{r, "wrong", false, 2},
		{by(nil, "/topics/a"), "sesame", true, 3}, // another connection
	} {
		if _, err := ask(x.r, x.token); (err == nil) != x.ok || d.Calls() != x.calls {
			t.Errorf("%s: %v, asked %d times, want %d", x.token, err, d.Calls(), x.calls)
		}
	}
}
