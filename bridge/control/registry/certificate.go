package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"
)

// A Status says whether a certificate may connect.
type Status string

// The states of a certificate. REVOKED is final here: what was revoked, since
// its key is out, does not come back by a slip of the hand.
const (
	Active   Status = "ACTIVE"
	Inactive Status = "INACTIVE"
	Revoked  Status = "REVOKED"
)

func (s Status) valid() bool { return s == Active || s == Inactive || s == Revoked }

// A Certificate is a registered device certificate.
type Certificate struct {
	ID      string    `json:"-"` // lower-case hex SHA-256 of the DER certificate
	Status  Status    `json:"status"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // of the status

	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// RegisterCertificate stores the first certificate of a PEM text, whoever
// issued it, and returns it with its id. One that is there is ErrExists.
func (t *Tx) RegisterCertificate(text []byte, status Status) (Certificate, error) {
	if !status.valid() {
		return Certificate{}, fmt.Errorf("certificate status %q: %w", status, ErrInvalid)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return Certificate{}, fmt.Errorf("certificate: not PEM: %w", ErrInvalid)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Certificate{}, fmt.Errorf("certificate: %w: %w", ErrInvalid, err)
	}
	sum := sha256.Sum256(block.Bytes)
	now := time.Now().UTC()
	c := Certificate{ID: hex.EncodeToString(sum[:]), Status: status, Created: now, Changed: now,
		Subject: cert.Subject.String(), NotAfter: cert.NotAfter.UTC()}
	if t.has(bCertificates, c.ID) {
		return c, fmt.Errorf("certificate %s: %w", c.ID, ErrExists)
	}
	t.changed(CertificateChanged, c.ID)
	if err := t.tx.Bucket(bPEM).Put([]byte(c.ID), pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})); err != nil {
		return c, err
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
	text := t.tx.Bucket(bPEM).Get([]byte(id))
	if text == nil {
		return nil, fmt.Errorf("certificate %q: %w", id, ErrNotFound)
	}
	return append([]byte(nil), text...), nil
}

// SetCertificateStatus activates, deactivates or revokes a certificate. A
// revoked one stays so: any other status is ErrConflict.
func (t *Tx) SetCertificateStatus(id string, status Status) error {
	if !status.valid() {
		return fmt.Errorf("certificate status %q: %w: want ACTIVE, INACTIVE or REVOKED", status, ErrInvalid)
	}
	c, err := t.Certificate(id)
	switch {
	case err != nil || c.Status == status:
		return err
	case c.Status == Revoked:
		return fmt.Errorf("certificate %s is revoked: %w", id, ErrConflict)
	}
	c.Status, c.Changed = status, time.Now().UTC()
	t.changed(CertificateChanged, id)
	return t.put(bCertificates, id, &c)
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
		return fmt.Errorf("certificate %s: %w", id, ErrInUse)
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
	if err := t.tx.Bucket(bPEM).Delete([]byte(id)); err != nil {
		return err
	}
	return t.tx.Bucket(bCertificates).Delete([]byte(id))
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
