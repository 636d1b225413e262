package server

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// openProvision makes the service that provisions devices. What expired while the
// bridge was away is forgotten before anybody can connect with it.
func (a *assembly) openProvision() error {
	var all []provision.Hook
	for _, h := range a.cfg.Hooks {
		all = append(all, provision.Hook(h))
	}
	hooks := provision.NewHooks(all, a.webhooks.report("hook"))
	a.closes(func() error { hooks.Close(); return nil })
	a.provision = provision.New(provision.Options{Registry: a.registry, Issuer: a.pki, Hooks: hooks, Log: a.log,
		ARN: a.arn, Refused: a.refusals.Provisioning})
	return errors.Join(a.provision.Sweep(), a.provision.TightenClaims())
}

// arn is the ARN of a resource of AWS IoT, which is called kind/name.
func (s *Server) arn(resource string) string {
	return "arn:aws:iot:" + s.cfg.Region + ":" + s.cfg.Account + ":" + resource
}

// private answers a message that concerns its client and the bridge alone: it
// goes neither to the log nor to rules nor to other subscribers, since it, or its
// answer, holds keys and tokens. It may take as long as a pre-provisioning hook,
// for which that client is not read.
func (r *router) private(p gateway.Publish) {
	m, c := p.Message, p.Client
	q := &provision.Request{Topic: m.Topic, Payload: m.Payload, ClientID: c.ID()}
	if s, ok := c.Session().(interface{ Certificate() string }); ok { // others have none
		q.Principal = s.Certificate()
	}
	topic, payload := r.provision.Handle(context.Background(), q)
	r.gateway.Answer(c, &message.Message{Topic: topic, Payload: payload})
	b := r.store.NewBatch()
	if p.Stage(b); b.Bytes() == 0 {
		p.Done(nil)
		return
	}
	p.Done(r.store.Commit(context.Background(), b))
}
