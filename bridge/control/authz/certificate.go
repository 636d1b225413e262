package authz

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxCertificateValues is how many values of one attribute can be named (AWS
// IoT Core, X.509 certificate policy variables: five, .0 counted as none).
const maxCertificateValues = 5

// A Certificate is what policies may ask of the client's certificate. The maps
// go by attribute as in the variables (CommonName, DNSName), and hold the
// values in the certificate's order; those of NewCertificate are filled when a
// policy first asks, since few do and each connection holds one of these.
type Certificate struct {
	ID                 string // lower-case hex SHA-256 of the DER certificate
	Serial             string // iot:Certificate.SerialNumber
	Subject, Issuer    map[string][]string
	SubjectAlternative map[string][]string
	IssuerAlternative  map[string][]string

	from *x509.Certificate // nil: the maps are the caller's
	once sync.Once
	keys map[string][]string // by normal key without the iot:certificate. part
}

// attributeNames maps the last arc of 2.5.4.x to AWS's name.
var attributeNames = map[int]string{
	3: "CommonName", 4: "Surname", 5: "SerialNumber", 6: "Country", 8: "State", 10: "Organization",
	11: "OrganizationalUnit", 12: "Title", 42: "GivenName", 43: "Initials", 44: "GenerationQualifier",
	46: "DistinguishedNameQualifier", 65: "Pseudonym",
}

// NewCertificate takes from cert what policies may ask. id is the
// certificate's id in the registry. The serial number is written in decimal,
// which is a guess: AWS does not say.
func NewCertificate(id string, cert *x509.Certificate) *Certificate {
	return &Certificate{ID: id, Serial: cert.SerialNumber.String(), from: cert}
}

// read fills the maps.
func (c *Certificate) read(cert *x509.Certificate) {
	c.Subject, c.Issuer = names(cert.Subject), names(cert.Issuer)
	for _, e := range cert.Extensions {
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}):
			c.SubjectAlternative = alternativeNames(e.Value)
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 18}):
			c.IssuerAlternative = alternativeNames(e.Value)
		}
	}
}

// SubjectNames returns the attributes of a certificate's subject, as they are in
// Certificate.Subject.
func SubjectNames(cert *x509.Certificate) map[string][]string { return names(cert.Subject) }

func names(n pkix.Name) map[string][]string {
	m := map[string][]string{}
	for _, a := range n.Names {
		if len(a.Type) != 4 || !slices.Equal(a.Type[:3], asn1.ObjectIdentifier{2, 5, 4}) {
			continue
		}
		if name, ok := attributeNames[a.Type[3]]; ok {
			m[name] = append(m[name], fmt.Sprint(a.Value))
		}
	}
	return m
}

// alternativeNames reads GeneralNames (RFC 5280, 4.2.1.6). Names it cannot
// read are left out, so nothing matches them.
func alternativeNames(der []byte) map[string][]string {
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
		return nil
	}
	m := map[string][]string{}
	for rest := seq.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return m
		}
		if v.Class != asn1.ClassContextSpecific {
			continue
		}
		switch v.Tag {
		case 1:
			m["RFC822Name"] = append(m["RFC822Name"], string(v.Bytes))
		case 2:
			m["DNSName"] = append(m["DNSName"], string(v.Bytes))
		case 4:
			var rdn pkix.RDNSequence
			if _, err := asn1.Unmarshal(v.Bytes, &rdn); err == nil {
				m["DirectoryName"] = append(m["DirectoryName"], rdn.String())
			}
		case 6:
			m["UniformResourceIdentifier"] = append(m["UniformResourceIdentifier"], string(v.Bytes))
		case 7:
			if a, ok := netip.AddrFromSlice(v.Bytes); ok {
				m["IPAddress"] = append(m["IPAddress"], a.String())
			}
		}
	}
	return m
}

// lookup returns the values of iot:Certificate.{key}, key in normal form.
func (c *Certificate) lookup(key string) []string {
	c.once.Do(c.index)
	return c.keys[key]
}

// index lists every key the certificate has. The bare attribute is the first
// value, .1 the second, .List all of them.
func (c *Certificate) index() {
	if c.from != nil {
		c.read(c.from)
		c.from = nil
	}
	c.keys = map[string][]string{}
	var available []string
	set := func(name string, v ...string) {
		c.keys[normalKey(name)] = v
		available = append(available, "iot:Certificate."+name)
	}
	for _, group := range []struct {
		head   string
		values map[string][]string
	}{
		{"Subject.", c.Subject}, {"Subject.AlternativeName.", c.SubjectAlternative},
		{"Issuer.", c.Issuer}, {"Issuer.AlternativeName.", c.IssuerAlternative},
	} {
		for _, attribute := range sorted(group.values) {
			values := group.values[attribute]
			if len(values) == 0 {
				continue
			}
			name := group.head + attribute
			set(name, values[0])
			for i := 1; i < len(values) && i < maxCertificateValues; i++ {
				set(name+"."+strconv.Itoa(i), values[i])
			}
			set(name+".List", values...)
		}
	}
	if c.Serial != "" {
		set("SerialNumber", c.Serial)
	}
	c.keys["availablekeys"] = available
}

// escapedValue returns what a certificate value in a policy may also mean:
// AWS's guide wants a backslash before special characters.
func escapedValue(v string) (string, bool) {
	if !strings.Contains(v, `\`) {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) && strings.IndexByte(`,+"\<>;= #`, v[i+1]) >= 0 {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String(), b.String() != v
}
