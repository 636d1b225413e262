package registry

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// A Status says whether a certificate may connect.
type Status string

// The states of a certificate. REVOKED is final here: what was revoked, since
// its key is out, does not come back by a slip of the hand.
const (
	Active            Status = "ACTIVE"
	Inactive          Status = "INACTIVE"
	Revoked           Status = "REVOKED"
	PendingTransfer   Status = "PENDING_TRANSFER"   // by TransferCertificate alone
	PendingActivation Status = "PENDING_ACTIVATION" // registered at its first connection, and nobody has looked yet
)

// settable says whether s may be asked for.
func (s Status) settable() bool { return s == Active || s == Inactive || s == Revoked }

// maxCertificatePEM bounds the text of a certificate (API: CertificatePem).
const maxCertificatePEM = 65536

// maxRSA bounds the keys of foreign certificates: a check costs by it.
const maxRSA = 8192

// A Certificate is a registered device certificate.
type Certificate struct {
	ID      string    `json:"-"` // lower-case hex SHA-256 of the DER certificate
	Status  Status    `json:"status"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // of the status

	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after"`

	// CA is the id of the registered CA that has signed it, empty for one of
	// the bridge's own and for one that was registered without a CA. A CA that
	// is deleted stays named here.
	CA string `json:"ca,omitempty"`
}

// RegisterCertificate stores the first certificate of a PEM text, whoever
// issued it, and returns it with its id. One that is there is ErrExists; one
// that a CRL of its CA names is ErrConflict. status is ACTIVE or INACTIVE; a
// certificate that is REVOKED from the start only takes its place.
func (t *Tx) RegisterCertificate(text []byte, status Status) (Certificate, error) {
	cert, err := parseCertificate(text)
	if err != nil {
		return Certificate{}, err
	}
	return t.register(cert, status, "")
}

// RegisterSigned stores a certificate that a registered and active CA has
// signed (AWS: RegisterCertificate). ca, PEM, says which one; empty, it is
// found by the issuer's name, and two of them are ErrConflict. No such CA is
// ErrNotFound, one that is not active ErrConflict.
func (t *Tx) RegisterSigned(text, ca []byte, status Status) (Certificate, error) {
	cert, err := parseCertificate(text)
	if err != nil {
		return Certificate{}, err
	}
	var by CA
	if len(ca) > 0 {
		c, err := parseCertificate(ca)
		if err != nil {
			return Certificate{}, err
		}
		if by, err = t.CA(fingerprint(c.Raw)); err != nil {
			return Certificate{}, err
		}
		if err := signedBy(cert, c); err != nil {
			return Certificate{}, fmt.Errorf("certificate: not signed by CA %s: %w: %w", by.ID, ErrInvalid, err)
		}
	} else {
		all, err := t.signers(cert)
		switch {
		case err != nil:
			return Certificate{}, err
		case len(all) == 0:
			return Certificate{}, fmt.Errorf("CA %q: not registered, or it has not signed this: %w", cert.Issuer,
				ErrNotFound)
		case len(all) > 1:
			return Certificate{}, fmt.Errorf("CA %q: there are %d with this name and key; say which: %w", cert.Issuer,
				len(all), ErrConflict)
		}
		by = all[0]
	}
	if by.Status != Active {
		return Certificate{}, fmt.Errorf("CA %s is %s: %w", by.ID, by.Status, ErrConflict)
	}
	return t.register(cert, status, by.ID)
}

// parseCertificate reads the first certificate of a PEM text. Its key is of a
// size that can be worked with.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	if len(text) > maxCertificatePEM {
		return nil, fmt.Errorf("certificate: %d bytes, want at most %d: %w", len(text), maxCertificatePEM, ErrInvalid)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("certificate: not PEM: %w", ErrInvalid)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w: %w", ErrInvalid, err)
	}
	return cert, checkKey(cert)
}

func checkKey(cert *x509.Certificate) error {
	if k, ok := cert.PublicKey.(*rsa.PublicKey); ok && (k.N.BitLen() < 2048 || k.N.BitLen() > maxRSA) {
		return fmt.Errorf("certificate: RSA key of %d bits, want 2048 to %d: %w", k.N.BitLen(), maxRSA, ErrInvalid)
	}
	return nil
}

