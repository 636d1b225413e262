package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, dir string, o Options) *PKI {
	t.Helper()
	p, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFirstStartAndSecond(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, Options{})
	for _, secret := range []string{"ca-key.pem", "server-key.pem", "access-keys", "ticket-keys"} {
		info, err := os.Stat(filepath.Join(dir, secret))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", secret, info.Mode(), err)
		}
	}
	keys, _ := os.ReadFile(filepath.Join(dir, "access-keys"))
	if !bytes.Contains(keys, []byte("[default]\naws_access_key_id = AKIA")) {
		t.Errorf("access keys: %.40q…", keys)
	}
	server, _ := os.ReadFile(filepath.Join(dir, "server.pem"))

	second := open(t, dir, Options{})
	if !bytes.Equal(first.CA(), second.CA()) {
		t.Error("the second start has another CA")
	}
	again, _ := os.ReadFile(filepath.Join(dir, "server.pem"))
	keysAgain, _ := os.ReadFile(filepath.Join(dir, "access-keys"))
	if !bytes.Equal(server, again) || !bytes.Equal(keys, keysAgain) {
		t.Error("the second start made new secrets")
	}

	third := open(t, dir, Options{ServerNames: []string{"bridge.example.org", "192.0.2.7"}})
	if err := third.server.Leaf.VerifyHostname("bridge.example.org"); err != nil {
		t.Error(err)
	}
	if err := third.server.Leaf.VerifyHostname("192.0.2.7"); err != nil {
		t.Error(err)
	}
}

// What the bridge signs is good for a device whose clock is nearly a day behind,
// and its CA signs no other CA.
func TestNewCertificatesBeginADayBefore(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	id, err := p.Issue("pi-1")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(id.CertPEM)
	device, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.cas.Load().current.cert)
	behind := time.Now().Add(-23 * time.Hour)
	if _, err := p.server.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost",
		CurrentTime: behind}); err != nil {
		t.Error(err)
	}
	if _, err := device.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: behind,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if !p.cas.Load().current.cert.MaxPathLenZero || p.cas.Load().current.cert.MaxPathLen != 0 {
		t.Errorf("path length %d", p.cas.Load().current.cert.MaxPathLen)
	}
}

func TestServerCertificateIsRenewed(t *testing.T) {
	now := time.Now()
	p := open(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	before, err := p.serverCert()
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(serverLife - renewBefore + time.Hour)
	after, err := p.serverCert()
	if err != nil || !after.Leaf.NotAfter.After(before.Leaf.NotAfter) {
		t.Errorf("ends %v, before %v, %v", after.Leaf.NotAfter, before.Leaf.NotAfter, err)
	}
}

func TestDamagedCAIsAnError(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte("gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "CA") {
		t.Errorf("err = %v; a new CA in its place would lock every device out", err)
	}
}

// handshake connects a client with conf to a server of p and returns what each
// side got.
func handshake(t *testing.T, p *PKI, conf *tls.Config) (peer *x509.Certificate, server, client error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error, 1)
	srv := tls.Server(a, p.MQTTConfig())
	go func() {
		defer a.Close()
		done <- srv.Handshake()
	}()
	c := tls.Client(b, conf)
	client = c.Handshake()
	if client == nil { // TLS 1.3: a refusal comes with the first read
		_ = b.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, client = c.Read(make([]byte, 1))
		if client != nil && client.Error() == "EOF" {
			client = nil
		}
	}
	b.Close()
	server = <-done
	if certs := srv.ConnectionState().PeerCertificates; len(certs) > 0 {
		peer = certs[0]
	}
	return peer, server, client
}

func TestHandshake(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA())
	id, err := p.Issue("pi-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(id.CertPEM, id.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	for _, protos := range [][]string{nil, {"x-amzn-mqtt-ca"}} {
		peer, server, _ := handshake(t, p, &tls.Config{RootCAs: roots, ServerName: "localhost",
			Certificates: []tls.Certificate{pair}, NextProtos: protos})
		if server != nil || peer == nil || Fingerprint(peer.Raw) != id.ID || peer.Subject.CommonName != "pi-1" {
			t.Errorf("ALPN %v: peer %v, %v", protos, peer, server)
		}
	}
	if _, server, _ := handshake(t, p, &tls.Config{RootCAs: roots, ServerName: "localhost"}); server == nil {
		t.Error("a client without a certificate got through")
	}
	if _, server, _ := handshake(t, p, &tls.Config{RootCAs: roots, ServerName: "localhost",
		Certificates: []tls.Certificate{pair},
		MaxVersion:   tls.VersionTLS11, MinVersion: tls.VersionTLS10}); server == nil {
		t.Error("TLS 1.1 got through")
	}
	if y := pair.Leaf.NotAfter.Year(); y != 2049 {
		t.Errorf("the certificate ends in %d", y)
	}
}
