package registry

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"
)

// What a registered CA has signed is a device's certificate or is refused, by all
// ways in; the CA's own constraints count.
func TestDeviceCertificates(t *testing.T) {
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5}, Value: []byte{5, 0}}
	critical := unknown
	critical.Critical = true
	plain := newAuthority(t, "plain", nil)
	servers := newAuthority(t, "servers", func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	names := newAuthority(t, "names", func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"plant.example"}, true
	})
	for i, c := range []struct {
		name string
		ca   *authority
		leaf x509.Certificate
		ok   bool
	}{
		{"bare", plain, x509.Certificate{}, true},
		{"clientAuth", plain, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth,
			x509.ExtKeyUsageClientAuth}}, true},
		{"any use", plain, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}, true},
		{"a use that is not critical and not known", plain,
			x509.Certificate{ExtraExtensions: []pkix.Extension{unknown}}, true},
		{"not a CA, in so many words", plain,
			x509.Certificate{BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}, true},
		{"expired, which TLS refuses", plain, x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}, true},
		{"serverAuth alone", plain, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
			false},
		{"an unknown use alone", plain, x509.Certificate{UnknownExtKeyUsage: []asn1.ObjectIdentifier{{1, 2, 3}}},
			false},
		{"CA:TRUE", plain, x509.Certificate{IsCA: true, BasicConstraintsValid: true}, false},
		{"keyCertSign", plain, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign},
			false},
		{"a critical extension", plain, x509.Certificate{ExtraExtensions: []pkix.Extension{critical}}, false},
		{"of a CA for servers", servers, x509.Certificate{}, false},
		{"a name that the CA may give", names, x509.Certificate{DNSNames: []string{"a.plant.example"}}, true},
		{"a name that it may not", names, x509.Certificate{DNSNames: []string{"a.example"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t)
			tmpl := c.leaf
			tmpl.SerialNumber, tmpl.Subject, tmpl.NotBefore = big.NewInt(int64(i+2)), pkix.Name{CommonName: "d"},
				time.Now().Add(-time.Hour)
			if tmpl.NotAfter.IsZero() {
				tmpl.NotAfter = time.Now().Add(time.Hour)
			}
			der, err := x509.CreateCertificate(rand.Reader, &tmpl, c.ca.cert, c.ca.key.Public(), c.ca.key)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			update(t, r, func(tx *Tx) error {
				_, err := tx.RegisterCA(NewCA{Certificate: c.ca.pem(), Mode: SNIOnly, Active: true, AutoRegister: true})
				return err
			})
			look := func(tx *Tx) error { _, err := tx.AutoRegister(leaf); return err }
			rollback := errors.New("rolled back")
			for way, do := range map[string]func() error{
				"a look": func() error { return r.View(look) },
				"first connection": func() error {
					return r.Update(func(tx *Tx) error { return errors.Join(look(tx), rollback) })
				},
				"RegisterCertificate": func() error {
					return r.Update(func(tx *Tx) error {
						_, err := tx.RegisterSigned(encode("CERTIFICATE", der), nil, Active)
						return errors.Join(err, rollback)
					})
				},
				"with the CA's certificate": func() error {
					return r.Update(func(tx *Tx) error {
						_, err := tx.RegisterSigned(encode("CERTIFICATE", der), c.ca.pem(), Active)
						return errors.Join(err, rollback)
					})
				},
			} {
				if err := do(); errors.Is(err, ErrInvalid) == c.ok || c.ok && err != nil &&
					err.Error() != rollback.Error() {
					t.Errorf("%s: %v", way, err)
				}
			}
		})
	}
	try(t, open(t), "a CA with a critical extension", ErrInvalid, func(tx *Tx) error {
		ca := newAuthority(t, "odd", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{critical} })
		_, err := tx.RegisterCA(NewCA{Certificate: ca.pem(), Mode: SNIOnly})
		return err
	})
}
