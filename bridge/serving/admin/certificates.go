package admin

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// CertificateInfo describes one certificate.
type CertificateInfo struct {
	ID       string   `json:"id"`
	Status   string   `json:"status"`
	Things   []string `json:"things"`
	Policies []string `json:"policies"`
}

// NewCertificate asks for a certificate of the bridge's own CA.
type NewCertificate struct {
	Name   string `json:"name"`          // common name; with CSR it may be empty
	CSR    string `json:"csr,omitempty"` // PEM; empty: a key is made
	Status string `json:"status"`
}

// CertificateStatus asks for a new state.
type CertificateStatus struct {
	Status string `json:"status"`
}

// ForeignCertificate asks for the registration of a certificate.
type ForeignCertificate struct {
	Certificate string `json:"certificate"`  // PEM
	CA          string `json:"ca,omitempty"` // PEM; empty: the CA is found by its name
	Pinned      bool   `json:"pinned"`       // without a CA
	Status      string `json:"status"`
}

// CertificateDetail is all about one certificate.
type CertificateDetail struct {
	CertificateInfo
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`       // hexadecimal
	CA        string    `json:"ca,omitempty"` // id of the registered CA
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Created   time.Time `json:"created"`
	Changed   time.Time `json:"changed"`
	PEM       string    `json:"pem"`
}

// certificates are the registry's.
type certificates struct {
	registry registry.Store
	issuer   Issuer
}

func (h *certificates) create(w http.ResponseWriter, r *http.Request) error {
	var in NewCertificate
	if err := readJSON(r, &in); err != nil {
		return err
	}
	var issued *pki.Issued
	var err error
	switch {
	case in.CSR != "":
		issued, err = h.issuer.IssueFromCSR([]byte(in.CSR), in.Name)
	case in.Name == "" || len(in.Name) > 64: // RFC 5280, ub-common-name
		err = fmt.Errorf("name %q: %w: want 1 to 64 bytes", in.Name, registry.ErrInvalid)
	default:
		issued, err = h.issuer.Issue(in.Name)
	}
	if err != nil {
		return err
	}
	audit.Of(r.Context()).Name("certificates/" + issued.ID)
	err = inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		_, err := tx.RegisterCertificate(issued.CertPEM, registry.Status(in.Status))
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, Identity{CertificateID: issued.ID, Key: string(issued.KeyPEM),
		Certificate: string(issued.CertPEM),
		CA:          string(h.issuer.Trusted())})
}

func (h *certificates) register(w http.ResponseWriter, r *http.Request) error {
	var in ForeignCertificate
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if in.Pinned && in.CA != "" {
		return badRequest{errors.New("a certificate is registered with a CA or without one, not both")}
	}
	var c registry.Certificate
	err := inRegistry.Update(r.Context(), h.registry, func(tx records) (err error) {
		if in.Pinned {
			c, err = tx.RegisterCertificate([]byte(in.Certificate), registry.Status(in.Status))
		} else {
			c, err = tx.RegisterSigned([]byte(in.Certificate), []byte(in.CA), registry.Status(in.Status))
		}
		if c.ID != "" {
			audit.Of(r.Context()).Name("certificates/" + c.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, CertificateInfo{ID: c.ID, Status: string(c.Status), Things: []string{}, Policies: []string{}})
}

func (h *certificates) get(w http.ResponseWriter, r *http.Request) error {
	var d CertificateDetail
	err := inRegistry.View(h.registry, func(tx records) error {
		c, err := tx.Certificate(r.PathValue("id"))
		if err != nil {
			return err
		}
		text, err := tx.CertificatePEM(c.ID)
		if err != nil {
			return err
		}
		cert, err := parsePEM(text)
		if err != nil {
			return err
		}
		d = CertificateDetail{
			CertificateInfo: CertificateInfo{c.ID, string(c.Status), tx.CertificateThings(c.ID),
				tx.CertificatePolicies(c.ID)},
			Subject: c.Subject, Issuer: cert.Issuer.String(), Serial: cert.SerialNumber.Text(16), CA: c.CA,
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Created: c.Created, Changed: c.Changed,
			PEM: string(text),
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeJSON(w, d)
}

func parsePEM(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func (h *certificates) remove(_ http.ResponseWriter, r *http.Request) error {
	force := r.URL.Query().Get("force") == "true"
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.DeleteCertificate(r.PathValue("id"), force)
	})
}

func (h *certificates) importCRL(w http.ResponseWriter, r *http.Request) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest{err}
	}
	var own []*x509.Certificate
	for _, a := range h.issuer.Authorities() {
		own = append(own, a.Cert)
	}
	var out registry.CRLImport
	err = inRegistry.Update(r.Context(), h.registry, func(tx records) (err error) {
		out, err = tx.ImportCRL(raw, own...)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, out)
}

// list lists all certificates, or those of ?thing=NAME.
func (h *certificates) list(w http.ResponseWriter, r *http.Request) error {
	all := []CertificateInfo{}
	err := inRegistry.View(h.registry, func(tx records) error {
		add := func(c registry.Certificate) {
			all = append(all, CertificateInfo{c.ID, string(c.Status), tx.CertificateThings(c.ID),
				tx.CertificatePolicies(c.ID)})
		}
		if thing := r.URL.Query().Get("thing"); thing != "" {
			if _, err := tx.Thing(thing); err != nil {
				return err
			}
			for _, id := range tx.ThingCertificates(thing) {
				c, err := tx.Certificate(id)
				if err != nil {
					return err
				}
				add(c)
			}
			return nil
		}
		return pages(func(after string) (string, error) {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			for _, c := range page {
				add(c)
			}
			return next, err
		})
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h *certificates) setStatus(_ http.ResponseWriter, r *http.Request) error {
	var in CertificateStatus
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.SetCertificateStatus(r.PathValue("id"), registry.Status(in.Status))
	})
}
