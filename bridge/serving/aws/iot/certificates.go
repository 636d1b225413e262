package iot

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (c *controlPlane) certificates() []operation {
	return []operation{
		{"CreateKeysAndCertificate", "POST", "/keys-and-certificate", c.createKeys},
		{"CreateCertificateFromCsr", "POST", "/certificates", c.createFromCSR},
		{"ListCertificates", "GET", "/certificates", c.listCertificates},
		{"DescribeCertificate", "GET", "/certificates/:certificateId", c.describeCertificate},
		{"UpdateCertificate", "PUT", "/certificates/:certificateId", c.updateCertificate},
		{"DeleteCertificate", "DELETE", "/certificates/:certificateId", c.deleteCertificate},
		{"RegisterCertificate", "POST", "/certificate/register", c.registerCertificate(false)},
		{"RegisterCertificateWithoutCA", "POST", "/certificate/register-no-ca", c.registerCertificate(true)},
		{"RegisterCACertificate", "POST", "/cacertificate", c.registerCA},
		{"DescribeCACertificate", "GET", "/cacertificate/:caCertificateId", c.describeCA},
		{"UpdateCACertificate", "PUT", "/cacertificate/:caCertificateId", c.updateCA},
		{"DeleteCACertificate", "DELETE", "/cacertificate/:caCertificateId", c.deleteCA},
		{"ListCACertificates", "GET", "/cacertificates", c.listCAs},
		{"ListCertificatesByCA", "GET", "/certificates-by-ca/:caCertificateId", c.listByCA},
		{"GetRegistrationCode", "GET", "/registrationcode", c.registrationCode},
	}
}

// commonName is what AWS gives the certificates that it makes.
const commonName = "AWS IoT Certificate"

// flag reads a boolean of the query.
func flag(r *wire.Request, name string) (bool, error) {
	text := r.Query.Get(name)
	if text == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%w: %s: %.20q, want true or false", registry.ErrInvalid, name, text)
	}
	return on, nil
}

// version reads a version number of the query, 0 for none.
func version(r *wire.Request, name string) (uint64, error) {
	text := r.Query.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %.20q, want a number", registry.ErrInvalid, name, text)
	}
	return n, nil
}

func statusOf(active bool) registry.Status {
	if active {
		return registry.Active
	}
	return registry.Inactive
}

type certificateAnswer struct {
	ID  string `json:"certificateId"`
	ARN string `json:"certificateArn"`
	PEM string `json:"certificatePem,omitempty"`
}

func (c *controlPlane) createKeys(r *wire.Request) (any, error) {
	issued, err := c.issuer.Issue(commonName)
	if err != nil {
		return nil, err
	}
	answer, err := c.store(r, issued)
	if err != nil {
		return nil, err
	}
	public, err := publicKey(issued.CertPEM)
	if err != nil {
		return nil, err
	}
	return struct {
		certificateAnswer
		Keys map[string]string `json:"keyPair"`
	}{answer, map[string]string{"PublicKey": public, "PrivateKey": string(issued.KeyPEM)}}, nil
}