// checkDevice says why a certificate that ca has signed is none for a device, as
// ErrInvalid: it is a CA's, or its key may sign others; its uses, or those of its
// CA, are given and clientAuth is not among them; the CA's constraints do not
// allow its names; or it has a critical extension that is not understood. Its time
// is for the handshake.
func checkDevice(cert, ca *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	at := cert.NotBefore
	if ca.NotBefore.After(at) {
		at = ca.NotBefore
	}
	var err error
	switch {
	case cert.IsCA:
		err = errors.New("is a CA's")
	case cert.KeyUsage&x509.KeyUsageCertSign != 0:
		err = errors.New("its key may sign certificates")
	default:
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	if err != nil {
		return fmt.Errorf("certificate %q is no device's: %w: %w", cert.Subject, err, ErrInvalid)
	}
	return nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// register stores cert, of the CA by if that is not empty.
func (t *Tx) register(cert *x509.Certificate, status Status, by string) (Certificate, error) {
	if !status.settable() && status != PendingActivation {
		return Certificate{}, fmt.Errorf("certificate status %q: %w", status, ErrInvalid)
	}
	if by != "" {
		_, ca, err := t.parsedCA(by)
		if err != nil {
			return Certificate{}, err
		}
		if err := checkDevice(cert, ca); err != nil {
			return Certificate{}, err
		}
	}
	now := t.reg.now().UTC()
	c := Certificate{ID: fingerprint(cert.Raw), Status: status, Created: now, Changed: now, CA: by,
		Subject: cert.Subject.String(), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC()}
	if t.has(bCertificates, c.ID) {
		return c, fmt.Errorf("certificate %s: %w", c.ID, ErrExists)
	}
	if listed, err := t.onCRL(cert); err != nil {
		return c, err
	} else if listed && status != Revoked {
		return c, fmt.Errorf("certificate %s: its CA's CRL names it: %w", c.ID, ErrConflict)
	}
	t.changed(CertificateChanged, c.ID)
	if err := t.tx.Table(bPEM).Put([]byte(c.ID),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})); err != nil {
		return c, err
	}
	if err := t.addLink(bSerials, serialKey(cert.RawIssuer, cert.SerialNumber), c.ID); err != nil {
		return c, err
	}
	if by != "" {
		if err := t.addLink(bCACertificates, by, c.ID); err != nil {
			return c, err
		}
	}
	return c, t.put(bCertificates, c.ID, &c)
}

// Certificate returns a certificate by id.
func (t *Tx) Certificate(id string) (Certificate, error) {
	c := Certificate{ID: id}
	err := t.get(bCertificates, "certificate", id, &c)
	return c, err
}

// CertificatePEM returns a certificate itself.
func (t *Tx) CertificatePEM(id string) ([]byte, error) {
	return t.text(bPEM, "certificate", id)
}

// SetCertificateStatus activates, deactivates or revokes a certificate. A
// revoked one stays so: any other status is ErrConflict.
func (t *Tx) SetCertificateStatus(id string, status Status) error {
	if !status.settable() {
		return fmt.Errorf("certificate status %q: %w: want ACTIVE, INACTIVE or REVOKED", status, ErrInvalid)
	}
	c, err := t.Certificate(id)
	switch {
	case err != nil || c.Status == status:
		return err
	case c.Status == Revoked:
		return fmt.Errorf("certificate %s is revoked: %w", id, ErrConflict)
	case c.Status == PendingTransfer:
		return fmt.Errorf("certificate %s is being transferred: %w", id, ErrConflict)
	}
	return t.putStatus(&c, status)
}

func (t *Tx) putStatus(c *Certificate, status Status) error {
	c.Status, c.Changed = status, t.reg.now().UTC()
	t.changed(CertificateChanged, c.ID)
	return t.put(bCertificates, c.ID, c)
}

// DeleteCertificate forgets a certificate that is not ACTIVE (else
// ErrConflict) and has no policy or thing attached (else ErrInUse, unless
// force detaches them).
func (t *Tx) DeleteCertificate(id string, force bool) error {
	c, err := t.Certificate(id)
	if err != nil {
		return err
	}
	if c.Status == Active {
		return fmt.Errorf("certificate %s is active: %w", id, ErrConflict)
	}
	policies, things := t.links(bCertPolicies, id), t.links(bCertThings, id)
	if !force && len(policies)+len(things) > 0 {
		return inUse("certificate "+id, append(each("policy ", policies), each("thing ", things)...))
	}
	for _, p := range policies {
		if err := t.DetachPolicy(p, id); err != nil {
			return err
		}
	}
	for _, th := range things {
		if err := t.DetachThing(th, id); err != nil {
			return err
		}
	}
	t.changed(CertificateChanged, id)
	text, err := t.CertificatePEM(id)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(text); block != nil {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %s: %w: %w", id, ErrCorrupt, err)
		}
		if err := t.removeLink(bSerials, serialKey(cert.RawIssuer, cert.SerialNumber), id); err != nil {
			return err
		}
	}
	if c.CA != "" {
		if err := t.removeLink(bCACertificates, c.CA, id); err != nil {
			return err
		}
	}
	if err := t.tx.Table(bPEM).Delete([]byte(id)); err != nil {
		return err
	}
	return t.tx.Table(bCertificates).Delete([]byte(id))
}

// Certificates lists certificates by id; see Things.
func (t *Tx) Certificates(after string, n int) (page []Certificate, next string, err error) {
	next, err = t.page(bCertificates, after, n, func(key string, raw []byte) (bool, error) {
		c := Certificate{ID: key}
		if err := json.Unmarshal(raw, &c); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, c)
		return true, nil
	})
	return page, next, err
}
