package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
)

// ErrRequest is in the chain of every error about a certificate signing request.
var ErrRequest = errors.New("pki: bad certificate signing request")

// An Issued is a new device identity. The key is kept nowhere.
type Issued struct {
	ID      string // Fingerprint of the certificate
	CertPEM []byte
	KeyPEM  []byte // nil if the device keeps its own
}

// Issue makes a P-256 key and a client certificate with the common name name,
// valid for Options.DeviceLifetime.
func (p *PKI) Issue(name string) (*Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: issue %s: %w", name, err)
	}
	out, err := p.issue(pkix.Name{CommonName: name}, key.Public())
	if err != nil {
		return nil, fmt.Errorf("pki: issue %s: %w", name, err)
	}
	if out.KeyPEM, err = encodeKey(key); err != nil {
		return nil, fmt.Errorf("pki: issue %s: %w", name, err)
	}
	return out, nil
}

// IssueFromCSR signs a PEM certificate signing request, for a device that
// keeps its key to itself. The subject asked for is kept, but for the common
// name if name is given; extensions asked for are not. The key must be of
// P-256 or P-384, or RSA of 2048 to 4096 bits.
func (p *PKI) IssueFromCSR(csr []byte, name string) (*Issued, error) {
	block, _ := pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("%w: not PEM", ErrRequest)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	// The size comes before the signature, whose check costs by it.
	switch k := req.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if n := k.Params().BitSize; n != 256 && n != 384 {
			return nil, fmt.Errorf("%w: curve of %d bits, want P-256 or P-384", ErrRequest, n)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return nil, fmt.Errorf("%w: RSA key of %d bits, want 2048 to 4096", ErrRequest, n)
		}
	default:
		return nil, fmt.Errorf("%w: key of type %T, want ECDSA or RSA", ErrRequest, k)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	subject := req.Subject
	if name != "" {
		subject.CommonName = name
	}
	out, err := p.issue(subject, req.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("pki: issue from request: %w", err)
	}
	return out, nil
}

func (p *PKI) issue(subject pkix.Name, public any) (*Issued, error) {
	by, end := p.cas.Load().current, deviceEnd
	if p.opts.DeviceLifetime > 0 {
		end = p.opts.Now().Add(p.opts.DeviceLifetime)
	}
	if end.After(by.cert.NotAfter) { // some clients take none that outlives its CA
		end = by.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial(), Subject: subject, BasicConstraintsValid: true,
		// Devices often start with a clock in the past.
		NotBefore: by.cert.NotBefore, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, by.cert, public, by.key)
	if err != nil {
		return nil, err
	}
	return &Issued{ID: Fingerprint(der), CertPEM: encodeCert(der)}, nil
}
