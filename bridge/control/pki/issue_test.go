package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"testing"
	"time"
)

func request(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "asked", Organization: []string{"Mill"}},
		DNSNames: []string{"localhost"}, // asked for, not given
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestIssueFromCSR(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	torn := request(t, p256)
	block, _ := pem.Decode(torn)
	block.Bytes[len(block.Bytes)-1] ^= 1
	for _, c := range []struct {
		name string
		csr  []byte
		ok   bool
	}{
		{"P-256", request(t, p256), true},
		{"RSA 2048", request(t, rsa2048), true},
		{"P-224", request(t, p224), false},
		{"Ed25519", request(t, ed), false},
		{"bad signature", pem.EncodeToMemory(block), false},
		{"not PEM", []byte("x"), false},
		{"a certificate", p.CA(), false},
		{"nothing", nil, false},
	} {
		out, err := p.IssueFromCSR(c.csr, "pump-1")
		if (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok {
			continue
		}
		block, _ := pem.Decode(out.CertPEM)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != "pump-1" || cert.Subject.Organization[0] != "Mill" || len(cert.DNSNames) != 0 ||
			cert.IsCA ||
			!cert.NotAfter.Equal(deviceEnd) || out.ID != Fingerprint(cert.Raw) || out.KeyPEM != nil {
			t.Errorf("%s: %v %v %v", c.name, cert.Subject, cert.DNSNames, cert.NotAfter)
		}
		roots := x509.NewCertPool()
		roots.AddCert(p.cas.Load().current.cert)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A lifetime bounds device certificates, and the CA's end does.
func TestDeviceLifetime(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for lifetime, want := range map[time.Duration]time.Time{
		0:                          deviceEnd,
		24 * time.Hour:             now.Add(24 * time.Hour),
		100 * 365 * 24 * time.Hour: now.AddDate(30, 0, 0), // the CA's
	} {
		p := open(t, t.TempDir(), Options{DeviceLifetime: lifetime, Now: func() time.Time { return now }})
		made, err := p.Issue("dev")
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(made.CertPEM)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !cert.NotAfter.Equal(want) {
			t.Errorf("%v: ends %v, %v; want %v", lifetime, cert.NotAfter, err, want)
		}
	}
}
