package authz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestNewCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(4711),
		Subject: pkix.Name{CommonName: "pump-1", Country: []string{"NL"}, Organization: []string{"Mill, Inc"},
			ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "north"},
				{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "hall 2"},
				{Type: asn1.ObjectIdentifier{2, 5, 4, 12}, Value: "pump"},
			}},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"pump.example.com"},
		EmailAddresses: []string{"ops@example.com"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 77).To4()},
		URIs: []*url.URL{{Scheme: "urn", Opaque: "x:1"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := Context{Certificate: NewCertificate("id", cert)}
	for name, want := range map[string][]string{
		"iot:CertificateId":                                                 {"id"},
		"iot:Certificate.SerialNumber":                                      {"4711"},
		"iot:Certificate.Subject.CommonName":                                {"pump-1"},
		"iot:Certificate.Issuer.CommonName":                                 {"pump-1"},
		"iot:Certificate.Subject.Organization":                              {"Mill, Inc"},
		"iot:Certificate.Subject.OrganizationalUnit":                        {"north"},
		"iot:Certificate.Subject.OrganizationalUnit.1":                      {"hall 2"},
		"iot:Certificate.Subject.OrganizationalUnit.List":                   {"north", "hall 2"},
		"iot:Certificate.Subject.Title":                                     {"pump"},
		"iot:Certificate.Subject.Surname":                                   nil,
		"iot:Certificate.Subject.AlternativeName.DNSName":                   {"pump.example.com"},
		"iot:Certificate.Subject.AlternativeName.RFC822Name":                {"ops@example.com"},
		"iot:Certificate.Subject.AlternativeName.IPAddress":                 {"192.0.2.77"},
		"iot:Certificate.Subject.AlternativeName.UniformResourceIdentifier": {"urn:x:1"},
		"iot:Certificate.Issuer.AlternativeName.DNSName":                    nil,
	} {
		if got := c.lookup(normalKey(name), false); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Whatever bytes an extension holds, reading it neither panics nor loops.
func FuzzAlternativeNames(f *testing.F) {
	f.Add([]byte{0x30, 0x06, 0x82, 0x01, 'a', 0x87, 0x01, 1})
	f.Fuzz(func(t *testing.T, der []byte) {
		total := 0
		for _, v := range alternativeNames(der) {
			total += len(v)
		}
		if total > len(der) {
			t.Fatalf("%d names from %d bytes", total, len(der))
		}
	})
}
