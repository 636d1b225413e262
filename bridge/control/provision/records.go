package provision

import (
	"crypto/x509"
	"encoding/json"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// records are what provisioning needs of a transaction of the registry.
type records interface {
	resources
	AddToken(hash string, k registry.Token) (registry.Token, error)
	AutoRegister(cert *x509.Certificate) (registry.Certificate, error)
	CA(id string) (registry.CA, error)
	CertificateThings(certificate string) []string
	EndToken(hash, asked string, outcome json.RawMessage) error
	Policies(after string, n int) (page []registry.Policy, next string, err error)
	PolicyDocument(name string, number int) ([]byte, error)
	PutPolicy(name string, doc []byte) error
	RegisterPending(text []byte) (registry.Certificate, error)
	SweepTokens(n int) (swept int, err error)
	Template(name string) (registry.Template, error)
	TemplateBody(name string, version int) ([]byte, error)
	Token(hash string) (registry.Token, error)
	TokensDue() (due bool, next time.Time)
}

// inRegistry are they in a registry.
var inRegistry audit.Records[records] = func(tx *registry.Tx) records { return tx }
