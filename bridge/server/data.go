package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/aws"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/service"
)

// dataPlane is AWS IoT's, over HTTPS. It implements aws.Data.
type dataPlane struct{ r *router }

// Publish implements aws.Data: the message takes the way of those that come by
// MQTT.
func (d dataPlane) Publish(ctx context.Context, who aws.Caller, m *aws.Message) error {
	now := time.Now()
	out := &gateway.Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: properties(m)}
	if m.Retain {
		out.Owner = who.Owner()
	}
	switch err := d.r.gateway.Check(out); {
	case errors.Is(err, gateway.ErrNotAuthorized):
		return aws.ErrForbidden
	case errors.Is(err, gateway.ErrQuota):
		return &aws.Error{Code: "ThrottlingException", Status: http.StatusTooManyRequests, Message: err.Error()}
	case errors.Is(err, packet.ErrTooLarge):
		return &aws.Error{Code: "RequestEntityTooLargeException", Status: http.StatusRequestEntityTooLarge, Message: err.Error()}
	case err != nil:
		return &aws.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest, Message: err.Error()}
	}
	if d.r.broker != nil {
		return d.r.broker.publishByHTTPS(ctx, m)
	}
	msg := &ingest.Message{
		Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: out.Properties, Owner: out.Owner,
		Principal: who.Principal(), SourceIP: addressOf(m.Remote), Protocol: "http", Time: now.UnixMilli(),
	}
	if m.Expiry > 0 {
		msg.Expires = now.Add(m.Expiry).UnixMilli()
	}
	may := func(topic string) bool { return who.May(authz.Publish, topic) }
	if m.Topic == telemetry.Topic {
		thing, err := thingOf(who)
		if err != nil {
			return err
		}
		msg.Thing, may = thing.clientID, func(topic string) bool { return thing.MayPublish(topic, false) }
		if wait := d.r.ingest.Wait(msg.Thing); wait > 0 {
			return &aws.Error{Code: "ThrottlingException", Status: http.StatusTooManyRequests,
				Message: fmt.Sprintf("thing %s is over mqtt.max_thing_rate or max_thing_bytes for %v more", msg.Thing, wait.Round(time.Millisecond))}
		}
	}
	answer := make(chan error, 1)
	of, _ := topic.Lookup(m.Topic)
	d.r.publish(msg, of, may, func(err error) { answer <- err })
	select {
	case err := <-answer:
		if refused, ok := errors.AsType[*telemetry.Refused](err); ok {
			return &aws.Error{Code: aws.ErrForbidden.Code, Status: aws.ErrForbidden.Status, Message: refused.Error() + "; the rest is stored, do not send it again"}
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// thingOf returns the rights of the one thing that a batch's certificate is
// attached to, as if the thing was connected: by HTTPS there is no client id that
// would name it.
func thingOf(who aws.Caller) (*session, error) {
	h, ok := who.(holder)
	var things []string
	if ok {
		err := h.a.registry.View(func(tx *registry.Tx) error {
			things = tx.CertificateThings(h.id)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(things) != 1 {
		return nil, &aws.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest,
			Message: "a batch does not say whose it is: send it with a client certificate that is attached to one thing, or by MQTT"}
	}
	thing := &session{a: h.a, id: h.id, clientID: things[0], known: h.known}
	_, err := thing.read()
	return thing, err
}

// properties are those of MQTT 5, as on the wire.
func properties(m *aws.Message) (b []byte) {
	if m.UTF8 {
		b = packet.AppendNumber(b, packet.PayloadFormat, 1)
	}
	if m.ContentType != "" {
		b = packet.AppendText(b, packet.ContentType, m.ContentType)
	}
	if m.ResponseTopic != "" {
		b = packet.AppendText(b, packet.ResponseTopic, m.ResponseTopic)
	}
	if len(m.CorrelationData) > 0 {
		b = packet.AppendText(b, packet.CorrelationData, m.CorrelationData)
	}
	for _, p := range m.User {
		b = packet.AppendUser(b, p[0], p[1])
	}
	return b
}

// Retained implements aws.Data.
func (d dataPlane) Retained(topic string) (*aws.Retained, error) {
	m, at, ok := d.r.gateway.Retained().Get(topic)
	if !ok {
		return nil, nil
	}
	r := &aws.Retained{Topic: m.Topic, Payload: m.Payload, Size: len(m.Payload), QoS: m.QoS, At: at}
	packet.Each(m.Properties, func(id packet.Property, name, value []byte) bool {
		if id == packet.UserProperty {
			r.User = append(r.User, [2]string{string(name), string(value)})
		}
		return true
	})
	return r, nil
}

// ListRetained implements aws.Data.
func (d dataPlane) ListRetained(after string, n int) (page []aws.Retained, next string, err error) {
	d.r.gateway.Retained().List(after, func(m *gateway.Message, at time.Time) bool {
		if len(page) == n {
			next = page[n-1].Topic
			return false
		}
		page = append(page, aws.Retained{Topic: m.Topic, Size: len(m.Payload), QoS: m.QoS, At: at})
		return true
	})
	return page, next, nil
}

// Shadow implements aws.Data.
func (d dataPlane) Shadow(ctx context.Context, thing, name string, op shadow.Op, payload []byte) ([]byte, error) {
	if d.r.broker != nil && !d.r.broker.shadows {
		return nil, errOtherShadows
	}
	if err := d.thingIsThere(thing); err != nil {
		return nil, err
	}
	doc, err := d.r.shadow.Do(ctx, thing, name, op, payload)
	if errors.Is(err, service.ErrClosed) {
		return nil, context.Canceled // the bridge stops
	}
	return doc, err
}

// thingIsThere returns shadow.ErrThing if the registry does not have the thing.
// With a broker it need not have those of devices.
func (d dataPlane) thingIsThere(thing string) error {
	if d.r.broker != nil {
		return nil
	}
	err := d.r.registry.View(func(tx *registry.Tx) error { _, err := tx.Thing(thing); return err })
	if errors.Is(err, registry.ErrNotFound) {
		return shadow.ErrThing
	}
	return err
}

// ListShadows implements aws.Data.
func (d dataPlane) ListShadows(thing, token string, size int) ([]string, string, error) {
	if d.r.broker != nil && !d.r.broker.shadows {
		return nil, "", errOtherShadows
	}
	return d.r.shadow.List(thing, token, size)
}

// A peer is the other end of a connection that carries HTTP.
type peer struct {
	mu     sync.Mutex  // guards what follows
	holder *session    // by its certificate; nil: not asked for yet
	last   *remembered // that an authorizer let in; nil: none
}

// peerKey is that of a connection's *peer in the context of its requests.
type peerKey struct{}

// withPeer makes the context of a connection's requests.
func withPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, new(peer))
}

// peerOf is the other end of a request's connection.
func peerOf(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p
	}
	return new(peer)
}

// certificate is what a client showed in the TLS handshake, nil for none.
func certificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// caller is the holder of the connection's certificate, nil for none. Its
// rights follow the registry, as those of MQTT connections do.
func (p *peer) caller(a *authorizer, r *http.Request) (aws.Caller, error) {
	cert := certificate(r)
	if cert == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holder == nil {
		s := &session{a: a, id: pki.Fingerprint(cert.Raw)}
		s.known = authz.Context{Account: a.cfg.Account, Region: a.cfg.Region, Certificate: authz.NewCertificate(s.id, cert), SourceIP: addressOf(r.RemoteAddr)}
		if _, err := s.read(); err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
		p.holder = s
	}
	if p.holder.judge().policy == nil {
		return nil, aws.ErrForbidden
	}
	return holder{p.holder}, nil
}

// A holder of a certificate asks by HTTPS. It implements aws.Caller.
type holder struct{ *session }

// May implements aws.Caller.
func (h holder) May(action, resource string) bool { return h.may(action, resource) }

// callerOf says who sent a request that is not signed, nil for nobody: whom an
// authorizer knows that the client names, the holder of a certificate, or whom
// the default authorizer knows.
func (s *Server) callerOf(r *http.Request) (aws.Caller, error) {
	if s.authorizer.custom.Any() && (certificate(r) == nil || attemptOf(r).Named()) {
		return s.guestOf(r)
	}
	if certificate(r) != nil && !listen.SameOrigin(r) {
		return nil, fmt.Errorf("%w: %w", aws.ErrForbidden, errOrigin)
	}
	return peerOf(r).caller(s.authorizer, r)
}

// addressOf is a remote address without its port, "" if it is none.
func addressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return ""
	}
	return host
}

// keyCaller is what an access key may do.
func (s *Server) keyCaller(r *http.Request, id string) aws.Key {
	return s.authorizer.key(id, authz.Context{SourceIP: addressOf(r.RemoteAddr), Insecure: r.TLS == nil})
}
