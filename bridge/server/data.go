package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/iotdata"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/service"
)

// dataPlane is AWS IoT's, over HTTPS. It implements iotdata.Data.
type dataPlane struct{ r *router }

// Publish implements iotdata.Data: the message takes the way of those that come by
// MQTT.
func (d dataPlane) Publish(ctx context.Context, who wire.Caller, may func(topic string) bool,
	m *message.Message) error {
	m.Principal = who.Principal()
	if m.Retain {
		m.Owner = who.Owner()
	}
	switch err := d.r.gateway.Check(m); {
	case errors.Is(err, gateway.ErrNotAuthorized):
		return wire.ErrDenied
	case errors.Is(err, gateway.ErrQuota):
		return &wire.Error{Code: "ThrottlingException", Status: http.StatusTooManyRequests, Message: err.Error()}
	case errors.Is(err, packet.ErrTooLarge):
		return &wire.Error{Code: "RequestEntityTooLargeException", Status: http.StatusRequestEntityTooLarge,
			Message: err.Error()}
	case err != nil:
		return &wire.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest, Message: err.Error()}
	}
	if d.r.broker != nil {
		return d.r.broker.publishByHTTPS(ctx, m)
	}
	if m.Topic == telemetry.Topic {
		thing, rights, err := thingOf(who)
		if err != nil {
			return err
		}
		m.Thing, may = thing, func(topic string) bool { return rights.MayPublish(topic, false) }
		if wait := d.r.ingest.Wait(m.Thing); wait > 0 {
			return &wire.Error{Code: "ThrottlingException", Status: http.StatusTooManyRequests,
				Message: fmt.Sprintf("thing %s is over mqtt.max_thing_rate or max_thing_bytes for %v more", m.Thing,
					wait.Round(time.Millisecond))}
		}
	}
	answer := make(chan error, 1)
	of, _ := topic.Lookup(m.Topic)
	d.r.publish(m, of, nil, may, func(err error) { answer <- err })
	select {
	case err := <-answer:
		if refused, ok := errors.AsType[*telemetry.Refused](err); ok {
			return &wire.Error{Code: "ForbiddenException", Status: http.StatusForbidden, Message: refused.Error() +
				"; the rest is stored, do not send it again"}
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// thingOf returns the one thing that a batch's sender is, and its rights: by HTTPS
// there is no client id that would name it.
func thingOf(who wire.Caller) (thing string, rights gateway.Session, err error) {
	if c, ok := who.(interface {
		AsThing() (string, gateway.Session, error)
	}); ok {
		thing, rights, err = c.AsThing()
	}
	if err == nil && rights == nil {
		err = &wire.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest,
			Message: "a batch does not say whose it is: send it with a client certificate that is attached to one thing, or by MQTT"}
	}
	return thing, rights, err
}

// Retained implements iotdata.Data.
func (d dataPlane) Retained(topic string) (*iotdata.Retained, error) {
	m, at, ok := d.r.gateway.Retained().Get(topic)
	if !ok {
		return nil, nil
	}
	r := &iotdata.Retained{Topic: m.Topic, Payload: m.Payload, Size: len(m.Payload), QoS: m.QoS, At: at}
	packet.Each(m.Properties, func(id packet.Property, name, value []byte) bool {
		if id == packet.UserProperty {
			r.User = append(r.User, [2]string{string(name), string(value)})
		}
		return true
	})
	return r, nil
}

// ListRetained implements iotdata.Data.
func (d dataPlane) ListRetained(after string, n int) (page []iotdata.Retained, next string, err error) {
	d.r.gateway.Retained().List(after, func(m *message.Message, at time.Time) bool {
		if len(page) == n {
			next = page[n-1].Topic
			return false
		}
		page = append(page, iotdata.Retained{Topic: m.Topic, Size: len(m.Payload), QoS: m.QoS, At: at})
		return true
	})
	return page, next, nil
}

// Shadow implements iotdata.Data.
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

// ListShadows implements iotdata.Data.
func (d dataPlane) ListShadows(thing, token string, size int) ([]string, string, error) {
	if d.r.broker != nil && !d.r.broker.shadows {
		return nil, "", errOtherShadows
	}
	return d.r.shadow.List(thing, token, size)
}
