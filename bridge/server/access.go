package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/aws"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// openAccess makes what knows who a client is and what it may do.
func (a *assembly) openAccess() (err error) {
	report := a.webhooks.report("authorizer")
	a.custom, err = access.OpenCustomAuthorizers(a.cfg.Authorizers, a.cfg.Hooks, a.ownFunctions(), a.registry, report,
		a.log)
	if err != nil {
		return err
	}
	a.closes(func() error { a.custom.Close(); return nil })
	var functions *access.FunctionKeys
	if a.functions != nil {
		functions = a.functions.keys
	}
	a.authorizer = access.New(access.Options{
		Functions: functions,
		Account:   a.cfg.Account, Region: a.cfg.Region, Permissive: a.cfg.HTTPS.Permissive,
		Registry: a.registry, Issuer: a.pki, Keys: a.keys, People: a.people, Custom: a.custom, Provision: a.provision,
		Refusals: a.refusals, SignIns: a.auditRefusals, SameOrigin: listen.SameOrigin, Log: a.log,
		Authenticated: func(r *http.Request, owner string) {
			if p := listen.SlotOf(r); p != nil {
				p.Authenticated(owner)
			}
		},
	})
	return nil
}

// openKeyring reads the keys of the data directory, and [[access]].
func (a *assembly) openKeyring() (err error) {
	configured := func() ([]config.Access, error) { return a.cfg.Access, nil }
	if a.reread != nil {
		configured = func() ([]config.Access, error) {
			c, err := a.reread()
			if err != nil {
				return nil, errors.Join(errors.New("keys and [[access]] stay as they are"), err)
			}
			return c.Access, nil
		}
	}
	a.keys, err = access.OpenKeyring(access.KeyringOptions{
		PKI: a.pki, Dir: a.at("pki"), Permissive: a.cfg.HTTPS.Permissive, Older: a.dir.New(), Configured: configured,
		Stored: a.people.Owner, Log: a.log,
	})
	return err
}

// keysOf are what access keys may do, for the AWS APIs.
func keysOf(a *access.Authorizer) func(*http.Request, string) aws.Key {
	return func(r *http.Request, id string) aws.Key { return a.Key(r, id) }
}

// unsignedOf says who sent a request that is not signed, for the AWS APIs.
func unsignedOf(a *access.Authorizer) func(*http.Request) (aws.Caller, error) {
	return func(r *http.Request) (aws.Caller, error) {
		c, err := a.Unsigned(r)
		if errors.Is(err, access.ErrForbidden) {
			err = fmt.Errorf("%w: %w", wire.ErrDenied, err)
		}
		return c, err
	}
}

// registryChanged is called within registry.Update, once for each event, so what
// may take long is left to others.
func (s *Server) registryChanged(e registry.Event) {
	switch e.Kind {
	case registry.ChangeStored:
		s.registryEvents.Wake()
	case registry.RecordKept:
		s.auditMover.Wake()
	case registry.AuthorizerChanged:
		s.custom.Changed()
	default:
		s.revoker.Changed()
	}
}
