package pki

import (
	"crypto/x509"
	"time"
)

// An Expiry says when a certificate of the bridge ends.
type Expiry struct {
	Of       string // "mqtt", "https": the server's of that listener; "ca", "previous-ca"
	ID       string // Fingerprint
	NotAfter time.Time
}

// Expiries are those of the certificates that listeners show, and of the CAs.
func (p *PKI) Expiries() []Expiry {
	p.mu.Lock()
	own := p.server.Leaf
	p.mu.Unlock()
	of := func(name string, cert *x509.Certificate) Expiry {
		return Expiry{name, Fingerprint(cert.Raw), cert.NotAfter}
	}
	var all []Expiry
	for _, l := range []struct {
		name string
		s    *servedCert
	}{{"mqtt", p.mqtt}, {"https", p.https}} {
		leaf := own
		if l.s != nil {
			leaf = l.s.current.Load().Leaf
		}
		all = append(all, of(l.name, leaf))
	}
	for _, a := range p.Authorities() {
		name := "ca"
		if a.Previous {
			name = "previous-ca"
		}
		all = append(all, of(name, a.Cert))
	}
	return all
}
