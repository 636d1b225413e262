package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// NewCA asks for the registration of a CA.
type NewCA struct {
	Certificate  string `json:"certificate"`            // PEM
	Verification string `json:"verification,omitempty"` // PEM; empty with mode SNI_ONLY
	Mode         string `json:"mode,omitempty"`
	Active       bool   `json:"active"`
	AutoRegister bool   `json:"auto_register"`
}

// CAInfo describes a CA.
type CAInfo struct {
	ID           string        `json:"id"`
	Status       string        `json:"status"`
	Mode         string        `json:"mode"`
	AutoRegister bool          `json:"auto_register"`
	Subject      string        `json:"subject"`
	NotBefore    time.Time     `json:"not_before"`
	NotAfter     time.Time     `json:"not_after"`
	Created      time.Time     `json:"created"`
	CRL          *registry.CRL `json:"crl,omitempty"` // the last that was imported
	PEM          string        `json:"pem,omitempty"`
}

// CAChange asks for changes; what is absent stays.
type CAChange struct {
	Status       string `json:"status,omitempty"`
	AutoRegister *bool  `json:"auto_register,omitempty"`
}

func caInfo(tx records, ca registry.CA) (CAInfo, error) {
	info := CAInfo{ID: ca.ID, Status: string(ca.Status), Mode: string(ca.Mode), AutoRegister: ca.AutoRegister,
		Subject: ca.Subject, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, Created: ca.Created}
	crl, err := tx.CRL(ca.ID)
	if err == nil {
		info.CRL = &crl
	} else if errors.Is(err, registry.ErrNotFound) {
		err = nil
	}
	return info, err
}

// authorities are the CAs that customers registered.
type authorities struct{ registry registry.Store }

func (h *authorities) registrationCode(w http.ResponseWriter, _ *http.Request) error {
	var code string
	err := inRegistry.Store(h.registry, func(tx records) (err error) { code, err = tx.RegistrationCode(); return err })
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]string{"code": code})
}

func (h *authorities) register(w http.ResponseWriter, r *http.Request) error {
	var in NewCA
	if err := readJSON(r, &in); err != nil {
		return err
	}
	var info CAInfo
	err := inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		ca, err := tx.RegisterCA(registry.NewCA{Certificate: []byte(in.Certificate),
			Verification: []byte(in.Verification),
			Mode:         registry.CAMode(in.Mode), Active: in.Active, AutoRegister: in.AutoRegister})
		if err != nil {
			return err
		}
		audit.Of(r.Context()).Name("cas/" + ca.ID)
		info, err = caInfo(tx, ca)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, info)
}

func (h *authorities) list(w http.ResponseWriter, _ *http.Request) error {
	all := []CAInfo{}
	err := inRegistry.View(h.registry, func(tx records) error {
		return pages(func(after string) (string, error) {
			page, next, err := tx.CAs(after, registry.MaxPage)
			if err != nil {
				return "", err
			}
			for _, ca := range page {
				info, err := caInfo(tx, ca)
				if err != nil {
					return "", err
				}
				all = append(all, info)
			}
			return next, nil
		})
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h *authorities) get(w http.ResponseWriter, r *http.Request) error {
	var info CAInfo
	err := inRegistry.View(h.registry, func(tx records) error {
		ca, err := tx.CA(r.PathValue("id"))
		if err != nil {
			return err
		}
		if info, err = caInfo(tx, ca); err != nil {
			return err
		}
		text, err := tx.CAPEM(ca.ID)
		info.PEM = string(text)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, info)
}

func (h *authorities) change(_ http.ResponseWriter, r *http.Request) error {
	var in CAChange
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.UpdateCA(r.PathValue("id"), func(ca *registry.CA) {
			if in.Status != "" {
				ca.Status = registry.Status(in.Status)
			}
			if in.AutoRegister != nil {
				ca.AutoRegister = *in.AutoRegister
			}
		})
	})
}

func (h *authorities) remove(_ http.ResponseWriter, r *http.Request) error {
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.DeleteCA(r.PathValue("id"))
	})
}
