package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// dial connects once over the loopback and returns the server's error.
func dial(t *testing.T, server, client *tls.Config) (resumed bool, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	result := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			s := tls.Server(c, server)
			if err = s.Handshake(); err == nil {
				resumed = s.ConnectionState().DidResume
				_, err = s.Write([]byte("x")) // carries the session ticket
			}
		}
		result <- err
	}()
	if c, err := tls.Dial("tcp", l.Addr().String(), client); err == nil {
		_, _ = io.ReadFull(c, make([]byte, 1))
		c.Close()
	}
	err = <-result
	return resumed, err
}

// A check must also refuse a client that resumes the session of an earlier
// connection: otherwise a revoked device would get in by its ticket.
func TestChecksRunOnResumption(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	device, err := p.Issue("pump-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(device.CertPEM, device.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA())
	client := &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pair},
		ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	var refuse error
	server := p.MQTTConfig(func(leaf *x509.Certificate) error {
		if id := Fingerprint(leaf.Raw); id != device.ID {
			t.Errorf("asked about %s", id)
		}
		return refuse
	})
	if _, err := dial(t, server, client); err != nil {
		t.Fatal(err)
	}
	if resumed, err := dial(t, server, client); err != nil || !resumed {
		t.Fatalf("resumed %v, %v", resumed, err)
	}
	refuse = errors.New("revoked")
	if _, err := dial(t, server, client); !errors.Is(err, refuse) {
		t.Errorf("%v, want %v", err, refuse)
	}
	bare := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if _, err := dial(t, server, bare); err == nil {
		t.Error("connected without a certificate")
	}
	p.opts.Now = func() time.Time { return deviceEnd.Add(time.Hour) }
	if err := p.MQTTConfig().VerifyConnection(
		tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Leaf}}); !errors.Is(err, ErrNotInTime) {
		t.Errorf("%v, want %v", err, ErrNotInTime)
	}
}

// The HTTPS listener needs no certificate of its clients and speaks HTTP/2,
// HTTP/1.1 and MQTT, by TLS 1.2 and newer.
func TestHTTPSConfig(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA())
	for _, c := range []struct {
		offered []string
		max     uint16
		ok      bool
	}{
		{nil, 0, true},
		{[]string{"h2"}, 0, true},
		{[]string{"http/1.1"}, tls.VersionTLS12, true},
		{[]string{"x-amzn-mqtt-ca"}, 0, true},
		{[]string{"mqtt"}, 0, true},
		{[]string{"x-amzn-http-ca"}, 0, true},
		{[]string{"h3"}, 0, false},
		{nil, tls.VersionTLS11, false},
	} {
		client := &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: c.offered, MaxVersion: c.max,
			MinVersion: tls.VersionTLS10}
		if _, err := dial(t, p.HTTPSConfig(), client); (err == nil) != c.ok {
			t.Errorf("%v, at most %x: %v", c.offered, c.max, err)
		}
	}
}

// Suites of TLS 1.2 with CBC are off on every listener.
func TestNoCBC(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	id, err := p.Issue("pi-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(id.CertPEM, id.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA())
	for name, server := range map[string]*tls.Config{"MQTT": p.MQTTConfig(), "authorizers": p.AuthorizerConfig(),
		"HTTPS": p.HTTPSConfig()} {
		for _, protocol := range [][]string{nil, {"mqtt"}} {
			for _, suite := range tls.CipherSuites() {
				if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
					continue
				}
				client := &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pair},
					NextProtos: protocol,
					MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}
				_, err := dial(t, server, client)
				if want := strings.Contains(suite.Name, "_ECDSA_") &&
					!strings.Contains(suite.Name, "_CBC_"); want != (err == nil) {
					t.Errorf("%s, %v, %s: %v", name, protocol, suite.Name, err)
				}
			}
		}
	}
}
