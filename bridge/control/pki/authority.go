package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Files of the authorities.
const (
	caFile          = "ca.pem"
	caKeyFile       = "ca-key.pem"
	previousKeyFile = "previous-ca-key.pem"
)

// ErrRotation says that a rotation of the CA is under way where none may be, or
// none where one must be.
var ErrRotation = errors.New("pki: rotation")

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	pem  []byte // of cert
	key  crypto.Signer
}

// signed says whether a has signed a certificate, as far as key ids tell, which
// every certificate of the bridge has (RFC 5280, 4.2.1.1).
func (a *authority) signed(cert *x509.Certificate) bool {
	return bytes.Equal(cert.AuthorityKeyId, a.cert.SubjectKeyId)
}

// authorities are those of the bridge; what is in it does not change.
//
// While a rotation is under way there are two. The current one signs devices'
// certificates. The previous one still signs the server's, since devices may trust
// nothing else yet; new ones are told to trust both. It may sign no CA (its path
// length is zero), so it cannot vouch for the current one.
type authorities struct{ current, previous *authority } // previous nil: no rotation

// server is the one that signs the server's certificate.
func (a *authorities) server() *authority {
	if a.previous != nil {
		return a.previous
	}
	return a.current
}

// file is the content of ca.pem: the current one comes first.
func (a *authorities) file() []byte {
	text := bytes.Clone(a.current.pem)
	if a.previous != nil {
		text = append(text, a.previous.pem...)
	}
	return text
}

// openCA loads or makes the authorities. The key is written first and kept: if the
// certificate is not there, it is made anew for the same key. A certificate
// whose key is gone is an error, since a new authority in its place would lock
// out every device that trusts the old one.
func (p *PKI) openCA() error {
	cas, err := p.readCA()
	if err == nil {
		p.cas.Store(cas)
		if cas.previous == nil { // what a crash within Rotate or Retire left
			err = p.removePreviousKey()
		}
		return err
	}
	switch {
	case errors.Is(err, errNoCA):
		return p.makeCA("Tidemill CA", nil)
	case errors.Is(err, errHalfRotated): // a crash within Rotate
		return p.makeCA(p.nextName(), cas.previous)
	}
	return err
}

var (
	errNoCA        = errors.New("there is no CA")
	errHalfRotated = errors.New("the CA is half rotated")
)

// readCA reads the authorities and changes nothing. With errHalfRotated it returns
// the previous one alone: its successor has a key and no certificate.
func (p *PKI) readCA() (*authorities, error) {
	raw, err := os.ReadFile(p.path(caFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoCA
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := p.readSecret(caKeyFile)
	if err != nil {
		return nil, err
	}
	first, rest := firstPEM(raw)
	previousKey, err := p.readSecret(previousKeyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	current, err := pairOf(first, keyPEM)
	if err != nil {
		if previous, e := pairOf(first, previousKey); e == nil {
			return &authorities{previous: previous}, errHalfRotated
		}
		return nil, fmt.Errorf("%w: %s or %s: %w", ErrDamaged, p.path(caFile), p.path(caKeyFile), err)
	}
	cas := &authorities{current: current}
	if second, _ := firstPEM(rest); second != nil {
		if cas.previous, err = pairOf(second, previousKey); err != nil {
			return nil, fmt.Errorf(
				"%w: the second certificate of %s has no key in %s: %w; restore it from a backup, or take that "+
					"certificate away: "+
					"devices that trust it alone refuse the bridge then", ErrDamaged, p.path(caFile),
				p.path(previousKeyFile), err)
		}
	}
	return cas, nil
}

// firstPEM returns the first certificate of a PEM text, nil for none, and what
// follows it.
func firstPEM(text []byte) (first, rest []byte) {
	for {
		block, after := pem.Decode(text)
		if block == nil {
			return nil, nil
		}
		if block.Type == "CERTIFICATE" {
			return encodeCert(block.Bytes), after
		}
		text = after
	}
}

func pairOf(certPEM, keyPEM []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	return &authority{pair.Leaf, certPEM, pair.PrivateKey.(crypto.Signer)}, nil
}

// makeCA makes the current authority of the key in ca-key.pem, or of a new one,
// beside previous, if there is one.
func (p *PKI) makeCA(name string, previous *authority) error {
	key, err := p.caKey()
	if err != nil {
		return err
	}
	now := p.opts.Now()
	cert := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name, Organization: []string{"Tidemill"}},
		NotBefore: now.Add(-clockBehind), NotAfter: now.AddDate(30, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	cas := &authorities{&authority{cert, encodeCert(der), key}, previous}
	if err := p.write(caFile, cas.file(), 0o644); err != nil {
		return err
	}
	p.cas.Store(cas)
	return nil
}

// nextName is what the authority of a rotation is called, by the day: two of one
// name would be hard to tell apart.
func (p *PKI) nextName() string { return "Tidemill CA " + p.opts.Now().UTC().Format(time.DateOnly) }

// caKey reads the authority's key, or makes one.
func (p *PKI) caKey() (crypto.Signer, error) {
	text, err := p.readSecret(caKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return p.newCAKey()
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("ca-key.pem: not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("ca-key.pem: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("ca-key.pem: not a key that signs")
	}
	return signer, nil
}

// newCAKey puts a new key in the place of the authority's.
func (p *PKI) newCAKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, p.write(caKeyFile, text, 0o600)
}

// Rotate makes a new authority, which signs devices' certificates from now on. The
// one of before stays trusted, and signs the server's certificate, until Retire. It
// is ErrRotation while one is under way.
//
// A crash leaves the state of before, or the next Open finishes it: first the old
// key is copied, then the new key written, then both certificates.
func (p *PKI) Rotate() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cas := p.cas.Load()
	if cas.previous != nil {
		return fmt.Errorf("%w: one is under way: retire the CA of before first", ErrRotation)
	}
	old, err := p.readSecret(caKeyFile)
	if err != nil {
		return err
	}
	if err := p.write(previousKeyFile, old, 0o600); err != nil {
		return err
	}
	if _, err := p.newCAKey(); err != nil {
		return err
	}
	return p.makeCA(p.nextName(), cas.current)
}

// Retire ends a rotation: the authority of before is trusted no more, its key is
// deleted, and the server's certificate is one of the current authority. It is
// ErrRotation where no rotation is under way.
func (p *PKI) Retire() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cas := p.cas.Load()
	if cas.previous == nil {
		return fmt.Errorf("%w: there is one CA alone: rotate it first", ErrRotation)
	}
	now := &authorities{current: cas.current}
	if err := p.write(caFile, now.file(), 0o644); err != nil {
		return err
	}
	p.cas.Store(now)
	return errors.Join(p.removePreviousKey(), p.makeServer())
}

func (p *PKI) removePreviousKey() error {
	if err := os.Remove(p.path(previousKeyFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// An Authority is what there is to know of a CA of the bridge.
type Authority struct {
	ID       string // Fingerprint
	Cert     *x509.Certificate
	Previous bool // it is to be retired
}

// Authorities returns the bridge's CA, and the one of before while a rotation is
// under way.
func (p *PKI) Authorities() []Authority {
	cas := p.cas.Load()
	all := []Authority{{Fingerprint(cas.current.cert.Raw), cas.current.cert, false}}
	if old := cas.previous; old != nil {
		all = append(all, Authority{Fingerprint(old.cert.Raw), old.cert, true})
	}
	return all
}

// SignedByPrevious says whether a certificate is of the authority that is to be
// retired.
func (p *PKI) SignedByPrevious(cert *x509.Certificate) bool {
	old := p.cas.Load().previous
	return old != nil && old.signed(cert)
}
