package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// autoRegister registers an unknown certificate, if a CA that registers by itself
// has signed it. If the CA has a template, the device is provisioned by it and may
// connect at once. Otherwise the certificate is PENDING_ACTIVATION, which is told,
// and the connection is refused all the same: somebody has to activate it. Most
// unknown certificates are nobody's device, so nothing is written before the CA is
// found.
func (a *Authorizer) autoRegister(cert *x509.Certificate, by *gateway.Connect) (registered, provisioned bool,
	err error) {
	err = view(a.o.Registry, func(tx records) error {
		_, err := tx.AutoRegister(cert)
		return err
	})
	if errors.Is(err, registry.ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	ctx := firstConnection(cert, by, "RegisterThing")
	switch _, err := a.o.Provision.FirstConnection(ctx, cert); {
	case err == nil, errors.Is(err, registry.ErrExists): // by another connection
		return true, true, nil
	case errors.Is(err, provision.ErrNoTemplate):
	default:
		// Nothing has changed, so that the device comes in once somebody has
		// mended the template, or what it refers to.
		a.o.Refusals.FirstConnection(cert, err)
		return false, false, nil
	}
	var c registry.Certificate
	ctx = firstConnection(cert, by, "RegisterCertificate")
	err = update(ctx, a.o.Registry, func(tx records) (err error) {
		if c, err = tx.AutoRegister(cert); err != nil {
			return err
		}
		return tx.StoreRegistered(&c)
	})
	switch {
	case errors.Is(err, registry.ErrExists): // by another connection
		return true, false, nil
	// revoked by its CA; or the CA is gone
	case errors.Is(err, registry.ErrConflict), errors.Is(err, registry.ErrNotFound):
		return false, false, nil
	case err != nil:
		return false, false, fmt.Errorf("register by first connection: %w", err)
	}
	a.o.Log.Info("a certificate was registered by its first connection", "certificate", c.ID, "ca", c.CA)
	return true, false, nil
}

// firstConnection is the context of what a first connection changes.
func firstConnection(cert *x509.Certificate, by *gateway.Connect, action string) context.Context {
	r := audit.Record{Source: audit.SourceFirstConnection, Action: action, Who: pki.Fingerprint(cert.Raw),
		Client: by.ClientID, Target: "certificates/" + pki.Fingerprint(cert.Raw)}
	if by.Remote != nil {
		r.From = by.Remote.String()
	}
	return audit.With(context.Background(), &audit.Change{Record: r})
}
