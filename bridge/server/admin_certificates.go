package server

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// NewCertificate asks for a certificate of the bridge's own CA.
type NewCertificate struct {
	Name   string `json:"name"`          // common name; with CSR it may be empty
	CSR    string `json:"csr,omitempty"` // PEM; empty: a key is made
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

func (s *Server) createCertificate(w http.ResponseWriter, r *http.Request) error {
	var in NewCertificate
	if err := readJSON(r, &in); err != nil {
		return err
	}
	var issued *pki.Issued
	var err error
	switch {
	case in.CSR != "":
		issued, err = s.pki.IssueFromCSR([]byte(in.CSR), in.Name)
	case in.Name == "" || len(in.Name) > 64: // RFC 5280, ub-common-name
		err = fmt.Errorf("name %q: %w: want 1 to 64 bytes", in.Name, registry.ErrInvalid)
	default:
		issued, err = s.pki.Issue(in.Name)
	}
	if errors.Is(err, pki.ErrRequest) {
		return badRequest{err}
	}
	if err != nil {
		return err
	}
	err = s.registry.Update(func(tx *registry.Tx) error {
		_, err := tx.RegisterCertificate(issued.CertPEM, registry.Status(in.Status))
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, Identity{CertificateID: issued.ID, Key: string(issued.KeyPEM), Certificate: string(issued.CertPEM), CA: string(s.pki.CA())})
}

func (s *Server) registerCertificate(w http.ResponseWriter, r *http.Request) error {
	var in ForeignCertificate
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if in.Pinned && in.CA != "" {
		return badRequest{errors.New("a certificate is registered with a CA or without one, not both")}
	}
	var c registry.Certificate
	err := s.registry.Update(func(tx *registry.Tx) (err error) {
		if in.Pinned {
			c, err = tx.RegisterCertificate([]byte(in.Certificate), registry.Status(in.Status))
		} else {
			c, err = tx.RegisterSigned([]byte(in.Certificate), []byte(in.CA), registry.Status(in.Status))
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, CertificateInfo{ID: c.ID, Status: string(c.Status), Things: []string{}, Policies: []string{}})
}

func (s *Server) getCertificate(w http.ResponseWriter, r *http.Request) error {
	var d CertificateDetail
	err := s.registry.View(func(tx *registry.Tx) error {
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
		d = CertificateDetail{CertificateInfo{c.ID, string(c.Status), tx.CertificateThings(c.ID), tx.CertificatePolicies(c.ID)},
			c.Subject, cert.Issuer.String(), cert.SerialNumber.Text(16), c.CA, cert.NotBefore, cert.NotAfter, c.Created, c.Changed, string(text)}
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

func (s *Server) deleteCertificate(_ http.ResponseWriter, r *http.Request) error {
	force := r.URL.Query().Get("force") == "true"
	return s.registry.Update(func(tx *registry.Tx) error { return tx.DeleteCertificate(r.PathValue("id"), force) })
}

func (s *Server) postCRL(w http.ResponseWriter, r *http.Request) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest{err}
	}
	own, err := parsePEM(s.pki.CA())
	if err != nil {
		return err
	}
	var out registry.CRLImport
	err = s.registry.Update(func(tx *registry.Tx) (err error) {
		out, err = tx.ImportCRL(raw, own)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, out)
}

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

func caInfo(tx *registry.Tx, ca registry.CA) (CAInfo, error) {
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

func (s *Server) getRegistrationCode(w http.ResponseWriter, _ *http.Request) error {
	var code string
	err := s.registry.Update(func(tx *registry.Tx) (err error) { code, err = tx.RegistrationCode(); return err })
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]string{"code": code})
}

func (s *Server) postCA(w http.ResponseWriter, r *http.Request) error {
	var in NewCA
	if err := readJSON(r, &in); err != nil {
		return err
	}
	var info CAInfo
	err := s.registry.Update(func(tx *registry.Tx) error {
		ca, err := tx.RegisterCA(registry.NewCA{Certificate: []byte(in.Certificate), Verification: []byte(in.Verification),
			Mode: registry.CAMode(in.Mode), Active: in.Active, AutoRegister: in.AutoRegister})
		if err != nil {
			return err
		}
		info, err = caInfo(tx, ca)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, info)
}

func (s *Server) listCAs(w http.ResponseWriter, _ *http.Request) error {
	all := []CAInfo{}
	err := s.registry.View(func(tx *registry.Tx) error {
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

func (s *Server) getCA(w http.ResponseWriter, r *http.Request) error {
	var info CAInfo
	err := s.registry.View(func(tx *registry.Tx) error {
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

func (s *Server) changeCA(_ http.ResponseWriter, r *http.Request) error {
	var in CAChange
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return s.registry.Update(func(tx *registry.Tx) error {
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

func (s *Server) deleteCA(_ http.ResponseWriter, r *http.Request) error {
	return s.registry.Update(func(tx *registry.Tx) error { return tx.DeleteCA(r.PathValue("id")) })
}

// PolicyVersionInfo describes one version of a policy.
type PolicyVersionInfo struct {
	Version int       `json:"version"`
	Default bool      `json:"default"`
	Created time.Time `json:"created"`
}

func (s *Server) listPolicyVersions(w http.ResponseWriter, r *http.Request) error {
	all := []PolicyVersionInfo{}
	err := s.registry.View(func(tx *registry.Tx) error {
		p, err := tx.Policy(r.PathValue("name"))
		for _, v := range p.Versions {
			all = append(all, PolicyVersionInfo{v.Number, v.Number == p.Default, v.Created})
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// PolicyVersion names a version.
type PolicyVersion struct {
	Version int `json:"version"`
}

func (s *Server) postPolicyDefault(_ http.ResponseWriter, r *http.Request) error {
	var in PolicyVersion
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if in.Version < 1 {
		return badRequest{errors.New("want a version from 1")}
	}
	return s.registry.Update(func(tx *registry.Tx) error { return tx.SetDefaultVersion(r.PathValue("name"), in.Version) })
}

func (s *Server) deletePolicy(_ http.ResponseWriter, r *http.Request) error {
	return s.registry.Update(func(tx *registry.Tx) error { return tx.DeletePolicy(r.PathValue("name")) })
}

func (s *Server) deletePolicyVersion(_ http.ResponseWriter, r *http.Request) error {
	n, err := strconv.Atoi(r.PathValue("version"))
	if err != nil || n < 1 {
		return badRequest{errors.New("want a version from 1")}
	}
	return s.registry.Update(func(tx *registry.Tx) error { return tx.DeletePolicyVersion(r.PathValue("name"), n) })
}

// An EffectivePolicy is a policy in effect with its document.
type EffectivePolicy struct {
	registry.EffectivePolicy
	Document json.RawMessage `json:"document"`
}

func (s *Server) effectivePolicies(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	all := []EffectivePolicy{}
	err := s.registry.View(func(tx *registry.Tx) error {
		list, err := tx.EffectivePolicies(q.Get("certificate"), q.Get("thing"))
		for _, p := range list {
			all = append(all, EffectivePolicy{p, bytes.TrimSpace(p.Document)})
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// PolicyTest asks what a certificate might do.
type PolicyTest struct {
	Certificate string              `json:"certificate"`
	ClientID    string              `json:"client_id"`
	SourceIP    string              `json:"source_ip,omitempty"`
	Add         []string            `json:"policyNamesToAdd,omitempty"`
	Skip        []string            `json:"policyNamesToSkip,omitempty"`
	Infos       []registry.AuthInfo `json:"authInfos"`
}

// PolicyTestResult is one answer.
type PolicyTestResult struct {
	Info        registry.AuthInfo `json:"authInfo"`
	Decision    string            `json:"authDecision"` // ALLOWED, EXPLICIT_DENY or IMPLICIT_DENY
	Allowed     []string          `json:"allowed"`
	Denied      []string          `json:"explicitDeny"`
	Implicit    []string          `json:"implicitDeny"`
	Missing     []string          `json:"missingContextValues"`
	Explanation string            `json:"explanation"` // lines of text
	Status      string            `json:"status"`      // of the certificate, which the decision is without
}

func (s *Server) testPolicies(w http.ResponseWriter, r *http.Request) error {
	var in PolicyTest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	all := []PolicyTestResult{}
	err := s.registry.View(func(tx *registry.Tx) error {
		c, err := tx.Certificate(in.Certificate)
		if err != nil {
			return err
		}
		known := authz.Context{Account: s.cfg.Account, Region: s.cfg.Region, SourceIP: in.SourceIP}
		results, err := tx.TestAuthorization(registry.AuthTest{Certificate: c.ID, ClientID: in.ClientID, Add: in.Add, Skip: in.Skip, Infos: in.Infos, Known: known})
		for _, x := range results {
			var text string
			for _, e := range x.Explanations {
				text += e.String()
			}
			all = append(all, PolicyTestResult{x.Info, x.Decision.String(), x.Allowed, x.Denied, x.Implicit, x.Missing, text, string(c.Status)})
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// A WhoCanLine is one of the answers to who can do something. The last has End
// alone, or the error that ended it.
type WhoCanLine struct {
	*registry.Access
	Error string `json:"error,omitempty"`
	End   bool   `json:"end,omitempty"`
}

// whoCanActions are the words for actions.
var whoCanActions = map[string]string{
	"publish": authz.Publish, "subscribe": authz.Subscribe, "receive": authz.Receive, "connect": authz.Connect}

func (s *Server) whoCan(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	action, resource := whoCanActions[q.Get("action")], q.Get("resource")
	if action == "" || resource == "" {
		return badRequest{errors.New("want an action (publish, subscribe, receive or connect) and a topic, filter or client id")}
	}
	known := authz.Context{Account: s.cfg.Account, Region: s.cfg.Region, SourceIP: q.Get("source_ip")}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	var gone error
	err := s.registry.WhoCan(action, resource, known, func(a registry.Access) bool {
		gone = enc.Encode(WhoCanLine{Access: &a})
		return gone == nil && r.Context().Err() == nil
	})
	last := WhoCanLine{End: true}
	if err != nil {
		s.log.Error("who can", "action", action, "resource", resource, "err", err)
		last.Error = err.Error()
	}
	if gone == nil {
		_ = enc.Encode(last) // the client is gone if this fails
	}
	return nil
}