// publicKey is that of a certificate, as PEM.
func publicKey(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return "", errors.New("aws: no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

func (c *controlPlane) createFromCSR(r *wire.Request) (any, error) {
	var in struct {
		CSR string `json:"certificateSigningRequest"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	issued, err := c.issuer.IssueFromCSR([]byte(in.CSR), "")
	if err != nil {
		return nil, instead(err, pki.ErrRequest, "InvalidRequestException", 400)
	}
	return c.store(r, issued)
}

// store registers what was issued.
func (c *controlPlane) store(r *wire.Request, issued *pki.Issued) (certificateAnswer, error) {
	active, err := flag(r, "setAsActive")
	if err != nil {
		return certificateAnswer{}, err
	}
	err = ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) error {
		_, err := tx.RegisterCertificate(issued.CertPEM, statusOf(active))
		return err
	})
	return certificateAnswer{issued.ID, c.arn(r, "cert", issued.ID), string(issued.CertPEM)}, err
}

func (c *controlPlane) registerCertificate(pinned bool) run {
	return func(r *wire.Request) (any, error) {
		var in struct {
			PEM    string          `json:"certificatePem"`
			CA     string          `json:"caCertificatePem"`
			Status registry.Status `json:"status"`
		}
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		active, err := flag(r, "setAsActive")
		if err != nil {
			return nil, err
		}
		if in.Status == "" {
			in.Status = statusOf(active)
		}
		var cert registry.Certificate
		err = ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) (err error) {
			if pinned {
				cert, err = tx.RegisterCertificate([]byte(in.PEM), in.Status)
			} else {
				cert, err = tx.RegisterSigned([]byte(in.PEM), []byte(in.CA), in.Status)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		return certificateAnswer{ID: cert.ID, ARN: c.arn(r, "cert", cert.ID)}, nil
	}
}

// A listedCertificate is a certificate, or a CA, in a list.
type listedCertificate struct {
	ARN     string          `json:"certificateArn"`
	ID      string          `json:"certificateId"`
	Status  registry.Status `json:"status"`
	Created float64         `json:"creationDate"`
}

func (c *controlPlane) listed(r *wire.Request, x *registry.Certificate) listedCertificate {
	return listedCertificate{c.arn(r, "cert", x.ID), x.ID, x.Status, seconds(x.Created)}
}

type certificateList struct {
	Certificates []listedCertificate `json:"certificates"`
	Next         string              `json:"nextMarker,omitempty"`
}

func (c *controlPlane) listCertificates(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := certificateList{Certificates: []listedCertificate{}}
	err = ofCertificates.View(c.registry, func(tx certificateRecords) error {
		all, next, err := tx.Certificates(after, n)
		for _, x := range all {
			out.Certificates = append(out.Certificates, c.listed(r, &x))
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

func (c *controlPlane) listByCA(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := certificateList{Certificates: []listedCertificate{}}
	err = ofCertificates.View(c.registry, func(tx certificateRecords) error {
		ids, next := tx.CACertificates(r.Path("caCertificateId"), after, n)
		for _, id := range ids {
			x, err := tx.Certificate(id)
			if err != nil {
				return err
			}
			out.Certificates = append(out.Certificates, c.listed(r, &x))
		}
		out.Next = token(next)
		return nil
	})
	return out, err
}

func (c *controlPlane) describeCertificate(r *wire.Request) (any, error) {
	id := r.Path("certificateId")
	out := map[string]any{}
	err := ofCertificates.View(c.registry, func(tx certificateRecords) error {
		x, err := tx.Certificate(id)
		if err != nil {
			return err
		}
		text, err := tx.CertificatePEM(id)
		if err != nil {
			return err
		}
		d := map[string]any{
			"certificateArn": c.arn(r, "cert", id), "certificateId": id, "status": x.Status,
			"certificatePem": string(text),
			"ownedBy":        c.account, "creationDate": seconds(x.Created), "lastModifiedDate": seconds(x.Changed),
			"validity": map[string]float64{"notBefore": seconds(x.NotBefore), "notAfter": seconds(x.NotAfter)},
		}
		if x.CA != "" {
			d["caCertificateId"] = x.CA
		}
		out["certificateDescription"] = d
		return nil
	})
	return out, err
}

func (c *controlPlane) updateCertificate(r *wire.Request) (any, error) {
	status := registry.Status(r.Query.Get("newStatus"))
	err := ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) error {
		return tx.SetCertificateStatus(r.Path("certificateId"), status)
	})
	return nil, instead(err, registry.ErrConflict, "CertificateStateException", 406)
}

func (c *controlPlane) deleteCertificate(r *wire.Request) (any, error) {
	force, err := flag(r, "forceDelete")
	if err != nil {
		return nil, err
	}
	err = ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) error {
		return tx.DeleteCertificate(r.Path("certificateId"), force)
	})
	err = instead(err, registry.ErrInUse, "DeleteConflictException", 409)
	return nil, instead(err, registry.ErrConflict, "CertificateStateException", 406)
}

func (c *controlPlane) registerCA(r *wire.Request) (any, error) {
	var in struct {
		CA           string          `json:"caCertificate"`
		Verification string          `json:"verificationCertificate"`
		Mode         registry.CAMode `json:"certificateMode"`
		Config       json.RawMessage `json:"registrationConfig"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if err := c.registration(in.Config); err != nil {
		return nil, err
	}
	active, err := flag(r, "setAsActive")
	if err != nil {
		return nil, err
	}
	auto, err := flag(r, "allowAutoRegistration")
	if err != nil {
		return nil, err
	}
	var ca registry.CA
	err = ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) (err error) {
		ca, err = tx.RegisterCA(registry.NewCA{Certificate: []byte(in.CA), Verification: []byte(in.Verification),
			Mode: in.Mode, Active: active, AutoRegister: auto, Registration: in.Config})
		return err
	})
	if err != nil {
		return nil, err
	}
	return certificateAnswer{ID: ca.ID, ARN: c.arn(r, "cacert", ca.ID)}, nil
}

func autoRegistration(on bool) string {
	if on {
		return "ENABLE"
	}
	return "DISABLE"
}

func (c *controlPlane) describeCA(r *wire.Request) (any, error) {
	id := r.Path("caCertificateId")
	out := map[string]any{}
	err := ofCertificates.View(c.registry, func(tx certificateRecords) error {
		ca, err := tx.CA(id)
		if err != nil {
			return err
		}
		text, err := tx.CAPEM(id)
		if err != nil {
			return err
		}
		out["certificateDescription"] = map[string]any{
			"certificateArn": c.arn(r, "cacert", id), "certificateId": id, "status": ca.Status,
			"certificatePem": string(text),
			"ownedBy":        c.account, "creationDate": seconds(ca.Created), "lastModifiedDate": seconds(ca.Changed),
			"autoRegistrationStatus": autoRegistration(ca.AutoRegister), "certificateMode": ca.Mode,
			"validity": map[string]float64{"notBefore": seconds(ca.NotBefore), "notAfter": seconds(ca.NotAfter)},
		}
		if ca.Registration != nil {
			out["registrationConfig"] = ca.Registration
		}
		return nil
	})
	return out, err
}

func (c *controlPlane) updateCA(r *wire.Request) (any, error) {
	var in struct {
		Config json.RawMessage `json:"registrationConfig"`
		Remove bool            `json:"removeAutoRegistration"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if err := c.registration(in.Config); err != nil {
		return nil, err
	}
	return nil, ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) error {
		return tx.UpdateCA(r.Path("caCertificateId"), func(ca *registry.CA) {
			if s := r.Query.Get("newStatus"); s != "" {
				ca.Status = registry.Status(s)
			}
			if s := r.Query.Get("newAutoRegistrationStatus"); s != "" {
				ca.AutoRegister = s == "ENABLE"
			}
			if in.Config != nil {
				ca.Registration = in.Config
			}
			if in.Remove {
				ca.AutoRegister, ca.Registration = false, nil
			}
		})
	})
}

func (c *controlPlane) deleteCA(r *wire.Request) (any, error) {
	err := ofCertificates.Update(r.Context(), c.registry, func(tx certificateRecords) error {
		return tx.DeleteCA(r.Path("caCertificateId"))
	})
	return nil, instead(err, registry.ErrConflict, "CertificateStateException", 406)
}

func (c *controlPlane) listCAs(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := certificateList{Certificates: []listedCertificate{}}
	err = ofCertificates.View(c.registry, func(tx certificateRecords) error {
		all, next, err := tx.CAs(after, n)
		for _, x := range all {
			out.Certificates = append(out.Certificates,
				listedCertificate{c.arn(r, "cacert", x.ID), x.ID, x.Status, seconds(x.Created)})
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

func (c *controlPlane) registrationCode(*wire.Request) (any, error) {
	var code string
	err := ofCertificates.Store(c.registry, func(tx certificateRecords) (err error) {
		code, err = tx.RegistrationCode()
		return err
	})
	return map[string]string{"registrationCode": code}, err
}
