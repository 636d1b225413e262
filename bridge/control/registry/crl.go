package registry

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// MaxCRL bounds a revocation list, in bytes as DER or PEM: about 400,000 entries.
const MaxCRL = 16 << 20

// A CRL is what the registry keeps of the last revocation list of a CA.
type CRL struct {
	Number   string    `json:"number"` // decimal
	Hash     string    `json:"hash"`   // SHA-256 of the list
	Issued   time.Time `json:"issued"`
	Next     time.Time `json:"next,omitzero"` // when the CA wants to issue the next one
	Imported time.Time `json:"imported"`
}

// A CRLImport says what a revocation list did.
type CRLImport struct {
	CA      string `json:"ca"` // id
	Subject string `json:"subject"`
	CRL
	Entries int  `json:"entries"`
	Revoked int  `json:"revoked"` // certificates that are REVOKED now and were not
	Held    int  `json:"held"`    // certificates on hold that are INACTIVE now and were ACTIVE
	Already int  `json:"already"` // certificates that were
	Unknown int  `json:"unknown"` // entries whose certificate is not registered; it cannot be from now on
	Same    bool `json:"same"`    // the list was imported before
	Stale   bool `json:"stale"`   // Next is over
}

// Reasons of RFC 5280, 5.3.1, that are not final.
const (
	reasonHold   = 6
	reasonRemove = 8
)

// ImportCRL revokes the registered certificates that a revocation list, PEM or
// DER, names. It must be signed by a registered CA or one of own, which are the
// bridge's; else it is ErrNotFound. A list with a lower number than the last,
// or another one with the same, is ErrConflict; one that is malformed, from the
// future, or of a kind that cannot be read as a whole (delta, indirect) is
// ErrInvalid. Certificates that it names and that are not registered yet are
// remembered: of a registered CA, they cannot be registered.
func (t *Tx) ImportCRL(raw []byte, own ...*x509.Certificate) (CRLImport, error) {
	list, err := parseCRL(raw)
	if err != nil {
		return CRLImport{}, err
	}
	now := t.reg.now().UTC()
	if list.ThisUpdate.After(now) {
		return CRLImport{}, fmt.Errorf("CRL of %q: issued in the future, %s: %w", list.Issuer,
			list.ThisUpdate.Format(time.RFC3339), ErrInvalid)
	}
	ca, err := t.issuerOf(list, own)
	if err != nil {
		return CRLImport{}, err
	}
	out := CRLImport{CA: fingerprint(ca.Raw), Subject: ca.Subject.String(),
		Entries: len(list.RevokedCertificateEntries),
		CRL: CRL{Number: list.Number.String(), Hash: fingerprint(list.Raw), Issued: list.ThisUpdate.UTC(),
			Next: list.NextUpdate.UTC(), Imported: now},
		Stale: !list.NextUpdate.IsZero() && now.After(list.NextUpdate)}
	last, err := t.CRL(out.CA)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return out, err
	default:
		number, ok := new(big.Int).SetString(last.Number, 10)
		if !ok {
			return out, fmt.Errorf("CRL of %s: number %q: %w", out.CA, last.Number, ErrCorrupt)
		}
		if sign := list.Number.Cmp(number); sign < 0 || sign == 0 && last.Hash != out.Hash {
			return out, fmt.Errorf("CRL of %q: number %s, and %s was imported: %w", ca.Subject, out.Number, last.Number,
				ErrConflict)
		}
		out.Same = last.Hash == out.Hash
	}
	if err := t.removeLinks(bCRLSerials, out.CA); err != nil {
		return out, err
	}
	for i := range list.RevokedCertificateEntries {
		if err := t.applyCRL(&out, ca, &list.RevokedCertificateEntries[i]); err != nil {
			return out, err
		}
	}
	return out, t.put(bCRLs, out.CA, &out.CRL)
}

// applyCRL does what one entry asks for.
func (t *Tx) applyCRL(out *CRLImport, ca *x509.Certificate, e *x509.RevocationListEntry) error {
	if e.ReasonCode == reasonRemove {
		return fmt.Errorf("CRL of %q: an entry of a delta list: %w", ca.Subject, ErrInvalid)
	}
	if err := t.addLink(bCRLSerials, out.CA, serialText(e.SerialNumber)); err != nil {
		return err
	}
	found := false
	for _, id := range t.links(bSerials, serialKey(ca.RawSubject, e.SerialNumber)) {
		c, err := t.Certificate(id)
		if err != nil {
			return err
		}
		text, err := t.CertificatePEM(id)
		if err != nil {
			return err
		}
		cert, err := parseCertificate(text)
		if err != nil {
			return fmt.Errorf("certificate %s: %w: %w", id, ErrCorrupt, err)
		}
		if signedBy(cert, ca) != nil {
			continue // another CA of this name
		}
		found = true
		switch {
		case c.Status == Revoked, e.ReasonCode == reasonHold && c.Status == Inactive:
			out.Already++
		case e.ReasonCode == reasonHold:
			out.Held++
			if err := t.putStatus(&c, Inactive); err != nil {
				return err
			}
		default:
			out.Revoked++
			if err := t.putStatus(&c, Revoked); err != nil {
				return err
			}
		}
	}
	if !found {
		out.Unknown++
	}
	return nil
}

