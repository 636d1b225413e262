package server

import (
	"errors"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/provision"
)

// openProvision makes the service that provisions devices. What expired while the
// bridge was away is forgotten before anybody can connect with it.
func (a *assembly) openProvision() error {
	var all []provision.Hook
	for _, h := range a.cfg.Hooks {
		all = append(all, provision.Hook(h))
	}
	hooks := provision.NewHooks(all, a.ownFunctions(), a.webhooks.report("hook"))
	a.closes(func() error { hooks.Close(); return nil })
	a.provision = provision.New(provision.Options{Registry: a.registry, Issuer: a.pki, Hooks: hooks, Log: a.log,
		ARN: a.arn, Refused: a.provisioningRefused})
	return errors.Join(a.provision.Sweep(), a.provision.TightenClaims())
}

// arn is the ARN of a resource of AWS IoT, which is called kind/name.
func (s *Server) arn(resource string) string {
	return arn.IoT(s.cfg.Region, s.cfg.Account, resource)
}
