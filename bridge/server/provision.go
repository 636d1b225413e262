package server

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// newProvision makes the service that provisions devices. What expired while the
// bridge was away is forgotten before anybody can connect with it.
func (s *Server) newProvision() (*provision.Service, error) {
	var all []provision.Hook
	for _, h := range s.cfg.Hooks {
		all = append(all, provision.Hook(h))
	}
	hooks := provision.NewHooks(all, s.webhooks.report("hook"))
	s.closers = append(s.closers, func() error { hooks.Close(); return nil })
	p := provision.New(provision.Options{Registry: s.registry, Issuer: s.pki, Hooks: hooks, Log: s.log, ARN: s.arn, Refused: s.refusals.Provisioning})
	return p, errors.Join(p.Sweep(), p.TightenClaims())
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
