package admin

import (
	"crypto/x509"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// records are what the admin socket needs of a transaction of the registry.
type records interface {
	AttachPolicy(policy, certificate string) error
	CA(id string) (registry.CA, error)
	CAPEM(id string) ([]byte, error)
	CAs(after string, n int) (page []registry.CA, next string, err error)
	CRL(ca string) (registry.CRL, error)
	Certificate(id string) (registry.Certificate, error)
	CertificatePEM(id string) ([]byte, error)
	CertificatePolicies(certificate string) []string
	CertificateThings(certificate string) []string
	Certificates(after string, n int) (page []registry.Certificate, next string, err error)
	DeleteCA(id string) error
	DeleteCertificate(id string, force bool) error
	DeletePolicy(name string) error
	DeletePolicyVersion(name string, number int) error
	DeleteThing(name string, expected uint64) error
	DetachPolicy(policy, certificate string) error
	DetachThing(thing, certificate string) error
	EffectivePolicies(certificate, thing string) ([]registry.EffectivePolicy, error)
	ImportCRL(raw []byte, own ...*x509.Certificate) (registry.CRLImport, error)
	Policies(after string, n int) (page []registry.Policy, next string, err error)
	Policy(name string) (registry.Policy, error)
	PolicyDocument(name string, number int) ([]byte, error)
	Provision(p registry.Provision) (registry.Certificate, error)
	PutPolicy(name string, doc []byte) error
	RegisterCA(in registry.NewCA) (registry.CA, error)
	RegisterCertificate(text []byte, status registry.Status) (registry.Certificate, error)
	RegisterSigned(text, ca []byte, status registry.Status) (registry.Certificate, error)
	RegistrationCode() (string, error)
	SetCertificateStatus(id string, status registry.Status) error
	SetDefaultVersion(name string, number int) error
	TestAuthorization(q registry.AuthTest) ([]registry.AuthResult, error)
	Thing(name string) (registry.Thing, error)
	ThingCertificates(thing string) []string
	Things(after string, n int, match func(*registry.Thing) bool) (page []registry.Thing, next string, err error)
	UpdateCA(id string, f func(*registry.CA)) error
}

// inRegistry are they in a registry.
var inRegistry audit.Records[records] = func(tx *registry.Tx) records { return tx }
