package server

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/aws"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// openAccess makes what knows who a client is and what it may do.
func (s *Server) openAccess() (err error) {
	s.custom, err = access.OpenCustomAuthorizers(s.cfg.Authorizers, s.cfg.Hooks, s.registry, s.webhooks.report("authorizer"), s.log)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { s.custom.Close(); return nil })
	s.authorizer = access.New(access.Options{Account: s.cfg.Account, Region: s.cfg.Region, Permissive: s.cfg.HTTPS.Permissive, Registry: s.registry,
		Issuer: s.pki, Keys: s.keys, Custom: s.custom, Provision: s.provision, Refusals: s.refusals, SameOrigin: listen.SameOrigin,
		Authenticated: func(r *http.Request, owner string) {
			if p := listen.SlotOf(r); p != nil {
				p.Authenticated(owner)
			}
		}, Log: s.log})
	return nil
}

// openKeyring reads the keys of the data directory, and [[access]] by reread.
func (s *Server) openKeyring(reread func() (*config.Config, error)) (err error) {
	configured := func() ([]config.Access, error) { return s.cfg.Access, nil }
	if reread != nil {
		configured = func() ([]config.Access, error) {
			c, err := reread()
			if err != nil {
				return nil, errors.Join(errors.New("keys and [[access]] stay as they are"), err)
			}
			return c.Access, nil
		}
	}
	s.keys, err = access.OpenKeyring(access.KeyringOptions{PKI: s.pki, Dir: filepath.Join(s.cfg.DataDir, "pki"), Permissive: s.cfg.HTTPS.Permissive, Older: s.dir.New(),
		Configured: configured, Log: s.log})
	return err
}

// keyCaller is what an access key may do, for the AWS APIs.
func (s *Server) keyCaller(r *http.Request, id string) aws.Key { return s.authorizer.Key(r, id) }

// unsigned says who sent a request that is not signed, for the AWS APIs.
func (s *Server) unsigned(r *http.Request) (aws.Caller, error) {
	c, err := s.authorizer.Unsigned(r)
	if errors.Is(err, access.ErrForbidden) {
		err = fmt.Errorf("%w: %w", wire.ErrDenied, err)
	}
	return c, err
}

// registryChanged is called within registry.Update, once for each event, so what
// may take long is left to others.
func (s *Server) registryChanged(e registry.Event) {
	switch e.Kind {
	case registry.ChangeStored:
		s.registryEvents.Wake()
	case registry.AuthorizerChanged:
		s.custom.Load()
	default:
		s.revoker.Changed()
	}
}
