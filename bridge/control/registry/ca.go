package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
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

// maxCAs is how many CAs may have one subject name (service quotas).
const maxCAs = 10

// A CAMode says how a CA was shown to be its owner's.
type CAMode string

// The modes of a CA.
const (
	DefaultMode CAMode = "DEFAULT"  // by a verification certificate over the registration code
	SNIOnly     CAMode = "SNI_ONLY" // not at all
)

// A CA is a certificate authority whose device certificates may be registered
// with RegisterSigned or, with AutoRegister, by their first connection.
type CA struct {
	ID           string    `json:"-"`      // lower-case hex SHA-256 of the DER certificate
	Status       Status    `json:"status"` // ACTIVE or INACTIVE
	Mode         CAMode    `json:"mode"`
	AutoRegister bool      `json:"auto_register,omitempty"`
	Created      time.Time `json:"created"`
	Changed      time.Time `json:"changed"`

	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`

	// Registration is the registrationConfig of the API, for provisioning at
	// the first connection. The registry does not read it.
	Registration json.RawMessage `json:"registration,omitempty"`
}

// A NewCA asks for a CA.
type NewCA struct {
	Certificate  []byte // PEM
	Verification []byte // PEM, for DEFAULT: signed by the CA, its common name the registration code
	Mode         CAMode // empty: DEFAULT
	Active       bool
	AutoRegister bool
	Registration json.RawMessage
}

// RegistrationCode returns what the common name of verification certificates
// must be, and makes it when there is none.
func (t *Tx) RegistrationCode() (string, error) {
	if code := t.tx.Table(bMeta).Get(keyRegistrationCode); code != nil {
		return string(code), nil
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	code := hex.EncodeToString(b[:])
	return code, t.tx.Table(bMeta).Put(keyRegistrationCode, []byte(code))
}

// RegisterCA registers a certificate authority. A certificate that is none, or
// not valid now, or a verification certificate that does not verify it is
// ErrInvalid; one that is there ErrExists; more than maxCAs of one name ErrLimit.
func (t *Tx) RegisterCA(in NewCA) (CA, error) {
	cert, err := parseCertificate(in.Certificate)
	if err != nil {
		return CA{}, err
	}
	if in.Mode == "" {
		in.Mode = DefaultMode
	}
	now := t.reg.now().UTC()
	ca := CA{ID: fingerprint(cert.Raw), Status: Inactive, Mode: in.Mode, AutoRegister: in.AutoRegister, Created: now,
		Changed: now,
		Subject: cert.Subject.String(), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
		Registration: in.Registration}
	if in.Active {
		ca.Status = Active
	}
	if len(in.Registration) > 0 && !json.Valid(in.Registration) {
		return ca, fmt.Errorf("CA %s: registration configuration is not JSON: %w", ca.ID, ErrInvalid)
	}
	if err := checkCA(cert, now); err != nil {
		return ca, fmt.Errorf("CA %q: %w: %w", cert.Subject, err, ErrInvalid)
	}
	switch in.Mode {
	case DefaultMode:
		if err := t.verify(cert, in.Verification, now); err != nil {
			return ca, fmt.Errorf("CA %q: verification certificate: %w", cert.Subject, err)
		}
	case SNIOnly:
		if len(in.Verification) > 0 {
			return ca, fmt.Errorf("CA %q: mode SNI_ONLY takes no verification certificate: %w", cert.Subject,
				ErrInvalid)
		}
	default:
		return ca, fmt.Errorf("CA mode %q: %w: want DEFAULT or SNI_ONLY", in.Mode, ErrInvalid)
	}
	if t.has(bCAs, ca.ID) {
		return ca, fmt.Errorf("CA %s: %w", ca.ID, ErrExists)
	}
	name := nameKey(cert.RawSubject)
	if n := len(t.links(bCANames, name)); n >= maxCAs {
		return ca, fmt.Errorf("CA %q: there are %d of this name: %w", cert.Subject, n, ErrLimit)
	}
	if err := t.addLink(bCANames, name, ca.ID); err != nil {
		return ca, err
	}
	if err := t.tx.Table(bCAPEM).Put([]byte(ca.ID),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})); err != nil {
		return ca, err
	}
	return ca, t.put(bCAs, ca.ID, &ca)
}

func checkCA(cert *x509.Certificate, now time.Time) error {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey, ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if n := key.Params().BitSize; n < 256 {
			return fmt.Errorf("key of %d bits is too short", n)
		}
	default:
		return fmt.Errorf("key of type %T", key)
	}
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("is not the certificate of a CA")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key may not sign certificates")
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has a critical extension that is not understood: %v", cert.UnhandledCriticalExtensions[0])
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return fmt.Errorf("valid from %s to %s", cert.NotBefore.Format(time.RFC3339),
			cert.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// verify checks that whoever registers the CA has its key.
func (t *Tx) verify(ca *x509.Certificate, text []byte, now time.Time) error {
	if len(text) == 0 {
		return fmt.Errorf("mode DEFAULT needs one: %w", ErrInvalid)
	}
	v, err := parseCertificate(text)
	if err != nil {
		return err
	}
	code := t.tx.Table(bMeta).Get(keyRegistrationCode)
	switch {
	case code == nil || v.Subject.CommonName != string(code):
		return fmt.Errorf("its common name is not the registration code: %w", ErrInvalid)
	case now.Before(v.NotBefore) || now.After(v.NotAfter):
		return fmt.Errorf("not valid at this time: %w", ErrInvalid)
	}
	if err := signedBy(v, ca); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// signedBy checks that ca has signed cert.
func signedBy(cert, ca *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, ca.RawSubject) {
		return fmt.Errorf("it names %q as its issuer", cert.Issuer)
	}
	return cert.CheckSignatureFrom(ca)
}

// signers returns the registered CAs that have signed cert, whatever their state.
func (t *Tx) signers(cert *x509.Certificate) (all []CA, err error) {
	for _, id := range t.links(bCANames, nameKey(cert.RawIssuer)) {
		ca, parsed, err := t.parsedCA(id)
		if err != nil {
			return nil, err
		}
		if signedBy(cert, parsed) == nil {
			all = append(all, ca)
		}
	}
	return all, nil
}

func (t *Tx) parsedCA(id string) (CA, *x509.Certificate, error) {
	ca, err := t.CA(id)
	if err != nil {
		return ca, nil, err
	}
	text, err := t.CAPEM(id)
	if err != nil {
		return ca, nil, err
	}
	parsed, err := parseCertificate(text)
	if err != nil {
		return ca, nil, fmt.Errorf("CA %s: %w: %w", id, ErrCorrupt, err)
	}
	return ca, parsed, nil
}

// AutoRegister registers the certificate of a first connection as
// PENDING_ACTIVATION, if a CA that is active, in its time and registers by
// itself has signed it; else it is ErrNotFound. One that is no device's is
// ErrInvalid. A View, where nothing can be written, does for a look whether there
// is such a CA.
func (t *Tx) AutoRegister(cert *x509.Certificate) (Certificate, error) {
	none := fmt.Errorf("CA %q: none of this name registers by itself: %w", cert.Issuer, ErrNotFound)
	if len(cert.Raw) > maxCertificatePEM/2 || checkKey(cert) != nil {
		return Certificate{}, none
	}
	all, err := t.signers(cert)
	if err != nil {
		return Certificate{}, err
	}
	now := t.reg.now()
	for _, ca := range all {
		if ca.Status != Active || !ca.AutoRegister || now.Before(ca.NotBefore) || now.After(ca.NotAfter) {
			continue
		}
		if !t.tx.Writable() {
			_, parsed, err := t.parsedCA(ca.ID)
			if err == nil {
				err = checkDevice(cert, parsed)
			}
			return Certificate{ID: fingerprint(cert.Raw), CA: ca.ID}, err
		}
		return t.register(cert, PendingActivation, ca.ID)
	}
	return Certificate{}, none
}

// CA returns a certificate authority by id.
func (t *Tx) CA(id string) (CA, error) {
	ca := CA{ID: id}
	err := t.get(bCAs, "CA", id, &ca)
	return ca, err
}

// CAPEM returns the certificate of an authority.
func (t *Tx) CAPEM(id string) ([]byte, error) {
	return t.text(bCAPEM, "CA", id)
}

// UpdateCA changes a CA's Status, AutoRegister and Registration to what f makes
// of them. Certificates that it has signed stay as they are.
func (t *Tx) UpdateCA(id string, f func(*CA)) error {
	ca, err := t.CA(id)
	if err != nil {
		return err
	}
	next := ca
	f(&next)
	switch {
	case next.Status != Active && next.Status != Inactive:
		return fmt.Errorf("CA status %q: %w: want ACTIVE or INACTIVE", next.Status, ErrInvalid)
	case len(next.Registration) > 0 && !json.Valid(next.Registration):
		return fmt.Errorf("CA %s: registration configuration is not JSON: %w", id, ErrInvalid)
	}
	ca.Status, ca.AutoRegister, ca.Registration, ca.Changed = next.Status, next.AutoRegister, next.Registration,
		t.reg.now().UTC()
	return t.put(bCAs, id, &ca)
}

// DeleteCA forgets a CA that is INACTIVE (else ErrConflict), with what its CRLs
// said. Certificates that it has signed stay as they are.
func (t *Tx) DeleteCA(id string) error {
	ca, parsed, err := t.parsedCA(id)
	if err != nil {
		return err
	}
	if ca.Status == Active {
		return fmt.Errorf("CA %s is active: %w", id, ErrConflict)
	}
	if err := t.removeLink(bCANames, nameKey(parsed.RawSubject), id); err != nil {
		return err
	}
	for _, b := range [][]byte{bCACertificates, bCRLSerials} {
		if err := t.removeLinks(b, id); err != nil {
			return err
		}
	}
	for _, b := range [][]byte{bCRLs, bCAPEM, bCAs} {
		if err := t.tx.Table(b).Delete([]byte(id)); err != nil {
			return err
		}
	}
	return t.deleteTags("cacert/" + id)
}

// CAs lists certificate authorities by id; see Things.
func (t *Tx) CAs(after string, n int) (page []CA, next string, err error) {
	next, err = t.page(bCAs, after, n, func(key string, raw []byte) (bool, error) {
		ca := CA{ID: key}
		if err := json.Unmarshal(raw, &ca); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, ca)
		return true, nil
	})
	return page, next, err
}

// CACertificates lists the ids of the certificates registered with a CA; see
// Things for paging.
func (t *Tx) CACertificates(ca, after string, n int) (page []string, next string) {
	return t.pageLinks(bCACertificates, ca, after, n)
}

// nameKey stands for a distinguished name in its DER form.
func nameKey(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
