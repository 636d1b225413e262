package admin

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// OwnCA describes a CA of the bridge.
type OwnCA struct {
	ID        string    `json:"id"`
	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Previous  bool      `json:"previous"` // it signs no devices any more and is to be retired
	PEM       string    `json:"pem"`
	Active    int       `json:"active"` // device certificates of a previous one that may connect
}

// Retired says what the end of a rotation did.
type Retired struct {
	Deactivated int `json:"deactivated"` // certificates of the CA that is gone
}

// A rotation is that of the bridge's own CA.
type rotation struct {
	registry *registry.Registry
	issuer   Issuer
}

func (h *rotation) list(w http.ResponseWriter, _ *http.Request) error {
	all, err := h.all()
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h *rotation) all() ([]OwnCA, error) {
	all := []OwnCA{}
	for _, a := range h.issuer.Authorities() {
		ca := OwnCA{ID: a.ID, Subject: a.Cert.Subject.String(), NotBefore: a.Cert.NotBefore, NotAfter: a.Cert.NotAfter,
			Previous: a.Previous,
			PEM:      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw}))}
		if a.Previous {
			ids, err := h.activeOfPrevious()
			if err != nil {
				return nil, err
			}
			ca.Active = len(ids)
		}
		all = append(all, ca)
	}
	return all, nil
}

func (h *rotation) begin(w http.ResponseWriter, r *http.Request) error {
	if err := h.shown(r, h.issuer.Rotate); err != nil {
		return err
	}
	return h.list(w, r)
}

// shown is f, a change of the CAs, which the audit log shows as they were and are.
func (h *rotation) shown(r *http.Request, f func() error) error {
	before, err := h.all()
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	after, err := h.all()
	audit.Of(r.Context()).Show(before, after)
	return err
}

// retire is refused while certificates of the previous CA may connect, unless
// ?force=true makes them INACTIVE.
func (h *rotation) retire(w http.ResponseWriter, r *http.Request) error {
	ids, err := h.activeOfPrevious()
	if err != nil {
		return err
	}
	if len(ids) > 0 && r.URL.Query().Get("force") != "true" {
		return fmt.Errorf("%d active certificates are of the CA that is to be retired: have their devices get "+
			"new ones (tidemill-agent rotate), "+
			"or -force, which makes them INACTIVE: %w", len(ids), registry.ErrConflict)
	}
	if len(ids) > 0 {
		err = inRegistry.Update(r.Context(), h.registry, func(tx records) error {
			for _, id := range ids {
				if err := tx.SetCertificateStatus(id, registry.Inactive); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	if err := h.shown(r, h.issuer.Retire); err != nil {
		return fmt.Errorf("%d certificates are INACTIVE, and the CA is still there: mend this and run it again: %w",
			len(ids), err)
	}
	return writeJSON(w, Retired{len(ids)})
}

// activeOfPrevious returns the ids of the certificates that the previous CA has
// signed and that may connect.
func (h *rotation) activeOfPrevious() (ids []string, err error) {
	err = inRegistry.View(h.registry, func(tx records) error {
		return pages(func(after string) (string, error) {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			if err != nil {
				return "", err
			}
			for _, c := range page {
				if c.Status != registry.Active || c.CA != "" {
					continue
				}
				text, err := tx.CertificatePEM(c.ID)
				if err != nil {
					return "", err
				}
				cert, err := parsePEM(text)
				if err != nil {
					return "", err
				}
				if h.issuer.SignedByPrevious(cert) {
					ids = append(ids, c.ID)
				}
			}
			return next, nil
		})
	})
	return ids, err
}
