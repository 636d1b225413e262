package access

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/bridge/control/webhook"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	account = "000000000000"
	region  = "eu-local-1"
)

// A site is a registry, an authority and an Authorizer of both.
type site struct {
	*Authorizer
	t        testing.TB
	dir      string
	pki      *pki.PKI
	registry *registry.Registry
	people   *people.Directory
	access   []config.Access // what OpenKeyring and Load read
	known    []string        // owners that were authenticated
	log      logged
}

// logged is what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newSite makes one, with custom authorizers.
func newSite(t testing.TB, authorizers ...config.Authorizer) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	log := slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if s.pki, err = pki.Open(filepath.Join(s.dir, "pki"), pki.Options{}); err != nil {
		t.Fatal(err)
	}
	if s.registry, err = registrytest.Open(filepath.Join(s.dir, "registry.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.registry.Close() })
	if s.people, err = people.Open(s.registry, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.people.Close() })
	keys, err := OpenKeyring(KeyringOptions{PKI: s.pki, Dir: filepath.Join(s.dir, "pki"), Stored: s.people.Owner,
		Configured: func() ([]config.Access, error) { return s.access, nil }, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	custom, err := OpenCustomAuthorizers(authorizers, nil, webhook.None{}, s.registry, func(string, error) {}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(custom.Close)
	s.Authorizer = New(Options{Account: account, Region: region, Registry: s.registry, Issuer: s.pki, Keys: keys,
		Custom: custom, People: s.people,
		Refusals: NewRefusals(log), SameOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" },
		Authenticated: func(_ *http.Request, owner string) { s.known = append(s.known, owner) }, Log: log})
	return s
}

func (s *site) update(f func(*registry.Tx) error) {
	s.t.Helper()
	if err := s.registry.Update(f); err != nil {
		s.t.Fatal(err)
	}
}

// thing registers a certificate for a thing of that name, with a policy; with ""
// it is the standard one.
func (s *site) thing(name, policy string) *x509.Certificate {
	s.t.Helper()
	issued, err := s.pki.Issue(name)
	if err != nil {
		s.t.Fatal(err)
	}
	p := registry.Provision{Thing: registry.Thing{Name: name}, Certificate: issued.CertPEM, Policy: "of-" + name,
		Document: []byte(policy)}
	if policy == "" {
		p.Policy, p.Document = authz.ThingPolicyName, authz.ThingPolicy(account, region)
	}
	s.update(func(tx *registry.Tx) error { _, err := tx.Provision(p); return err })
	block, _ := pem.Decode(issued.CertPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

// connect asks for a client with a certificate, as the gateway does.
func (s *site) connect(cert *x509.Certificate, clientID string) (gateway.Session, error) {
	c := &gateway.Connect{ClientID: clientID, CleanSession: true, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}
	if cert != nil {
		c.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	}
	return s.Connect(s.t.Context(), c)
}

// session returns the rights of a new thing with the standard policy.
func (s *site) certSession(name string) *certSession {
	s.t.Helper()
	x, err := s.connect(s.thing(name, ""), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return x.(*certSession)
}

// all allows everything but what is denied, if that is not "".
func all(denied, resource string) string {
	deny := ""
	if denied != "" {
		deny = `,{"Effect":"Deny","Action":"` + denied + `","Resource":"arn:aws:iot:` + region + `:` + account + `:` +
			resource + `"}`
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}` + deny + `]}`
}
