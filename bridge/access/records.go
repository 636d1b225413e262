package access

import (
	"context"
	"crypto/x509"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// records are what connections need of a transaction of the registry.
type records interface {
	AddTemporaryKey(k registry.TemporaryKey) error
	Authorizer(name string) (registry.Authorizer, error)
	Authorizers(after string, n int) (page []registry.Authorizer, next string, err error)
	AutoRegister(cert *x509.Certificate) (registry.Certificate, error)
	CertificateThings(certificate string) []string
	DefaultAuthorizer() string
	PolicyDocument(name string, number int) ([]byte, error)
	RoleAlias(name string) (registry.RoleAlias, error)
	StoreRegistered(c *registry.Certificate) error
	TemporaryKey(id string) (registry.TemporaryKey, error)
	ThingCertificates(thing string) []string
}

// view runs f on the registry as it stands.
func view(r registry.Viewer, f func(records) error) error {
	return r.View(func(tx *registry.Tx) error { return f(tx) })
}

// update makes what f changes durable, with a record of it in the audit log.
func update(ctx context.Context, r registry.Store, f func(records) error) error {
	return audit.Update(ctx, r, func(tx *registry.Tx) error { return f(tx) })
}