func parseCRL(raw []byte) (*x509.RevocationList, error) {
	if len(raw) > MaxCRL {
		return nil, fmt.Errorf("CRL: %d bytes, want at most %d: %w", len(raw), MaxCRL, ErrInvalid)
	}
	if block, _ := pem.Decode(raw); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("CRL: PEM of type %q, want X509 CRL: %w", block.Type, ErrInvalid)
		}
		raw = block.Bytes
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, fmt.Errorf("CRL: this is no revocation list, PEM or DER (%v): %w", err, ErrInvalid)
	}
	// Without a number an older list could not be told from a newer one.
	if list.Number == nil {
		return nil, fmt.Errorf("CRL of %q: it has no number: %w", list.Issuer, ErrInvalid)
	}
	// What is critical and not known may change what the entries mean (RFC
	// 5280, 5.2).
	for _, e := range list.Extensions {
		if e.Critical {
			return nil, fmt.Errorf("CRL of %q: critical extension %s, such as of a delta or partial list: %w",
				list.Issuer, e.Id, ErrInvalid)
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		if i := slices.IndexFunc(entry.Extensions, func(e pkix.Extension) bool {
			return e.Critical
		}); i >= 0 && !entry.Extensions[i].Id.Equal(oidReason) {
			return nil, fmt.Errorf("CRL of %q: entry %x has critical extension %s: %w", list.Issuer, entry.SerialNumber,
				entry.Extensions[i].Id, ErrInvalid)
		}
	}
	return list, nil
}

var oidReason = asn1.ObjectIdentifier{2, 5, 29, 21}

// issuerOf finds the CA that has signed the list.
func (t *Tx) issuerOf(list *x509.RevocationList, own []*x509.Certificate) (*x509.Certificate, error) {
	candidates := slices.Clone(own)
	for _, id := range t.links(bCANames, nameKey(list.RawIssuer)) {
		_, parsed, err := t.parsedCA(id)
		if err != nil {
			return nil, err
		}
		candidates = append(candidates, parsed)
	}
	why := error(nil)
	for _, ca := range candidates {
		if !bytes.Equal(list.RawIssuer, ca.RawSubject) {
			continue
		}
		err := list.CheckSignatureFrom(ca)
		if err == nil {
			return ca, nil
		}
		why = err
	}
	if why != nil {
		return nil, fmt.Errorf("CRL of %q: signature: %w: %w", list.Issuer, ErrInvalid, why)
	}
	return nil, fmt.Errorf("CRL of %q: CA: %w", list.Issuer, ErrNotFound)
}

// CRL returns what is kept of the last list of a CA.
func (t *Tx) CRL(ca string) (CRL, error) {
	var c CRL
	err := t.get(bCRLs, "CRL of", ca, &c)
	return c, err
}

// onCRL says whether a list of the CA that signed cert names it.
func (t *Tx) onCRL(cert *x509.Certificate) (bool, error) {
	all, err := t.signers(cert)
	if err != nil {
		return false, err
	}
	for _, ca := range all {
		if t.linked(bCRLSerials, ca.ID, serialText(cert.SerialNumber)) {
			return true, nil
		}
	}
	return false, nil
}

func serialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// serialKey stands for an issuer's certificate number.
func serialKey(issuer []byte, n *big.Int) string { return nameKey(issuer) + ":" + serialText(n) }

// indexSerials makes the index of a file that was written without one.
func indexSerials(tx table.Tx) error {
	t := &Tx{tx: tx}
	return table.Each(tx.Table(bPEM), func(id, text []byte) error {
		block, _ := pem.Decode(text)
		if block == nil {
			return fmt.Errorf("certificate %s: %w", id, ErrCorrupt)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %s: %w: %w", id, ErrCorrupt, err)
		}
		return t.addLink(bSerials, serialKey(cert.RawIssuer, cert.SerialNumber), string(id))
	})
}
